using System.Net;
using System.Net.Http.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.Access;

public sealed class ApiKeyLifeTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Path = "/v1/admin/api-keys";
    private const string Validate = "/v1/auth/validate";

    [Fact]
    public async Task Create_WhenGivenNetworks_ShouldKeepThemInOneForm()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        DateTimeOffset end = DateTimeOffset.UtcNow.AddDays(30);
        string[] networks = ["10.1.2.3/16", "192.0.2.7", "2001:DB8:1::5/32", "::ffff:10.1.0.0/112", "::1"];

        CreateApiKeyResponse made = await CreateAsync(tester, end, networks, Permissions.UsageRead);

        ApiKeySummary key = await FindAsync(tester, made.ApiKeyId);
        Assert.Equal(["10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "::1/128"], key.Networks);
        Assert.Equal(end, key.ExpiresAt!.Value, TimeSpan.FromMilliseconds(1));
        Assert.Equal(tester.Acme.Admin.User.UserId, key.CreatedBy);
        Assert.Null(key.LastUsedAt);
    }

    [Theory]
    [InlineData("10.0.0.0/33")]
    [InlineData("10.0.0/8")]
    [InlineData("0x0a000001")]
    [InlineData("010.0.0.1")]
    [InlineData("2001:db8::/129")]
    [InlineData("fe80::1%eth0")]
    [InlineData("::ffff:10.0.0.0/95")]
    [InlineData("10.0.0.0/-1")]
    [InlineData("example.com")]
    [InlineData("")]
    public async Task Create_WhenANetworkIsNone_ShouldTellWhich(string wrong)
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        var request = new CreateApiKeyRequest("a key", [Permissions.UsageRead], null, ["10.0.0.0/8", wrong]);

        using HttpResponseMessage response = await tester.SendAsync(HttpMethod.Post, Path, tester.Admin, request);

        string detail = await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
        Assert.Contains("networks[1]", detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, -1)]
    [InlineData(0, 3_700)]
    [InlineData(21, 1)]
    public async Task Create_WhenItIsBeyondTheLimits_ShouldBeA400(int networks, int days)
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        var request = new CreateApiKeyRequest(
            "a key",
            [Permissions.UsageRead],
            DateTimeOffset.UtcNow.AddDays(days),
            [.. Enumerable.Range(1, networks).Select(number => $"10.0.0.{number}")]
        );

        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, request, 400, "invalid_request");
    }

    [Fact]
    public async Task Create_WhenTheScopeIsBeyondTheCaller_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.CreateRoleAsync("Key keepers", Permissions.ApiKeysRead, Permissions.ApiKeysWrite);
        string keeper = await tester.TokenOfAsync("Key keepers");
        string everything = (await CreateAsync(tester, null, null, [.. RolePermissions.Scopes])).ApiKey;
        Assert.Equal(RolePermissions.Scopes.Order(StringComparer.Ordinal), await tester.PermissionsAsync(everything));

        foreach (
            string scope in new[] { Permissions.UsageRead, Permissions.DecisionsRead, Permissions.ProvisioningWrite }
        )
        {
            var request = new CreateApiKeyRequest("a key", [Permissions.UsageWrite, scope]);
            await tester.AssertProblemAsync(HttpMethod.Post, Path, keeper, request, 403, "beyond_own_permissions");
        }

        var delegated = new CreateApiKeyRequest("a key", [Permissions.UsageWrite, Permissions.UsageBackfill]);
        Assert.Equal(HttpStatusCode.Created, await tester.StatusAsync(HttpMethod.Post, Path, keeper, delegated));

        // A rotation hands out a key as well.
        Guid reading = (await CreateAsync(tester, null, null, Permissions.UsageRead)).ApiKeyId;
        await tester.AssertProblemAsync(
            HttpMethod.Post,
            $"{Path}/{reading}/rotate",
            keeper,
            new RotateApiKeyRequest(),
            403,
            "beyond_own_permissions"
        );
    }

    [Fact]
    public async Task Auditor_WhenItLooks_ShouldSeeKeysAndChangeNone()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        string auditor = await tester.TokenOfAsync(RolePermissions.Auditor);
        Guid key = (await CreateAsync(tester, null, null, Permissions.UsageRead)).ApiKeyId;

        Assert.Equal(HttpStatusCode.OK, await tester.StatusAsync(HttpMethod.Get, Path, auditor));
        Assert.Equal(HttpStatusCode.Forbidden, await tester.StatusAsync(HttpMethod.Delete, $"{Path}/{key}", auditor));
        Assert.Equal(
            HttpStatusCode.Forbidden,
            await tester.StatusAsync(HttpMethod.Post, $"{Path}/{key}/rotate", auditor, new RotateApiKeyRequest())
        );
        Assert.Equal(
            HttpStatusCode.Forbidden,
            await tester.StatusAsync(HttpMethod.Put, $"{Path}/{key}", auditor, new ChangeApiKeyRequest("x"))
        );
    }

    [Fact]
    public async Task Rotate_WhenThereIsAnOverlap_ShouldAcceptBothUntilItEnds()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        string[] networks = ["127.0.0.0/8", "::1"];
        CreateApiKeyResponse old = await CreateAsync(tester, null, networks, Permissions.UsageRead);

        CreateApiKeyResponse made = await RotateAsync(tester, old.ApiKeyId, 1);

        Assert.NotEqual(old.ApiKey, made.ApiKey);
        Assert.Equal([Permissions.UsageRead], await tester.PermissionsAsync(old.ApiKey));
        Assert.Equal([Permissions.UsageRead], await tester.PermissionsAsync(made.ApiKey));
        ApiKeySummary replaced = await FindAsync(tester, old.ApiKeyId);
        ApiKeySummary replacement = await FindAsync(tester, made.ApiKeyId);
        Assert.Equal(made.ApiKeyId, replaced.ReplacedBy);
        Assert.Equal(DateTimeOffset.UtcNow.AddHours(1), replaced.ExpiresAt!.Value, TimeSpan.FromMinutes(5));
        Assert.Equal(("a key", null, null), (replacement.Name, replacement.ExpiresAt, replacement.ReplacedBy));
        Assert.Equal(["127.0.0.0/8", "::1/128"], replacement.Networks);

        foreach ((HttpMethod method, string path, object body) in Changes(old.ApiKeyId))
        {
            await tester.AssertProblemAsync(method, path, tester.Admin, body, 409, "api_key_replaced");
        }

        Assert.Equal(
            HttpStatusCode.NoContent,
            await tester.StatusAsync(HttpMethod.Delete, $"{Path}/{old.ApiKeyId}", tester.Admin)
        );
        Assert.Null(await tester.PermissionsAsync(old.ApiKey));
        Assert.NotNull(await tester.PermissionsAsync(made.ApiKey));
    }

    [Fact]
    public async Task Rotate_WhenThereIsNoOverlap_ShouldRefuseTheOldKeyAtOnce()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        DateTimeOffset end = DateTimeOffset.UtcNow.AddDays(10);
        CreateApiKeyResponse old = await CreateAsync(tester, end, null, Permissions.UsageRead);
        Assert.NotNull(await tester.PermissionsAsync(old.ApiKey));

        CreateApiKeyResponse made = await RotateAsync(tester, old.ApiKeyId, 0);

        Assert.Null(await tester.PermissionsAsync(old.ApiKey));
        ApiKeySummary replacement = await FindAsync(tester, made.ApiKeyId);
        Assert.Equal(DateTimeOffset.UtcNow.AddDays(10), replacement.ExpiresAt!.Value, TimeSpan.FromMinutes(5));
        foreach (int hours in new[] { -1, 721 })
        {
            await tester.AssertProblemAsync(
                HttpMethod.Post,
                $"{Path}/{made.ApiKeyId}/rotate",
                tester.Admin,
                new RotateApiKeyRequest(hours),
                400,
                "invalid_request"
            );
        }
    }

    [Fact]
    public async Task Rotate_WhenTwoDoItAtOnce_ShouldMakeOneKey()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        Guid old = (await CreateAsync(tester, null, null, Permissions.UsageRead)).ApiKeyId;

        HttpStatusCode[] statuses = await Task.WhenAll(
            Enumerable
                .Range(0, 6)
                .Select(_ =>
                    tester.StatusAsync(HttpMethod.Post, $"{Path}/{old}/rotate", tester.Admin, new RotateApiKeyRequest())
                )
        );

        Assert.Single(statuses, HttpStatusCode.Created);
        Assert.Equal(5, statuses.Count(status => status == HttpStatusCode.Conflict));
    }

    [Fact]
    public async Task Change_WhenTheKeyIsRevokedOrExpired_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        Guid revoked = (await CreateAsync(tester, null, null, Permissions.UsageRead)).ApiKeyId;
        CreateApiKeyResponse expired = await CreateAsync(
            tester,
            DateTimeOffset.UtcNow.AddDays(1),
            null,
            Permissions.UsageRead
        );
        Assert.NotNull(await tester.PermissionsAsync(expired.ApiKey));
        await tester.StatusAsync(HttpMethod.Delete, $"{Path}/{revoked}", tester.Admin);
        await tester.ExecuteAsync(
            "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE api_key_id = $1",
            expired.ApiKeyId
        );

        Assert.Null(await tester.PermissionsAsync(expired.ApiKey));
        foreach ((HttpMethod method, string path, object body) in Changes(revoked))
        {
            await tester.AssertProblemAsync(method, path, tester.Admin, body, 409, "api_key_revoked");
        }

        foreach ((HttpMethod method, string path, object body) in Changes(expired.ApiKeyId))
        {
            await tester.AssertProblemAsync(method, path, tester.Admin, body, 409, "api_key_expired");
        }
    }

    [Fact]
    public async Task Change_WhenItNarrowsTheNetworks_ShouldRefuseOtherAddressesAtOnce()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        CreateApiKeyResponse key = await CreateAsync(tester, null, ["127.0.0.1"], Permissions.UsageRead);
        Assert.NotNull(await tester.PermissionsAsync(key.ApiKey));

        var narrow = new ChangeApiKeyRequest("narrow", null, ["203.0.113.0/24"]);
        string path = $"{Path}/{key.ApiKeyId}";
        Assert.Equal(HttpStatusCode.NoContent, await tester.StatusAsync(HttpMethod.Put, path, tester.Admin, narrow));

        await tester.AssertProblemAsync(HttpMethod.Get, Validate, key.ApiKey, null, 403, "address_not_allowed");
        var wide = new ChangeApiKeyRequest("wide");
        Assert.Equal(HttpStatusCode.NoContent, await tester.StatusAsync(HttpMethod.Put, path, tester.Admin, wide));
        Assert.NotNull(await tester.PermissionsAsync(key.ApiKey));
        ApiKeySummary listed = await FindAsync(tester, key.ApiKeyId);
        Assert.Equal(("wide", null), (listed.Name, listed.Networks));
    }

    [Fact]
    public async Task Purpose_WhenRecorded_ShouldBeListedChangedAndGoOnWithTheNextKey()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        var request = new CreateApiKeyRequest("shop", [Permissions.UsageRead])
        {
            Purpose = " Licence compliance ",
            LegalBasis = LegalBases.Contract,
        };
        using HttpResponseMessage made = await fixture.Server.SendAsync(
            HttpMethod.Post,
            Path,
            tester.Admin,
            JsonContent.Create(request)
        );
        CreateApiKeyResponse key = await RunningServer.ReadAsync<CreateApiKeyResponse>(made, HttpStatusCode.Created);
        ApiKeySummary listed = await FindAsync(tester, key.ApiKeyId);
        Assert.Equal(("Licence compliance", "CONTRACT"), (listed.Purpose, listed.LegalBasis));

        foreach (
            CreateApiKeyRequest wrong in new[]
            {
                request with
                {
                    LegalBasis = "BECAUSE",
                },
                request with
                {
                    Purpose = new string('x', 501),
                },
            }
        )
        {
            await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, wrong, 400, "invalid_request");
        }

        using HttpResponseMessage rotated = await fixture.Server.SendAsync(
            HttpMethod.Post,
            $"{Path}/{key.ApiKeyId}/rotate",
            tester.Admin,
            JsonContent.Create(new RotateApiKeyRequest())
        );
        Guid next = (await RunningServer.ReadAsync<CreateApiKeyResponse>(rotated, HttpStatusCode.Created)).ApiKeyId;
        listed = await FindAsync(tester, next);
        Assert.Equal(("Licence compliance", "CONTRACT"), (listed.Purpose, listed.LegalBasis));
        var changed = new ChangeApiKeyRequest("shop") { Purpose = "Billing" };
        Assert.Equal(
            HttpStatusCode.NoContent,
            await tester.StatusAsync(HttpMethod.Put, $"{Path}/{next}", tester.Admin, changed)
        );
        listed = await FindAsync(tester, next);
        Assert.Equal(("Billing", null), (listed.Purpose, listed.LegalBasis));
    }

    [Theory]
    [InlineData("10.1.0.0/16", "10.1.200.3", true)]
    [InlineData("10.1.0.0/16", "::ffff:10.1.200.3", true)]
    [InlineData("::ffff:10.1.0.0/112", "10.1.200.3", true)]
    [InlineData("10.1.0.0/16", "10.2.0.1", false)]
    [InlineData("10.1.0.0/16", "::ffff:10.2.0.1", false)]
    [InlineData("2001:db8::/32", "2001:db8:5::1", true)]
    [InlineData("2001:db8::/32", "2001:db9::1", false)]
    [InlineData("::/0", "10.1.0.1", false)]
    [InlineData("10.1.0.0/16", null, false)]
    public async Task Guard_WhenAKeyHasNetworks_ShouldLetThroughTheirAddressesOnly(
        string network,
        string? address,
        bool passes
    )
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        CreateApiKeyResponse key = await CreateAsync(tester, null, [network], Permissions.UsageRead);
        bool passed = false;
        var guard = new Guard(
            _ =>
            {
                passed = true;
                return Task.CompletedTask;
            },
            fixture.Server.Services.GetRequiredService<Server.Identity.CredentialCache>(),
            fixture.Server.Services.GetRequiredService<RateLimiter>(),
            fixture.Server.Services.GetRequiredService<Server.Platform.Auditing.AuditRequests>(),
            NullLogger<Guard>.Instance
        );
        var context = new DefaultHttpContext { RequestServices = fixture.Server.Services };
        context.Request.Headers.Authorization = $"Bearer {key.ApiKey}";
        context.Connection.RemoteIpAddress = address is null ? null : IPAddress.Parse(address);
        context.SetEndpoint(
            new Endpoint(null, new EndpointMetadataCollection(new PermissionMetadata(Permissions.UsageRead)), "test")
        );

        await guard.InvokeAsync(context);

        Assert.Equal((passes, passes ? 200 : 403), (passed, context.Response.StatusCode));
    }

    [Fact]
    public async Task List_WhenItIsLong_ShouldComeInPagesNewestFirst()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        for (int i = 0; i < 4; i++)
        {
            await CreateAsync(tester, null, null, Permissions.UsageRead);
        }

        // All at one instant: the id decides.
        await tester.ExecuteAsync("UPDATE api_keys SET created_at = date_trunc('second', now())");
        var seen = new List<ApiKeySummary>();
        for (string? next = ""; next is not null; )
        {
            string after = next.Length > 0 ? $"&after={next}" : "";
            var page = await tester.SendAsync<ApiKeysResponse>(HttpMethod.Get, $"{Path}?limit=2{after}");
            Assert.InRange(page.ApiKeys.Count, 1, 2);
            seen.AddRange(page.ApiKeys);
            next = page.Next;
        }

        Assert.Equal(5, seen.Count); // and the one of the fixture
        Assert.Equal(5, seen.Select(key => key.ApiKeyId).Distinct().Count());
        foreach (string wrong in new[] { "x", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OTk6YQ" })
        {
            await tester.AssertProblemAsync(
                HttpMethod.Get,
                $"{Path}?after={wrong}",
                tester.Admin,
                null,
                400,
                "invalid_request"
            );
        }
    }

    [Fact]
    public async Task Create_WhenThereAreAThousandLiveKeys_ShouldBeRefused()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        await tester.ExecuteAsync(
            """
            INSERT INTO api_keys (enterprise_id, api_key_id, name, key_hash, scopes, created_by, created_at, revoked_at)
            SELECT $1, gen_random_uuid(), 'k', uuid_send(gen_random_uuid()), '{usage:read}', $1, now(),
                   CASE WHEN n > 998 THEN now() END
            FROM generate_series(1, 1100) n
            """,
            tester.EnterpriseId
        );
        Guid last = (await CreateAsync(tester, null, null, Permissions.UsageRead)).ApiKeyId; // the fixture's is the 999th

        var request = new CreateApiKeyRequest("one more", [Permissions.UsageRead]);
        await tester.AssertProblemAsync(HttpMethod.Post, Path, tester.Admin, request, 409, "too_many_api_keys");
        await tester.StatusAsync(HttpMethod.Delete, $"{Path}/{last}", tester.Admin);
        Assert.Equal(HttpStatusCode.Created, await tester.StatusAsync(HttpMethod.Post, Path, tester.Admin, request));
    }

    [Fact]
    public async Task Key_WhenItIsAnotherEnterprises_ShouldNotBeFound()
    {
        AccessTester owner = await AccessTester.CreateAsync(fixture.Server);
        AccessTester stranger = await AccessTester.CreateAsync(fixture.Server);
        CreateApiKeyResponse key = await CreateAsync(owner, null, null, Permissions.UsageRead);

        foreach ((HttpMethod method, string path, object body) in Changes(key.ApiKeyId))
        {
            await stranger.AssertProblemAsync(method, path, stranger.Admin, body, 404, "not_found");
        }

        Assert.NotNull(await owner.PermissionsAsync(key.ApiKey));
    }

    [Fact]
    public async Task LastUsed_WhenAKeyIsUsed_ShouldBeWrittenAndNeverMoveBack()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        CreateApiKeyResponse key = await CreateAsync(tester, null, null, Permissions.UsageRead);
        CreateApiKeyResponse unused = await CreateAsync(tester, null, null, Permissions.UsageRead);
        DateTimeOffset before = DateTimeOffset.UtcNow;
        Assert.NotNull(await tester.PermissionsAsync(key.ApiKey));

        await WriteUsesAsync();

        ApiKeySummary used = await FindAsync(tester, key.ApiKeyId);
        Assert.InRange(used.LastUsedAt!.Value, before.AddMilliseconds(-1), DateTimeOffset.UtcNow);
        Assert.Null((await FindAsync(tester, unused.ApiKeyId)).LastUsedAt);

        // Another instance has noted a later use: it stays.
        DateTimeOffset later = DateTimeOffset.UtcNow.AddMinutes(1);
        await tester.ExecuteAsync("UPDATE api_keys SET last_used_at = $1 WHERE api_key_id = $2", later, key.ApiKeyId);
        Assert.NotNull(await tester.PermissionsAsync(key.ApiKey));
        await WriteUsesAsync();
        Assert.Equal(later, (await FindAsync(tester, key.ApiKeyId)).LastUsedAt!.Value, TimeSpan.FromMilliseconds(1));
    }

    [Fact]
    public async Task LastUsed_WhenARequestIsRefused_ShouldNotCount()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        CreateApiKeyResponse key = await CreateAsync(tester, null, ["203.0.113.1"], Permissions.UsageRead);
        await tester.AssertProblemAsync(HttpMethod.Get, Validate, key.ApiKey, null, 403, "address_not_allowed");

        await WriteUsesAsync();

        Assert.Null((await FindAsync(tester, key.ApiKeyId)).LastUsedAt);
    }

    [Fact]
    public void Note_WhenAKeyIsUsedOften_ShouldWaitOnceAndNeverLoseTheLast()
    {
        var time = new FakeTimeProvider(Engines.Now);
        var uses = new ApiKeyUses(time);
        ApiKeyUse use = uses.Of(Guid.NewGuid(), Guid.NewGuid());

        for (int second = 0; second < 10; second++)
        {
            use.Note();
            use.Note();
            time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Equal(Engines.Now.AddSeconds(9), Assert.Single(uses.TakeAll()).LastUsedAt);
        Assert.Empty(uses.TakeAll());
        use.Note();
        Assert.Equal(Engines.Now.AddSeconds(10), Assert.Single(uses.TakeAll()).LastUsedAt);
    }

    [Fact]
    public void Note_WhenTheKeyIsWarm_ShouldAllocateNothing()
    {
        var uses = new ApiKeyUses(TimeProvider.System);
        ApiKeyUse use = uses.Of(Guid.NewGuid(), Guid.NewGuid());
        use.Note();

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10_000; i++)
        {
            use.Note();
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private Task WriteUsesAsync() =>
        fixture.Server.Services.GetRequiredService<ApiKeyUseWriter>().WriteAsync(TestContext.Current.CancellationToken);

    private static (HttpMethod Method, string Path, object Body)[] Changes(Guid key) =>
        [
            (HttpMethod.Put, $"{Path}/{key}", new ChangeApiKeyRequest("another name")),
            (HttpMethod.Post, $"{Path}/{key}/rotate", new RotateApiKeyRequest()),
        ];

    private static Task<CreateApiKeyResponse> CreateAsync(
        AccessTester tester,
        DateTimeOffset? expiresAt,
        string[]? networks,
        params string[] scopes
    ) =>
        tester.SendAsync<CreateApiKeyResponse>(
            HttpMethod.Post,
            Path,
            new CreateApiKeyRequest("a key", scopes, expiresAt, networks),
            HttpStatusCode.Created
        );

    private static Task<CreateApiKeyResponse> RotateAsync(AccessTester tester, Guid key, int overlapHours) =>
        tester.SendAsync<CreateApiKeyResponse>(
            HttpMethod.Post,
            $"{Path}/{key}/rotate",
            new RotateApiKeyRequest(overlapHours),
            HttpStatusCode.Created
        );

    private static async Task<ApiKeySummary> FindAsync(AccessTester tester, Guid key) =>
        (await tester.SendAsync<ApiKeysResponse>(HttpMethod.Get, $"{Path}?limit=200")).ApiKeys.Single(listed =>
            listed.ApiKeyId == key
        );
}
