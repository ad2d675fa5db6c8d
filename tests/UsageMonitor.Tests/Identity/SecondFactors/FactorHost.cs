using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using OtpNet;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SecondFactors;

/// <summary>A database and a server whose clock the tests turn, for the tests of a class.</summary>
public sealed class FactorFixture(Engines engines) : IAsyncLifetime
{
    /// <summary>Where people see it: passkeys are made for this address, whatever address a request came to.</summary>
    internal const string PublicUrl = "https://usage.example";

    internal FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 11, 23, 12, 0, 0, TimeSpan.Zero));

    internal TestDatabase Database { get; private set; } = null!;

    internal IdentityHost Host { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Database = await engines.CloneAsync();
        // A mail server that nobody is: mails stay in the outbox, where the tests read them.
        Host = await IdentityHost.StartAsync(
            Database,
            Time,
            ("PublicUrl", PublicUrl),
            ("Smtp:Host", "127.0.0.1"),
            ("Smtp:Port", "1"),
            ("Smtp:Security", "None"),
            ("Smtp:From", "usage-monitor@example.com")
        );
    }

    public async ValueTask DisposeAsync()
    {
        await Host.DisposeAsync();
        await Database.DisposeAsync();
    }

    /// <summary>A new enterprise with its admin signed in by the password.</summary>
    internal async Task<FactorPerson> NewPersonAsync() => new(this, await Host.CreateEnterpriseAsync());

    /// <summary>Whether the enterprise asks for a second factor.</summary>
    internal Task RequireAsync(Guid enterpriseId, bool required = true) =>
        RequireAsync(Host, Database, enterpriseId, required);

    internal static async Task RequireAsync(IdentityHost host, TestDatabase database, Guid enterpriseId, bool required)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using ScopedTransaction own = await database.Database.OpenEnterpriseAsync(
            enterpriseId,
            cancellationToken
        );
        await own.ExecuteAsync(
            "UPDATE enterprises SET second_factor_required = $2 WHERE enterprise_id = $1",
            [enterpriseId, required],
            cancellationToken
        );
        await host.Services.GetRequiredService<IdentityVersion>().CommitAsync(own, cancellationToken);
    }

    /// <summary>Another person of the enterprise, signed in; the answer is their id and token.</summary>
    internal async Task<(Guid UserId, string Token)> AddColleagueAsync(Guid enterpriseId, string role)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        IServiceProvider services = Host.Services;
        EnterpriseInfo enterprise = (
            await services.GetRequiredService<EnterpriseDirectory>().FindAsync(enterpriseId, cancellationToken)
        )!;
        string email = $"colleague-{Guid.NewGuid():N}@example.com";
        string hash = services.GetRequiredService<Passwords>().Hash(IdentityHost.AdminPassword);
        await using ScopedTransaction own = await Database.Database.OpenEnterpriseAsync(
            enterpriseId,
            cancellationToken
        );
        Guid userId = await services
            .GetRequiredService<Users>()
            .AddAsync(
                own,
                enterpriseId,
                enterprise.DataKey,
                new NewPerson(email, null, hash, [role]),
                cancellationToken
            );
        await own.CommitAsync(cancellationToken);
        return (userId, (await Host.LoginAsync(email, IdentityHost.AdminPassword)).AccessToken);
    }

    /// <summary>The subjects of the mails to an enterprise's people, oldest first.</summary>
    internal async Task<List<string>> MailsAsync(Guid enterpriseId)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        EnterpriseInfo enterprise = (
            await Host.Services.GetRequiredService<EnterpriseDirectory>().FindAsync(enterpriseId, cancellationToken)
        )!;
        await using ScopedTransaction own = await Database.Database.OpenEnterpriseAsync(
            enterpriseId,
            cancellationToken
        );
        await using NpgsqlCommand command = own.Command("SELECT mail_id, message FROM mail_outbox ORDER BY mail_id");
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        var subjects = new List<string>();
        while (await reader.ReadAsync(cancellationToken))
        {
            byte[] plain = Sealing.Open(
                enterprise.DataKey,
                reader.GetFieldValue<byte[]>(1),
                MailOutbox.Context(enterpriseId, reader.GetGuid(0))
            );
            subjects.Add(
                JsonSerializer
                    .Deserialize<MailMessage>(plain)!
                    .Subject.Replace("Usage Monitor: ", "", StringComparison.Ordinal)
            );
        }

        return subjects;
    }
}

/// <summary>What <c>second_factor_required</c> asks.</summary>
internal sealed record Asked(string Challenge, string[] Methods, JsonElement? PasskeyOptions);

