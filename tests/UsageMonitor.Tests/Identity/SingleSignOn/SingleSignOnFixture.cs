using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>A server that may ask providers on loopback, over http.</summary>
public sealed class SingleSignOnFixture(Engines engines) : IAsyncLifetime
{
    internal RunningServer Server { get; private set; } = null!;

    /// <summary>A provider for the tests of a class, which run one after another; <see cref="OpenIdProvider.Reset"/> it first.</summary>
    internal OpenIdProvider Provider { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Provider = await OpenIdProvider.StartAsync();
        Server = await RunningServer.StartAsync(
            engines,
            ("SingleSignOn:AllowInsecureIssuers", "true"),
            ("SingleSignOn:AllowPrivateIssuers", "true")
        );
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        await Provider.DisposeAsync();
    }
}

/// <summary>An enterprise that signs in by a provider.</summary>
internal sealed class SignOnEnterprise
{
    public const string Path = "/v1/admin/identity-providers";
    private readonly RunningServer _server;
    private readonly OpenIdProvider _provider;

    private SignOnEnterprise(RunningServer server, OpenIdProvider provider, Acme acme)
    {
        (_server, _provider, Acme) = (server, provider, acme);
        Domain = $"acme-{Guid.NewGuid():N}.example";
    }

    public Acme Acme { get; }

    /// <summary>A domain that nobody else has.</summary>
    public string Domain { get; }

    public Guid ProviderId { get; private set; }

    public static async Task<SignOnEnterprise> CreateAsync(
        RunningServer server,
        OpenIdProvider provider,
        Func<IdentityProviderRequest, IdentityProviderRequest>? with = null,
        string? role = null
    )
    {
        var enterprise = new SignOnEnterprise(server, provider, await Acme.CreateAsync(server));
        if (role is not null)
        {
            await enterprise.AddRoleAsync(role, Permissions.UsageRead);
        }

        IdentityProviderRequest request = enterprise.Request();
        using HttpResponseMessage response = await enterprise.SendAsync(
            HttpMethod.Post,
            "",
            with is null ? request : with(request)
        );
        IdentityProviderResponse made = await RunningServer.ReadAsync<IdentityProviderResponse>(
            response,
            HttpStatusCode.Created
        );
        enterprise.ProviderId = made.ProviderId;
        return enterprise;
    }

    public IdentityProviderRequest Request() =>
        new("Acme's provider", _provider.Issuer, OpenIdProvider.ClientId, OpenIdProvider.ClientSecret, [Domain]);

    /// <summary>A role of the enterprise's own.</summary>
    public Task AddRoleAsync(string role, params string[] permissions) =>
        ChangeAsync(
            """
            WITH made AS (
                INSERT INTO roles (enterprise_id, role_name, description, created_at, updated_at)
                VALUES ($1, $2, '', now(), now()) RETURNING enterprise_id, role_name)
            INSERT INTO role_permissions (enterprise_id, role_name, permission)
            SELECT enterprise_id, role_name, unnest($3) FROM made
            """,
            role,
            permissions
        );

    public string Address(string name) => $"{name}@{Domain}";

    public Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, object? body) =>
        _server.SendAsync(
            method,
            Path + path,
            Acme.Admin.AccessToken,
            body is null ? null : JsonContent.Create(body, body.GetType())
        );

    public async Task<IdentityProviderResponse> UpdateAsync(IdentityProviderRequest request)
    {
        using HttpResponseMessage response = await SendAsync(HttpMethod.Put, "/" + ProviderId, request);
        return await RunningServer.ReadAsync<IdentityProviderResponse>(response, HttpStatusCode.OK);
    }

    /// <summary>A person with an address of the domain who was there before the first sign-on.</summary>
    public async Task<Guid> AddPersonAsync(string email, string? password, params string[] roles)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        IServiceProvider services = _server.Services;
        EnterpriseInfo info = (
            await services.GetRequiredService<EnterpriseDirectory>().FindAsync(Acme.EnterpriseId, cancellationToken)
        )!;
        await using ScopedTransaction transaction = await services
            .GetRequiredService<Database>()
            .OpenEnterpriseAsync(Acme.EnterpriseId, cancellationToken);
        string? hash = password is null ? null : services.GetRequiredService<Passwords>().Hash(password);
        Guid userId = await services
            .GetRequiredService<Users>()
            .AddAsync(
                transaction,
                Acme.EnterpriseId,
                info.DataKey,
                new NewPerson(email, null, hash, roles),
                cancellationToken
            );
        await services.GetRequiredService<IdentityVersion>().CommitAsync(transaction, cancellationToken);
        return userId;
    }

    /// <summary>Changes something of the enterprise as the server would, so that every cache notices.</summary>
    public async Task ChangeAsync(string sql, params object[] parameters)
    {
        await SqlAsync(sql, parameters);
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using ScopedTransaction transaction = await _server
            .Services.GetRequiredService<Database>()
            .OpenEnterpriseAsync(Acme.EnterpriseId, cancellationToken);
        await _server.Services.GetRequiredService<IdentityVersion>().CommitAsync(transaction, cancellationToken);
    }

    public async Task<string[]> RolesAsync(Guid userId) =>
        (string[])
            (
                await SqlAsync(
                    "SELECT ARRAY(SELECT role_name FROM user_roles WHERE enterprise_id = $1 AND user_id = $2 ORDER BY 1)",
                    userId
                )
            )!;

    public async Task<long> PeopleAsync() =>
        (long)(await SqlAsync("SELECT count(*) FROM users WHERE enterprise_id = $1 AND email IS NOT NULL"))!;

    /// <summary>Looks and acts behind the walls.</summary>
    public async Task<object?> SqlAsync(string sql, params object[] parameters)
    {
        await using var connection = new NpgsqlConnection(_server.Database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        foreach (object parameter in (object[])[Acme.EnterpriseId, .. parameters])
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        object? found = await command.ExecuteScalarAsync(TestContext.Current.CancellationToken);
        return found is DBNull ? null : found;
    }
}
