using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Access;

/// <summary>An enterprise over HTTP: its admin, and people with any roles who are signed in.</summary>
internal sealed class AccessTester
{
    private readonly RunningServer _server;

    private AccessTester(RunningServer server, Acme acme) => (_server, Acme) = (server, acme);

    public Acme Acme { get; }

    public Guid EnterpriseId => Acme.EnterpriseId;

    public string Admin => Acme.Admin.AccessToken;

    public static async Task<AccessTester> CreateAsync(RunningServer server) =>
        new(server, await Acme.CreateAsync(server));

    /// <summary>A person, as every way of making one makes them.</summary>
    public async Task<Person> AddPersonAsync(params string[] roles)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        string email = $"person-{Guid.NewGuid():N}@acme.example";
        EnterpriseInfo enterprise = await EnterpriseAsync();
        await using ScopedTransaction transaction = await _server
            .Services.GetRequiredService<Database>()
            .OpenEnterpriseAsync(EnterpriseId, cancellationToken);
        Guid userId = await _server
            .Services.GetRequiredService<Users>()
            .AddAsync(
                transaction,
                EnterpriseId,
                enterprise.DataKey,
                new NewPerson(email, "A person", null, roles),
                cancellationToken
            );
        await _server.Services.GetRequiredService<IdentityVersion>().CommitAsync(transaction, cancellationToken);
        return new Person(EnterpriseId, userId, email, roles);
    }

    /// <summary>Signs a person in, as single sign-on does.</summary>
    public async Task<IssuedTokens> SignInAsync(Person person) =>
        await _server
            .Services.GetRequiredService<Sessions>()
            .BeginAsync(
                person,
                new SignInProof(SignInProof.SingleSignOn, null),
                new SessionClient(null, null),
                TestContext.Current.CancellationToken
            );

    /// <summary>The token of somebody new with these roles.</summary>
    public async Task<string> TokenOfAsync(params string[] roles) =>
        (await SignInAsync(await AddPersonAsync(roles))).AccessToken;

    public Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, string? bearer, object? body = null) =>
        _server.SendAsync(method, path, bearer, body is null ? null : JsonContent.Create(body));

    public async Task<T> SendAsync<T>(
        HttpMethod method,
        string path,
        object? body = null,
        HttpStatusCode expected = HttpStatusCode.OK,
        string? bearer = null
    )
    {
        using HttpResponseMessage response = await SendAsync(method, path, bearer ?? Admin, body);
        return await RunningServer.ReadAsync<T>(response, expected);
    }

    public async Task<HttpStatusCode> StatusAsync(HttpMethod method, string path, string? bearer, object? body = null)
    {
        using HttpResponseMessage response = await SendAsync(method, path, bearer, body);
        return response.StatusCode;
    }

    /// <summary>What the token or key may do, or null: it is refused.</summary>
    public async Task<IReadOnlyList<string>?> PermissionsAsync(string bearer)
    {
        using HttpResponseMessage response = await SendAsync(HttpMethod.Get, "/v1/auth/validate", bearer);
        return response.StatusCode == HttpStatusCode.Unauthorized
            ? null
            : (await RunningServer.ReadAsync<ValidateResponse>(response, HttpStatusCode.OK)).Permissions;
    }

    public async Task AssertProblemAsync(
        HttpMethod method,
        string path,
        string bearer,
        object? body,
        int status,
        string code
    )
    {
        using HttpResponseMessage response = await SendAsync(method, path, bearer, body);
        await RunningServer.AssertProblemAsync(response, status, code);
    }

    /// <summary>A role of the enterprise's own.</summary>
    public Task<RoleSummary> CreateRoleAsync(string name, params string[] permissions) =>
        SendAsync<RoleSummary>(
            HttpMethod.Post,
            "/v1/admin/roles",
            new CreateRoleRequest(name, permissions),
            HttpStatusCode.Created
        );

    /// <summary>Gives a role behind the API, as the people's part does.</summary>
    public async Task GiveRoleAsync(Guid userId, string role)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using ScopedTransaction transaction = await _server
            .Services.GetRequiredService<Database>()
            .OpenEnterpriseAsync(EnterpriseId, cancellationToken);
        await transaction.ExecuteAsync(
            "INSERT INTO user_roles (enterprise_id, user_id, role_name) VALUES ($1, $2, $3)",
            [EnterpriseId, userId, role],
            cancellationToken
        );
        await _server.Services.GetRequiredService<IdentityVersion>().CommitAsync(transaction, cancellationToken);
    }

    /// <summary>Runs a statement in the enterprise's scope, and lets credentials notice.</summary>
    public async Task<int> ExecuteAsync(string sql, params object?[] parameters)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using ScopedTransaction transaction = await _server
            .Services.GetRequiredService<Database>()
            .OpenEnterpriseAsync(EnterpriseId, cancellationToken);
        int rows = await transaction.ExecuteAsync(sql, parameters, cancellationToken);
        await _server.Services.GetRequiredService<IdentityVersion>().CommitAsync(transaction, cancellationToken);
        return rows;
    }

    public async Task<EnterpriseInfo> EnterpriseAsync() =>
        (
            await _server
                .Services.GetRequiredService<EnterpriseDirectory>()
                .FindAsync(EnterpriseId, TestContext.Current.CancellationToken)
        )!;

    public static JsonElement Json(string text) => JsonDocument.Parse(text).RootElement;
}
