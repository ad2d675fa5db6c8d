using System.Net;
using System.Net.Http.Json;
using UsageMonitor.Contracts;
using Xunit;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>An enterprise with its admin signed in and an API key, made over HTTP.</summary>
internal sealed class Acme
{
    public const string AdminPassword = "an admin's long password";
    private readonly RunningServer _server;

    private Acme(RunningServer server, Guid enterpriseId, LoginResponse admin)
    {
        (_server, EnterpriseId, Admin) = (server, enterpriseId, admin);
    }

    public Guid EnterpriseId { get; }

    public LoginResponse Admin { get; }

    /// <summary>A key with every scope.</summary>
    public string ApiKey { get; private set; } = "";

    public static async Task<Acme> CreateAsync(RunningServer server, string timeZone = "Asia/Kolkata")
    {
        string email = $"admin-{Guid.NewGuid():N}@acme.example";
        using HttpResponseMessage response = await server.SendAsync(
            HttpMethod.Post,
            "/v1/platform/enterprises",
            (await server.LoginOperatorAsync()).AccessToken,
            JsonContent.Create(new CreateEnterpriseRequest("Acme", timeZone, email, AdminPassword))
        );
        CreateEnterpriseResponse created = await RunningServer.ReadAsync<CreateEnterpriseResponse>(
            response,
            HttpStatusCode.Created
        );
        var acme = new Acme(server, created.EnterpriseId, await server.LoginAsync(email, AdminPassword));
        acme.ApiKey = await acme.CreateKeyAsync("usage:write", "usage:backfill", "usage:read");
        return acme;
    }

    public async Task<string> CreateKeyAsync(params string[] scopes)
    {
        using HttpResponseMessage response = await _server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/api-keys",
            Admin.AccessToken,
            JsonContent.Create(new CreateApiKeyRequest("a key", scopes))
        );
        return (await RunningServer.ReadAsync<CreateApiKeyResponse>(response, HttpStatusCode.Created)).ApiKey;
    }

    public Task<HttpResponseMessage> PostAsync(HttpContent content, string? key = null) =>
        _server.SendAsync(HttpMethod.Post, "/v1/usage/events", key ?? ApiKey, content);

    /// <summary>Sends events, all of which must be accepted.</summary>
    public async Task SendAsync(params UsageEvent[] events)
    {
        using HttpResponseMessage response = await PostAsync(JsonContent.Create(events));
        IngestResponse answer = await RunningServer.ReadAsync<IngestResponse>(response, HttpStatusCode.Accepted);
        Assert.Equal((events.Length, events.Length), (answer.Received, answer.Accepted));
    }

    public async Task<T> GetAsync<T>(string path)
    {
        using HttpResponseMessage response = await _server.SendAsync(HttpMethod.Get, path, ApiKey);
        return await RunningServer.ReadAsync<T>(response, HttpStatusCode.OK);
    }

    public async Task<LedgerCounts> LedgerAsync() => (await GetAsync<LedgerResponse>("/v1/admin/usage/ledger")).Total;

    /// <summary>Waits until everything accepted so far is stored and counted.</summary>
    public Task ProcessedAsync() =>
        Eventually.TrueAsync(async () => (await LedgerAsync()).Pending == 0, "nothing is pending");
}
