using System.Collections;
using System.Diagnostics;
using System.Net;
using System.Reflection;
using System.Text.Json.Serialization;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using StackExchange.Redis;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;
using CredentialCache = UsageMonitor.Server.Identity.CredentialCache;
using IPNetwork = System.Net.IPNetwork;

namespace UsageMonitor.Tests.Identity;

/// <summary>Two instances over one database and one Redis.</summary>
public sealed class SharedCredentialTests(Engines engines) : IAsyncLifetime
{
    private RunningServer _one = null!;
    private RunningServer _other = null!;
    private Acme _acme = null!;

    public async ValueTask InitializeAsync()
    {
        _one = await RunningServer.StartAsync(engines);
        _other = await _one.StartBesideAsync(engines);
        _acme = await Acme.CreateAsync(_one);
        await VersionOf(_other).RefreshAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _other.DisposeAsync();
        await _one.DisposeAsync();
    }

    [Fact]
    public async Task FindAsync_WhenAnotherInstanceKnowsTheCredential_ShouldNotReadItFromTheDatabase()
    {
        foreach (string bearer in new[] { _acme.ApiKey, _acme.Admin.AccessToken })
        {
            Assert.Equal(HttpStatusCode.OK, await AskAsync(_one, bearer));
        }

        await ForbidReadingAsync();

        foreach (string bearer in new[] { _acme.ApiKey, _acme.Admin.AccessToken })
        {
            await Eventually.TrueAsync(async () => await AskAsync(_other, bearer) == HttpStatusCode.OK, "it is shared");
        }

        using HttpResponseMessage unknown = await _other.SendAsync(
            HttpMethod.Get,
            "/v1/auth/validate",
            "um_" + new string('x', 43)
        );
        Assert.NotEqual(HttpStatusCode.OK, unknown.StatusCode);
    }

    [Fact]
    public async Task FindAsync_WhenTheSharedValueIsTamperedOrAnothers_ShouldIgnoreIt()
    {
        string stranger = "um_" + new string('s', 43);
        Assert.Equal(HttpStatusCode.OK, await AskAsync(_one, _acme.ApiKey));
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        IDatabase values = redis.GetDatabase();
        byte[] good = [];
        await Eventually.TrueAsync(
            async () => (good = (byte[]?)await values.StringGetAsync(NameOf(_acme.ApiKey)) ?? []).Length > 0,
            "the credential is shared"
        );

        // Moved to the name of a credential that does not exist, it opens nothing.
        await values.StringSetAsync(NameOf(stranger), good);
        Assert.Equal(HttpStatusCode.Unauthorized, await AskAsync(_other, stranger));

        // Altered anywhere, cut off, or made up, it is as if it were not there: the database says who it is.
        byte[] flipped = [.. good];
        flipped[^1] ^= 1;
        foreach (byte[] forged in new[] { flipped, good[..10], [], "{\"Kind\":2}"u8.ToArray() })
        {
            await values.StringSetAsync(NameOf(_acme.ApiKey), forged);
            SharedCache shared = _other.Services.GetRequiredService<SharedCache>();
            Assert.Null(await shared.GetAsync("credential:" + HashOf(_acme.ApiKey)));
        }

        Assert.Equal(HttpStatusCode.OK, await AskAsync(_other, _acme.ApiKey));
    }

    [Fact]
    public async Task Revoke_WhenRedisStillHasTheCredential_ShouldBeEffectiveOnTheOtherInstanceWithinASecond()
    {
        string key = await _acme.CreateKeyAsync("usage:read");
        Assert.Equal(HttpStatusCode.OK, await AskAsync(_one, key));
        Assert.Equal(HttpStatusCode.OK, await AskAsync(_other, key));
        await using ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(
            engines.RedisConnectionString
        );
        await Eventually.TrueAsync(() => redis.GetDatabase().KeyExistsAsync(NameOf(key)), "the credential is shared");
        RedisValue before = await redis.GetDatabase().StringGetAsync(NameOf(key));

        await RevokeAsync(_one, key);
        long revokedAt = Stopwatch.GetTimestamp();
        Assert.Equal(HttpStatusCode.Unauthorized, await AskAsync(_one, key));
        while (await AskAsync(_other, key) == HttpStatusCode.OK)
        {
            Assert.InRange(Stopwatch.GetElapsedTime(revokedAt).TotalSeconds, 0, 1);
        }

        // Whoever puts the old value back gains nothing.
        await redis.GetDatabase().StringSetAsync(NameOf(key), before);
        Assert.Equal(HttpStatusCode.Unauthorized, await AskAsync(_one, key));
        Assert.Equal(HttpStatusCode.Unauthorized, await AskAsync(_other, key));
    }

