using System.Net;
using System.Net.Http.Json;
using System.Security.Cryptography;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Platform;

/// <summary>The master key is replaced: while servers run, from before there was a root key, and with a wrong one.</summary>
public sealed class KeyRotationTests(Engines engines)
{
    private static readonly byte[] s_oldKey = [.. Enumerable.Range(1, 32).Select(number => (byte)number)];
    private static readonly byte[] s_newKey = RandomNumberGenerator.GetBytes(32);
    private static readonly string s_old = Convert.ToBase64String(s_oldKey);
    private static readonly string s_new = Convert.ToBase64String(s_newKey);
    private static readonly string s_oldId = new WrappingKeys([s_oldKey]).FirstId;
    private static readonly string s_newId = new WrappingKeys([s_newKey]).FirstId;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Rotation_WhenServersAreReplacedOneByOne_ShouldRefuseNobodyAndLoseNothing()
    {
        await using TestDatabase database = await engines.CloneAsync();
        await using var servers = new Balanced(engines, database);
        await servers.AddAsync(s_old);
        await servers.AddAsync(s_old);
        Acme acme = await Acme.CreateAsync(servers.First);
        await acme.SendAsync(Event("zoe@acme.example"));
        await acme.ProcessedAsync();
        byte[] dataKey = await DataKeyAsync(servers.First, acme.EnterpriseId);

        using var over = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
        Task<int> traffic = servers.SendUntilAsync(acme, over.Token);
        foreach (string keys in new[] { $"{s_old},{s_new}", $"{s_new},{s_old}", s_new })
        {
            for (int replaced = 0; replaced < 2; replaced++)
            {
                await servers.AddAsync(keys);
                await servers.RemoveOldestAsync();
                // Made while one server still wraps with the old key and another with the new.
                await Acme.CreateAsync(servers.First);
            }

            await Eventually.TrueAsync(
                async () =>
                {
                    IReadOnlyList<MasterKeyStatus> status = (await StatusAsync(servers.First)).MasterKeys;
                    return status.All(key => (key.WrappedKeys > 0) == (key.State == "WRAPS"))
                        && status[0].KeyId == (keys.StartsWith(s_old, StringComparison.Ordinal) ? s_oldId : s_newId);
                },
                $"everything is wrapped by the first of {keys.Length / s_old.Length} keys"
            );
        }

        await over.CancelAsync();
        Assert.True(await traffic > 10);
        PlatformKeysResponse last = await StatusAsync(servers.First);
        MasterKeyStatus only = Assert.Single(last.MasterKeys);
        Assert.Equal((s_newId, "WRAPS", 9L), (only.KeyId, only.State, only.WrappedKeys)); // 1 + 6 enterprises, platform, root

        // What was sealed before is read, who signed in before is known, and their address is still found.
        Assert.Equal(dataKey, await DataKeyAsync(servers.First, acme.EnterpriseId));
        Assert.Equal("zoe@acme.example", await ExternalIdAsync(database, acme.EnterpriseId, dataKey));
        using HttpResponseMessage validated = await servers.First.SendAsync(
            HttpMethod.Get,
            "/v1/auth/validate",
            acme.Admin.AccessToken
        );
        ValidateResponse admin = await RunningServer.ReadAsync<ValidateResponse>(validated, HttpStatusCode.OK);
        Assert.Equal(acme.Admin.User.Email, admin.Email);
        await servers.First.LoginAsync(acme.Admin.User.Email, Acme.AdminPassword);

        // Whoever still has only the old key is told so.
        StartException refused = await Assert.ThrowsAsync<StartException>(() =>
            RunningServer.StartAsync(engines, database, ("MasterKey", s_old))
        );
        Assert.Contains(s_newId, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Start_WhenTheMasterKeyIsAnother_ShouldSaySoAndChangeNothing()
    {
        await using TestDatabase database = await engines.CloneAsync();
        await using (await RunningServer.StartAsync(engines, database))
        {
            // it has made what there is
        }

        IReadOnlyList<string> before = await FingerprintAsync(database);
        StartException refused = await Assert.ThrowsAsync<StartException>(() =>
            RunningServer.StartAsync(engines, database, ("MasterKey", s_new))
        );

        Assert.Contains(s_oldId, refused.Message, StringComparison.Ordinal);
        Assert.Contains(s_newId, refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(s_new, refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, await FingerprintAsync(database));
        await using RunningServer again = await RunningServer.StartAsync(engines, database);
        await again.LoginOperatorAsync();
    }

    [Fact]
    public async Task Start_WhenTheDatabaseIsFromBeforeTheRootKey_ShouldGoOnWithItAndWrapAnew()
    {
        await using TestDatabase database = await engines.CloneAsync();
        Guid enterpriseId;
        string email;
        byte[] dataKey;
        await using (RunningServer first = await RunningServer.StartAsync(engines, database))
        {
            Acme acme = await Acme.CreateAsync(first);
            (enterpriseId, email) = (acme.EnterpriseId, acme.Admin.User.Email);
            dataKey = await DataKeyAsync(first, enterpriseId);
        }

        await MakeOldAsync(database);
        StartException refused = await Assert.ThrowsAsync<StartException>(() =>
            RunningServer.StartAsync(engines, database, ("MasterKey", s_new))
        );
        Assert.Contains("Nothing was changed", refused.Message, StringComparison.Ordinal);

        // The old one need not be the first to be recognised.
        await using RunningServer server = await RunningServer.StartAsync(
            engines,
            database,
            ("MasterKey", $"{s_new},{s_old}")
        );

        Assert.Equal(s_oldKey, server.Services.GetRequiredService<MasterKey>().Root);
        await server.LoginAsync(email, Acme.AdminPassword);
        Assert.Equal(dataKey, await DataKeyAsync(server, enterpriseId));
        await Eventually.TrueAsync(
            async () =>
            {
                IReadOnlyList<MasterKeyStatus> keys = (await StatusAsync(server)).MasterKeys;
                return keys.Count == 2 && keys[0] is { State: "WRAPS", WrappedKeys: 3 } && keys[1].WrappedKeys == 0;
            },
            "the old data keys are wrapped by the new master key"
        );
    }

    [Fact]
    public async Task RewrapAsync_WhenAnotherKeyWrapsTheRoot_ShouldLeaveEverythingToThoseWhoHaveItFirst()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines, ("MasterKey", $"{s_new},{s_old}"));
        await Acme.CreateAsync(server);
        IReadOnlyList<string> before = await FingerprintAsync(server.Database);
        var behind = new MasterKey(new WrappingKeys([s_oldKey, s_newKey]), s_oldKey);
        using var rewrapping = new KeyRewrapping(
            server.Database.Database,
            behind,
            TimeProvider.System,
            Microsoft.Extensions.Logging.Abstractions.NullLogger<KeyRewrapping>.Instance
        );

        await rewrapping.RewrapAsync(Cancelled);

        Assert.Equal(before, await FingerprintAsync(server.Database));
    }

    [Fact]
    public async Task Keys_WhenNoOperatorAsks_ShouldBeRefused()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines);
        Acme acme = await Acme.CreateAsync(server);

