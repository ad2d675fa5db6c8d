using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Anomalies;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>An enterprise with a row of everything; see <see cref="Tenants.CreateAsync"/>.</summary>
internal sealed record Tenant(Guid EnterpriseId, byte[] DataKey, string Marker, Person Admin)
{
    /// <summary>The admin's access token.</summary>
    public string AdminToken { get; init; } = "";

    /// <summary>An API key with every scope.</summary>
    public string ApiKey { get; init; } = "";

    /// <summary>
    /// What a path or a body can name, by the name of the column: <c>user_id</c> (not the admin), <c>admin_id</c>, <c>api_key_id</c>,
    /// <c>session_id</c> (the admin's second), <c>group_id</c>, <c>scim_group_id</c>, <c>role_name</c>, and one of every other table.
    /// </summary>
    public IReadOnlyDictionary<string, string> Ids { get; init; } = new Dictionary<string, string>();
}

/// <summary>
/// Makes enterprises, people, sessions and keys by the server's own services, without hashing passwords, and fills every other
/// table that has <c>enterprise_id</c> with a generated row.
/// </summary>
internal sealed class Tenants(IServiceProvider services, string ownerConnectionString)
{
    private const string TimeZone = "Asia/Kolkata";
    private static readonly SignInProof s_password = new(SignInProof.Password, null);
    private static readonly SessionClient s_client = new(null, null);
    private static int s_made;
    private RowGenerator? _rows;

    private Database Database => services.GetRequiredService<Database>();

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    /// <summary>An enterprise and its admin, signed in.</summary>
    public async Task<Tenant> CreateAsync(string role = RolePermissions.EnterpriseAdmin)
    {
        var enterpriseId = Guid.NewGuid();
        string marker = "planted" + Interlocked.Increment(ref s_made).ToString(CultureInfo.InvariantCulture) + "x";
        byte[] dataKey;
        await using (
            ScopedTransaction transaction = await Database.OpenEnterpriseAsync(enterpriseId, CancellationToken)
        )
        {
            dataKey = await services
                .GetRequiredService<Enterprises>()
                .InsertAsync(transaction, enterpriseId, $"The {marker} company", TimeZone, CancellationToken);
            await transaction.CommitAsync(CancellationToken);
        }

        Person admin = await AddPersonAsync(enterpriseId, dataKey, marker, role);
        return new Tenant(enterpriseId, dataKey, marker, admin)
        {
            AdminToken = await SignInAsync(admin),
            ApiKey = await AddApiKeyAsync(enterpriseId, [.. RolePermissions.Scopes]),
        };
    }