    [Fact]
    public async Task Commit_WhenAnotherEnterpriseChanges_ShouldKeepTheCredentialInMemory()
    {
        Acme other = await Acme.CreateAsync(_one);
        Assert.Equal(HttpStatusCode.OK, await AskAsync(_one, _acme.ApiKey));
        CredentialCache cache = _one.Services.GetRequiredService<CredentialCache>();
        var presented = new PresentedCredential(CredentialKind.ApiKey, _acme.ApiKey, 0);
        Assert.True(cache.TryGet(presented, out Credential? before));

        await other.CreateKeyAsync("usage:read");

        Assert.True(cache.TryGet(presented, out Credential? after));
        Assert.Same(before, after);
        await _acme.CreateKeyAsync("usage:read");
        Assert.False(cache.TryGet(presented, out _));
    }

    [Fact]
    public void Decode_WhenEncoded_ShouldGiveBackEveryProperty()
    {
        var credential = new Credential(
            CredentialKind.Cookie,
            new Caller
            {
                EnterpriseId = Guid.NewGuid(),
                UserId = Guid.NewGuid(),
                ApiKeyId = Guid.NewGuid(),
                SessionId = Guid.NewGuid(),
                Email = "ana@example.com",
                Permissions = RolePermissions.OfScopes(["usage:read", "usage:write"]),
            },
            IsSuspended: true,
            DateTimeOffset.UtcNow
        )
        {
            Networks = [IPNetwork.Parse("10.0.0.0/8"), IPNetwork.Parse("2001:db8::/32")],
        };

        Credential decoded = CredentialCodec.Decode(CredentialCodec.Encode(credential))!;

        AssertSame(credential, decoded);
        AssertSame(credential.Caller, decoded.Caller);
        Assert.Null(CredentialCodec.Decode("""{"Kind":2,"Unheard":1}"""u8));
        Assert.Null(CredentialCodec.Decode("nonsense"u8));
    }

    /// <summary>Finds properties that are added later as well: one that is not set above fails, and so does one that is lost.</summary>
    private static void AssertSame<T>(T expected, T actual)
    {
        foreach (PropertyInfo property in typeof(T).GetProperties(BindingFlags.Public | BindingFlags.Instance))
        {
            if (property.IsDefined(typeof(JsonIgnoreAttribute)))
            {
                continue; // each instance's own, as where it notes the use of a key
            }

            object? value = property.GetValue(expected);
            Assert.True(
                value is not null
                    && !value.Equals(
                        property.PropertyType.IsValueType ? Activator.CreateInstance(property.PropertyType) : null
                    ),
                $"Give {property.Name} a value in this test."
            );
            object? back = property.GetValue(actual);
            if (value is IEnumerable many and not string)
            {
                Assert.Equal(
                    many.Cast<object>().Select(item => item.ToString()).Order(),
                    ((IEnumerable)back!).Cast<object>().Select(item => item.ToString()).Order()
                );
            }
            else if (value is not Caller)
            {
                Assert.Equal(value, back);
            }
        }
    }

    private static IdentityVersion VersionOf(RunningServer server) =>
        server.Services.GetRequiredService<IdentityVersion>();

    private static async Task<HttpStatusCode> AskAsync(RunningServer server, string bearer)
    {
        using HttpResponseMessage response = await server.SendAsync(HttpMethod.Get, "/v1/auth/validate", bearer);
        return response.StatusCode;
    }

    private static async Task RevokeAsync(RunningServer server, string key)
    {
        IServiceProvider services = server.Services;
        CredentialCache cache = services.GetRequiredService<CredentialCache>();
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        Credential credential = (
            await cache.FindAsync(new PresentedCredential(CredentialKind.ApiKey, key, 0), cancellationToken)
        )!;
        await using ScopedTransaction own = await services
            .GetRequiredService<Database>()
            .OpenEnterpriseAsync(credential.Caller.EnterpriseId, cancellationToken);
        object?[] parameters = [credential.Caller.EnterpriseId, credential.Caller.ApiKeyId];
        await own.ExecuteAsync(
            "UPDATE api_keys SET revoked_at = now() WHERE enterprise_id = $1 AND api_key_id = $2",
            parameters,
            cancellationToken
        );
        await services.GetRequiredService<IdentityVersion>().CommitAsync(own, cancellationToken);
    }

    /// <summary>From now on whoever reads a credential from the database fails.</summary>
    private async Task ForbidReadingAsync()
    {
        await using var owner = NpgsqlDataSource.Create(_one.Database.OwnerConnectionString);
        await using NpgsqlCommand revoke = owner.CreateCommand(
            "REVOKE SELECT ON api_keys, sessions, users, user_roles FROM usage_monitor_app"
        );
        await revoke.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }

    private string NameOf(string bearer) => $"{_one.Database.Name}:credential:{HashOf(bearer)}";

    private static string HashOf(string bearer) =>
        Convert.ToHexStringLower(
            System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.ASCII.GetBytes(bearer))
        );
}
