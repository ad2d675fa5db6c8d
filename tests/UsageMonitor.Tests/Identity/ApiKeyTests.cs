using System.Diagnostics;
using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class ApiKeyTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    private const string Path = "/v1/admin/api-keys";

    private IdentityHost Host => fixture.Host;

    [Fact]
    public async Task Create_WhenGivenScopes_ShouldAllowThoseOnly()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();

        CreateApiKeyResponse key = await Host.CreateApiKeyAsync(admin, Permissions.UsageWrite);

        Assert.Matches("^um_[A-Za-z0-9_-]{43}$", key.ApiKey);
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Post, "/v1/events", key.ApiKey));
        using HttpResponseMessage refused = await Host.SendAsync(HttpMethod.Get, "/v1/usage", key.ApiKey);
        string detail = await IdentityHost.AssertProblemAsync(refused, 403, "forbidden");
        Assert.Contains(Permissions.UsageRead, detail, StringComparison.Ordinal);
        using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Get, "/v1/auth/validate", key.ApiKey);
        var valid = await IdentityHost.ReadAsync<ValidateResponse>(response, HttpStatusCode.OK);
        Assert.Equal(key.ApiKeyId, valid.ApiKeyId);
        Assert.Equal(admin.User.EnterpriseId, valid.EnterpriseId);
        Assert.Null(valid.UserId);
        Assert.Equal([Permissions.UsageWrite], valid.Permissions);
    }

    [Theory]
    [InlineData("a key", "")]
    [InlineData("a key", "usage:everything")]
    [InlineData("a key", "enterprises:write")]
    [InlineData("a key", "usage:read,api-keys:write")]
    [InlineData("", "usage:read")]
    public async Task Create_WhenItIsWrong_ShouldBeA400(string name, string scopes)
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        var request = new CreateApiKeyRequest(name, scopes.Split(',', StringSplitOptions.RemoveEmptyEntries));

        using HttpResponseMessage response = await Host.PostAsync(Path, request, admin.AccessToken);

        await IdentityHost.AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task Revoke_WhenAnotherInstanceHasTheKeyCached_ShouldBeRefusedThereWithinASecond()
    {
        await using IdentityHost other = await IdentityHost.StartAsync(fixture.Database);
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        CreateApiKeyResponse key = await Host.CreateApiKeyAsync(admin, Permissions.UsageRead);
        CreateApiKeyResponse kept = await Host.CreateApiKeyAsync(admin, Permissions.UsageRead);
        foreach (IdentityHost host in new[] { Host, other })
        {
            Assert.Equal(HttpStatusCode.OK, await host.StatusAsync(HttpMethod.Get, "/v1/usage", key.ApiKey));
        }

        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(
                HttpStatusCode.NoContent,
                await Host.StatusAsync(HttpMethod.Delete, $"{Path}/{key.ApiKeyId}", admin.AccessToken)
            );
        }

        long revokedAt = Stopwatch.GetTimestamp();
        Assert.Equal(HttpStatusCode.Unauthorized, await Host.StatusAsync(HttpMethod.Get, "/v1/usage", key.ApiKey));
        await Eventually.TrueAsync(
            async () => await other.StatusAsync(HttpMethod.Get, "/v1/usage", key.ApiKey) == HttpStatusCode.Unauthorized,
            "the other instance refuses the revoked key"
        );
        Assert.InRange(Stopwatch.GetElapsedTime(revokedAt), TimeSpan.Zero, TimeSpan.FromSeconds(1));
        Assert.Equal(HttpStatusCode.OK, await other.StatusAsync(HttpMethod.Get, "/v1/usage", kept.ApiKey));

        using HttpResponseMessage list = await Host.SendAsync(HttpMethod.Get, Path, admin.AccessToken);
        IReadOnlyList<ApiKeySummary> listed = (
            await IdentityHost.ReadAsync<ApiKeysResponse>(list, HttpStatusCode.OK)
        ).ApiKeys;
        Assert.Equal(2, listed.Count);
        Assert.NotNull(listed.Single(k => k.ApiKeyId == key.ApiKeyId).RevokedAt);
        Assert.Null(listed.Single(k => k.ApiKeyId == kept.ApiKeyId).RevokedAt);
    }

    [Fact]
    public async Task Revoke_WhenTheKeyIsAnotherEnterprises_ShouldNotFindIt()
    {
        LoginResponse owner = await Host.CreateEnterpriseAsync();
        LoginResponse stranger = await Host.CreateEnterpriseAsync();
        CreateApiKeyResponse key = await Host.CreateApiKeyAsync(owner, Permissions.UsageRead);

        using HttpResponseMessage response = await Host.SendAsync(
            HttpMethod.Delete,
            $"{Path}/{key.ApiKeyId}",
            stranger.AccessToken
        );

        await IdentityHost.AssertProblemAsync(response, 404, "not_found");
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/usage", key.ApiKey));
    }
}