        foreach (string? credential in new[] { null, acme.ApiKey, acme.Admin.AccessToken })
        {
            HttpStatusCode expected = credential is null ? HttpStatusCode.Unauthorized : HttpStatusCode.Forbidden;
            using HttpResponseMessage read = await server.SendAsync(HttpMethod.Get, "/v1/platform/keys", credential);
            using HttpResponseMessage rotate = await server.SendAsync(
                HttpMethod.Post,
                "/v1/platform/signing-keys/rotate",
                credential
            );
            Assert.Equal((expected, expected), (read.StatusCode, rotate.StatusCode));
        }
    }

    [Fact]
    public async Task RotateSigningKey_WhenTheOperatorAsks_ShouldPublishANewKeyOnce()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines);
        string token = (await server.LoginOperatorAsync()).AccessToken;

        SigningKeyStatus first = await RotateAsync();
        SigningKeyStatus second = await RotateAsync();
        PlatformKeysResponse keys = await StatusAsync(server);
        using HttpResponseMessage published = await server.SendAsync(HttpMethod.Get, "/.well-known/jwks.json", null);

        Assert.Equal(first, second);
        Assert.Equal(["PUBLISHED", "SIGNING"], keys.SigningKeys.Select(key => key.State));
        Assert.Equal(first, keys.SigningKeys[0]);
        Assert.Equal(first.SignsFrom, keys.SigningKeys[1].SignsUntil);
        Assert.Contains(first.KeyId, await published.Content.ReadAsStringAsync(Cancelled), StringComparison.Ordinal);
        Assert.Equal("max-age=300", published.Headers.CacheControl!.ToString().Split(", ")[^1]);

        async Task<SigningKeyStatus> RotateAsync()
        {
            using HttpResponseMessage response = await server.SendAsync(
                HttpMethod.Post,
                "/v1/platform/signing-keys/rotate",
                token
            );
            return await RunningServer.ReadAsync<SigningKeyStatus>(response, HttpStatusCode.OK);
        }
    }

    private static UsageEvent Event(string userId) => new(userId, "export", Guid.NewGuid());

    private static async Task<byte[]> DataKeyAsync(RunningServer server, Guid enterpriseId) =>
        (await server.Services.GetRequiredService<EnterpriseDirectory>().FindAsync(enterpriseId, Cancelled))!.DataKey;

    private static async Task<PlatformKeysResponse> StatusAsync(RunningServer server)
    {
        string token = (await server.LoginOperatorAsync()).AccessToken;
        using HttpResponseMessage response = await server.SendAsync(HttpMethod.Get, "/v1/platform/keys", token);
        return await RunningServer.ReadAsync<PlatformKeysResponse>(response, HttpStatusCode.OK);
    }

    private static async Task<string> ExternalIdAsync(TestDatabase database, Guid enterpriseId, byte[] dataKey)
    {
        await using ScopedTransaction transaction = await database.Database.OpenEnterpriseAsync(
            enterpriseId,
            Cancelled
        );
        await using NpgsqlCommand read = transaction.Command(
            "SELECT external_id FROM users WHERE external_id IS NOT NULL ORDER BY ordinal LIMIT 1"
        );
        byte[] sealedId = (byte[])(await read.ExecuteScalarAsync(Cancelled))!;
        var enterprise = new EnterpriseInfo(enterpriseId, "", TimeZoneInfo.Utc, 0, dataKey, EnterpriseInfo.Active);
        return ExternalIds.Open(enterprise, sealedId);
    }

    /// <summary>What a start with a wrong key could spoil: the keys and the schema.</summary>
    private static async Task<IReadOnlyList<string>> FingerprintAsync(TestDatabase database)
    {
        await using var owner = NpgsqlDataSource.Create(database.OwnerConnectionString);
        await using NpgsqlCommand read = owner.CreateCommand(
            """
            SELECT 'root ' || encode(wrapped_key, 'hex') FROM platform_keys
            UNION ALL SELECT 'data ' || enterprise_id || encode(data_key, 'hex') FROM enterprises
            UNION ALL SELECT 'schema ' || name FROM schema_migrations
            UNION ALL SELECT 'signing ' || key_id || encode(private_key, 'hex') FROM signing_keys
            ORDER BY 1
            """
        );
        var lines = new List<string>();
        await using NpgsqlDataReader reader = await read.ExecuteReaderAsync(Cancelled);
        while (await reader.ReadAsync(Cancelled))
        {
            lines.Add(reader.GetString(0));
        }

        return lines;
    }

    // As a server of the first version left it: no root key, data keys without the id of what wraps them.
    private static async Task MakeOldAsync(TestDatabase database)
    {
        var masterKey = new MasterKey(s_oldKey);
        await using var owner = NpgsqlDataSource.Create(database.OwnerConnectionString);
        await using (NpgsqlCommand delete = owner.CreateCommand("DELETE FROM platform_keys"))
        {
            await delete.ExecuteNonQueryAsync(Cancelled);
        }

        var keys = new List<(Guid Id, byte[] Wrapped)>();
        await using (NpgsqlCommand read = owner.CreateCommand("SELECT enterprise_id, data_key FROM enterprises"))
        await using (NpgsqlDataReader reader = await read.ExecuteReaderAsync(Cancelled))
        {
            while (await reader.ReadAsync(Cancelled))
            {
                keys.Add((reader.GetGuid(0), reader.GetFieldValue<byte[]>(1)));
            }
        }

        foreach ((Guid id, byte[] wrapped) in keys)
        {
            byte[] old = Sealing.Seal(masterKey.Derive("wrap"), masterKey.Unwrap(wrapped, id), id.ToByteArray());
            await using NpgsqlCommand write = owner.CreateCommand(
                "UPDATE enterprises SET data_key = $2 WHERE enterprise_id = $1"
            );
            write.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = id });
            write.Parameters.Add(new NpgsqlParameter<byte[]> { TypedValue = old });
            await write.ExecuteNonQueryAsync(Cancelled);
        }
    }

    /// <summary>Servers behind a load balancer: one that is to be stopped gets no requests any more before it is.</summary>
    private sealed class Balanced(Engines engines, TestDatabase database) : IAsyncDisposable
    {
        private readonly List<RunningServer> _servers = [];
        private readonly SemaphoreSlim _choosing = new(1);

        public RunningServer First => _servers[0];

        public async Task AddAsync(string keys)
        {
            // The traffic is as fast as the machine: not what one caller is held to.
            RunningServer server = await RunningServer.StartAsync(
                engines,
                database,
                ("MasterKey", keys),
                ("RateLimits:RequestsPerSecondPerCaller", "1000000"),
                ("RateLimits:RequestsPerSecondPerEnterprise", "1000000"),
                ("RateLimits:EventsPerSecondPerKey", "1000000"),
                ("RateLimits:EventsPerSecondPerEnterprise", "1000000")
            );
            await _choosing.WaitAsync(Cancelled);
            _servers.Add(server);
            _choosing.Release();
        }

        public async Task RemoveOldestAsync()
        {
            await _choosing.WaitAsync(Cancelled);
            RunningServer oldest = _servers[0];
            _servers.RemoveAt(0);
            _choosing.Release();
            await oldest.DisposeAsync();
        }

        /// <summary>Sends events and asks for answers, to one server after the other; each must succeed.</summary>
        /// <returns>How many requests there were.</returns>
        public async Task<int> SendUntilAsync(Acme acme, CancellationToken over)
        {
            int sent = 0;
            while (!over.IsCancellationRequested)
            {
                await _choosing.WaitAsync(Cancelled);
                try
                {
                    RunningServer server = _servers[sent++ % _servers.Count];
                    using HttpResponseMessage accepted = await server.SendAsync(
                        HttpMethod.Post,
                        "/v1/usage/events",
                        acme.ApiKey,
                        JsonContent.Create(new[] { Event($"user-{sent}") })
                    );
                    Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
                    using HttpResponseMessage known = await server.SendAsync(
                        HttpMethod.Get,
                        "/v1/auth/validate",
                        acme.Admin.AccessToken
                    );
                    Assert.Equal(HttpStatusCode.OK, known.StatusCode);
                }
                finally
                {
                    _choosing.Release();
                }

                await Task.Yield();
            }

            return sent;
        }

        public async ValueTask DisposeAsync()
        {
            foreach (RunningServer server in _servers)
            {
                await server.DisposeAsync();
            }

            _choosing.Dispose();
        }
    }
}