/// <summary>A person of an enterprise of their own, with what their devices hold.</summary>
internal sealed class FactorPerson(FactorFixture fixture, LoginResponse signedIn)
{
    private byte[] _secret = [];

    public const string Factors = "/v1/me/second-factors";

    public Guid UserId => signedIn.User.UserId;

    public Guid EnterpriseId => signedIn.User.EnterpriseId!.Value;

    public string Email => signedIn.User.Email;

    /// <summary>The first session's.</summary>
    public string Token { get; set; } = signedIn.AccessToken;

    public IReadOnlyList<string> RecoveryCodes { get; private set; } = [];

    /// <summary>The code that the app shows, of this or a neighbouring step.</summary>
    public string Code(int stepsAhead = 0) =>
        new Totp(_secret).ComputeTotp(fixture.Time.GetUtcNow().AddSeconds(30 * stepsAhead).UtcDateTime);

    /// <summary>The next code: the clock moves on by a step, as no code is good twice.</summary>
    public string NextCode()
    {
        fixture.Time.Advance(TimeSpan.FromSeconds(30));
        return Code();
    }

    public Task<HttpResponseMessage> SendAsync(
        HttpMethod method,
        string path,
        object? body = null,
        string? token = null
    ) => fixture.Host.SendAsync(method, path, token ?? Token, body is null ? null : JsonContent.Create(body));

    public async Task<T> SendAsync<T>(HttpMethod method, string path, object? body = null, string? token = null)
    {
        using HttpResponseMessage response = await SendAsync(method, path, body, token);
        return await IdentityHost.ReadAsync<T>(response, HttpStatusCode.OK);
    }

    public async Task RefusedAsync(
        HttpMethod method,
        string path,
        object? body,
        int status,
        string code,
        string? token = null
    )
    {
        using HttpResponseMessage response = await SendAsync(method, path, body, token);
        await IdentityHost.AssertProblemAsync(response, status, code);
    }

    public async Task DoneAsync(HttpMethod method, string path, object? body = null, string? token = null)
    {
        using HttpResponseMessage response = await SendAsync(method, path, body, token);
        string text = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode == HttpStatusCode.NoContent, $"{response.StatusCode}: {text}");
    }

    public async Task BeginTotpAsync(string? token = null)
    {
        BeginTotpResponse begun = await SendAsync<BeginTotpResponse>(HttpMethod.Post, Factors + "/totp", null, token);
        Assert.Contains($"secret={begun.Secret}", begun.Uri, StringComparison.Ordinal);
        _secret = Base32Encoding.ToBytes(begun.Secret);
    }

    /// <summary>Sets an authenticator app up.</summary>
    public async Task AddTotpAsync(string? token = null)
    {
        await BeginTotpAsync(token);
        FactorAddedResponse added = await SendAsync<FactorAddedResponse>(
            HttpMethod.Post,
            Factors + "/totp/confirm",
            new ConfirmTotpRequest(NextCode()),
            token
        );
        RecoveryCodes = added.RecoveryCodes ?? RecoveryCodes;
    }

    public async Task<HttpResponseMessage> PasswordAsync(string password = IdentityHost.AdminPassword) =>
        await fixture.Host.PostAsync("/v1/auth/login", new LoginRequest(Email, password), null);

    /// <summary>The password's step, which must ask for a second factor.</summary>
    public async Task<Asked> AskedAsync()
    {
        using HttpResponseMessage response = await PasswordAsync();
        await IdentityHost.AssertProblemAsync(response, 401, "second_factor_required");
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        return JsonSerializer.Deserialize<Asked>(body, JsonSerializerOptions.Web)!;
    }

    public Task<HttpResponseMessage> AnswerAsync(SecondFactorRequest request) =>
        fixture.Host.PostAsync("/v1/auth/second-factor", request, null);

    public async Task AnswerRefusedAsync(SecondFactorRequest request, int status, string code)
    {
        using HttpResponseMessage response = await AnswerAsync(request);
        await IdentityHost.AssertProblemAsync(response, status, code);
    }

    public async Task<LoginResponse> AnsweredAsync(SecondFactorRequest request)
    {
        using HttpResponseMessage response = await AnswerAsync(request);
        return await IdentityHost.ReadAsync<LoginResponse>(response, HttpStatusCode.OK);
    }

    public Task<HttpStatusCode> StatusAsync(string path, string? token = null) =>
        fixture.Host.StatusAsync(HttpMethod.Get, path, token ?? Token);
}