    /// <summary>An enterprise with a row in every table that has <c>enterprise_id</c>.</summary>
    public async Task<Tenant> CreateFullAsync()
    {
        Tenant tenant = await CreateAsync();
        Person member = await AddPersonAsync(
            tenant.EnterpriseId,
            tenant.DataKey,
            tenant.Marker,
            RolePermissions.Analyst
        );
        var groupId = Guid.NewGuid();
        string role = tenant.Marker + "-role";
        string group = tenant.Marker + "-group";
        await ExecuteAsync(
            tenant.EnterpriseId,
            "INSERT INTO roles VALUES ($1, $2, $3, now(), now())",
            role,
            $"What {tenant.Marker} does"
        );
        string spare = tenant.Marker + "-spare";
        await ExecuteAsync(tenant.EnterpriseId, "INSERT INTO roles VALUES ($1, $2, '', now(), now())", spare);
        await ExecuteAsync(
            tenant.EnterpriseId,
            "INSERT INTO groups (enterprise_id, group_id, group_name, created_at, updated_at) VALUES ($1, $2, $3, now(), now())",
            groupId,
            group
        );
        await ExecuteAsync(
            tenant.EnterpriseId,
            "INSERT INTO group_members VALUES ($1, $2, $3)",
            groupId,
            member.UserId
        );
        await ExecuteAsync(tenant.EnterpriseId, "INSERT INTO group_roles VALUES ($1, $2, $3)", groupId, role);
        var provisionedId = Guid.NewGuid();
        await ExecuteAsync(
            tenant.EnterpriseId,
            "INSERT INTO groups (enterprise_id, group_id, group_name, origin, created_at, updated_at) "
                + "VALUES ($1, $2, $3, 'SCIM', now(), now())",
            provisionedId,
            tenant.Marker + "-provisioned"
        );
        _rows ??= await RowGenerator.LoadAsync(ownerConnectionString, CancellationToken);
        var ids = new Dictionary<string, string>(
            await _rows.FillAsync(tenant.EnterpriseId, tenant.Marker, optional: false, CancellationToken)
        )
        {
            ["user_id"] = member.UserId.ToString(),
            ["email"] = member.Email,
            ["admin_id"] = tenant.Admin.UserId.ToString(),
            ["group_id"] = groupId.ToString(),
            ["scim_group_id"] = provisionedId.ToString(),
            ["role_name"] = role,
            ["spare_role_name"] = spare,
            ["enterprise_id"] = tenant.EnterpriseId.ToString(),
        };
        await SignInAsync(tenant.Admin);
        ids["session_id"] = await ReadAsync(
            tenant.EnterpriseId,
            "SELECT session_id::text FROM sessions WHERE enterprise_id = $1 AND user_id = $2 ORDER BY created_at DESC LIMIT 1",
            tenant.Admin.UserId
        );
        ids["api_key_id"] = await ReadAsync(
            tenant.EnterpriseId,
            "SELECT api_key_id::text FROM api_keys WHERE enterprise_id = $1 AND key_hash = $2",
            Sessions.HashOf(tenant.ApiKey)
        );
        // Just now they have shown who they are: what asks for that is tried, too.
        await ExecuteAsync(
            tenant.EnterpriseId,
            "UPDATE sessions SET proven_at = now(), second_factor = 'passkey' WHERE enterprise_id = $1"
        );
        await SealAlertsAsync(tenant, ids);

        // Nobody looks for anomalies meanwhile: its position would move, whatever a test tries.
        await using NpgsqlCommand rest = Database.Pipeline.CreateCommand(
            "UPDATE anomaly_positions SET next_look_at = '2126-01-01Z' WHERE enterprise_id = $1"
        );
        rest.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = tenant.EnterpriseId });
        await rest.ExecuteNonQueryAsync(CancellationToken);

        // Nor is the audit log streamed anywhere: what is generated is no destination.
        await ExecuteAsync(
            tenant.EnterpriseId,
            "UPDATE audit_destinations SET next_attempt_at = '2126-01-01Z' WHERE enterprise_id = $1"
        );
        return tenant with { Ids = ids };
    }

    // What the generator cannot make: texts sealed to their rows.
    private async Task SealAlertsAsync(Tenant tenant, Dictionary<string, string> ids)
    {
        EnterpriseInfo enterprise = (
            await services.GetRequiredService<EnterpriseDirectory>().FindAsync(tenant.EnterpriseId, CancellationToken)
        )!;
        string address = tenant.Marker + "@walls.example";
        var webhookId = Guid.Parse(ids["webhook_id"]);
        await ExecuteAsync(
            tenant.EnterpriseId,
            "UPDATE webhooks SET url = $3, secret = $4 WHERE enterprise_id = $1 AND webhook_id = $2",
            webhookId,
            Webhook.SealUrl(enterprise, webhookId, $"https://hooks.walls.example/{tenant.Marker}"),
            Webhook.SealSecret(enterprise, webhookId, WebhookSignature.NewSecret())
        );
        var alertId = Guid.Parse(ids["alert_id"]);
        await ExecuteAsync(
            tenant.EnterpriseId,
            "UPDATE usage_alerts SET recipients = $3 WHERE enterprise_id = $1 AND alert_id = $2",
            alertId,
            AlertRule.SealRecipients(enterprise, alertId, [address])
        );
        await ExecuteAsync(
            tenant.EnterpriseId,
            "UPDATE anomaly_settings SET recipients = $2 WHERE enterprise_id = $1",
            AnomalySettingsStore.SealRecipients(enterprise, [address])
        );
        var notice = new AlertNotice(
            Guid.NewGuid(),
            AlertNotice.Limit,
            AlertNotice.Low,
            tenant.Marker,
            "ENTERPRISE",
            null,
            "DAILY",
            DateTime.UnixEpoch,
            DateTime.UnixEpoch,
            1,
            null,
            null,
            false,
            1,
            null,
            DateTime.UnixEpoch
        );
        var delivery = new NewDelivery(enterprise, AlertRule.Email, address, notice, NewDelivery.Opened);
        await using ScopedTransaction transaction = await Database.OpenEnterpriseAsync(
            tenant.EnterpriseId,
            CancellationToken
        );
        await using (var batch = new NpgsqlBatch(transaction.Connection))
        {
            batch.BatchCommands.Add(AlertOutbox.Insert([delivery]));
            await batch.ExecuteNonQueryAsync(CancellationToken);
        }

        await transaction.ExecuteAsync(
            "UPDATE alert_deliveries SET next_attempt_at = NULL, delivered_at = now() WHERE enterprise_id = $1 AND delivery_id = $2",
            [tenant.EnterpriseId, delivery.DeliveryId],
            CancellationToken
        );
        await transaction.CommitAsync(CancellationToken);
        ids["delivery_id"] = delivery.DeliveryId.ToString();
    }

    /// <summary>Somebody who may sign in, without a password.</summary>
    public async Task<Person> AddPersonAsync(Guid enterpriseId, byte[] dataKey, string marker, params string[] roles)
    {
        string email = $"{marker}.{Guid.NewGuid():N}@walls.example";
        await using ScopedTransaction transaction = await Database.OpenEnterpriseAsync(enterpriseId, CancellationToken);
        Guid userId = await services
            .GetRequiredService<Users>()
            .AddAsync(
                transaction,
                enterpriseId,
                dataKey,
                new NewPerson(email, $"Somebody of {marker}", null, roles),
                CancellationToken
            );
        await transaction.CommitAsync(CancellationToken);
        return new Person(enterpriseId, userId, email, roles);
    }

    /// <summary>A session over the API; the answer is its access token.</summary>
    public async Task<string> SignInAsync(Person person) => (await BeginAsync(person)).AccessToken;

    public Task<IssuedTokens> BeginAsync(Person person) =>
        services.GetRequiredService<Sessions>().BeginAsync(person, s_password, s_client, CancellationToken);

    /// <summary>A session in a browser; the answer is the header <c>Cookie</c>.</summary>
    public async Task<string> SignInWithBrowserAsync(Person person) =>
        BrowserSessions.CookieName(new DefaultHttpContext().Request)
        + "="
        + await services
            .GetRequiredService<Sessions>()
            .BeginInBrowserAsync(person, s_password, s_client, CancellationToken);

    public async Task<string> AddApiKeyAsync(Guid enterpriseId, IReadOnlyCollection<string> scopes, string more = "")
    {
        string apiKey = ApiKeyFormat.Generate();
        await ExecuteAsync(
            enterpriseId,
            "INSERT INTO api_keys (enterprise_id, api_key_id, name, key_hash, scopes, created_by, created_at) "
                + "VALUES ($1, $2, 'a key', $3, $4, $2, now())",
            Guid.NewGuid(),
            Sessions.HashOf(apiKey),
            scopes.ToArray()
        );
        if (more.Length > 0)
        {
            string change = $"UPDATE api_keys SET {more} WHERE enterprise_id = $1 AND key_hash = $2";
            await ExecuteAsync(enterpriseId, change, Sessions.HashOf(apiKey));
        }

        return apiKey;
    }

    /// <summary>A role of the enterprise's own that permits exactly this.</summary>
    public async Task<string> AddRoleAsync(Guid enterpriseId, string permission)
    {
        string name = "only " + permission;
        await ExecuteAsync(enterpriseId, "INSERT INTO roles VALUES ($1, $2, '', now(), now())", name);
        await ExecuteAsync(enterpriseId, "INSERT INTO role_permissions VALUES ($1, $2, $3)", name, permission);
        return name;
    }

    /// <summary>In the enterprise's scope, as the server does it; $1 is the enterprise.</summary>
    public async Task ExecuteAsync(Guid enterpriseId, string sql, params object?[] parameters)
    {
        await using ScopedTransaction transaction = await Database.OpenEnterpriseAsync(enterpriseId, CancellationToken);
        await transaction.ExecuteAsync(sql, [enterpriseId, .. parameters], CancellationToken);
        await transaction.CommitAsync(CancellationToken);
    }

    /// <summary>The same for what instances have cached: it is noticed at once.</summary>
    public async Task ChangeAsync(Guid enterpriseId, string sql, params object?[] parameters)
    {
        await using ScopedTransaction transaction = await Database.OpenEnterpriseAsync(enterpriseId, CancellationToken);
        await transaction.ExecuteAsync(sql, [enterpriseId, .. parameters], CancellationToken);
        await services.GetRequiredService<IdentityVersion>().CommitAsync(transaction, CancellationToken);
    }

    private async Task<string> ReadAsync(Guid enterpriseId, string sql, params object?[] parameters)
    {
        await using ScopedTransaction transaction = await Database.OpenEnterpriseAsync(enterpriseId, CancellationToken);
        await using NpgsqlCommand command = transaction.Command(sql, [enterpriseId, .. parameters]);
        return (string)(await command.ExecuteScalarAsync(CancellationToken))!;
    }
}

/// <summary>A server whose tests make tenants.</summary>
public sealed class TenantsFixture(Engines engines) : IAsyncLifetime
{
    internal RunningServer Server { get; private set; } = null!;

    internal Tenants Tenants { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        // Every route many times: as fast as the machine is, not as one caller is held to.
        Server = await RunningServer.StartAsync(
            engines,
            ("RateLimits:RequestsPerSecondPerCaller", "1000000"),
            ("RateLimits:RequestsPerSecondPerEnterprise", "1000000")
        );
        Tenants = new Tenants(Server.Services, Server.Database.OwnerConnectionString);
    }

    public ValueTask DisposeAsync() => Server.DisposeAsync();
}
