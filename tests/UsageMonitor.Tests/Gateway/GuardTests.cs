using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity;
using Xunit;

namespace UsageMonitor.Tests.Gateway;

public sealed class GuardTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    private IdentityHost Host => fixture.Host;

    [Fact]
    public async Task Guard_WhenAnEndpointNamesNoPermission_ShouldRefuseEverybody()
    {
        string anOperator = (await Host.LoginOperatorAsync()).AccessToken;

        foreach (string? bearer in new[] { null, anOperator })
        {
            using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Get, "/v1/forgotten", bearer);
            await IdentityHost.AssertProblemAsync(response, 403, "forbidden");
        }
    }

    [Fact]
    public async Task Guard_WhenNothingIsPresented_ShouldAskForIt()
    {
        using HttpResponseMessage missing = await Host.SendAsync(HttpMethod.Get, "/v1/usage", null);
        using HttpResponseMessage otherScheme = await Host.SendAsync(
            HttpMethod.Get,
            "/v1/usage",
            null,
            null,
            ("Authorization", "Basic dXNlcjpwYXNz")
        );

        await IdentityHost.AssertProblemAsync(missing, 401, "unauthenticated");
        Assert.Equal("Bearer", missing.Headers.WwwAuthenticate.ToString());
        await IdentityHost.AssertProblemAsync(otherScheme, 401, "invalid_token");
    }

    [Fact]
    public async Task Guard_WhenNoEndpointAnswers_ShouldLeaveItToRouting()
    {
        Assert.Equal(HttpStatusCode.NotFound, await Host.StatusAsync(HttpMethod.Get, "/nowhere", null));
        Assert.Equal(HttpStatusCode.MethodNotAllowed, await Host.StatusAsync(HttpMethod.Put, "/v1/usage", null));
    }

    [Fact]
    public async Task Guard_WhenTheEnterpriseIsSuspended_ShouldRefuseItsPeopleAndKeys()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        CreateApiKeyResponse key = await Host.CreateApiKeyAsync(admin, Permissions.UsageRead);
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/usage", key.ApiKey));
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        await using (
            ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(
                admin.User.EnterpriseId!.Value,
                cancellationToken
            )
        )
        {
            await own.ExecuteAsync("UPDATE enterprises SET status = 'SUSPENDED'", [], cancellationToken);
            await Host.Services.GetRequiredService<IdentityVersion>().CommitAsync(own, cancellationToken);
        }

        foreach (string bearer in new[] { key.ApiKey, admin.AccessToken })
        {
            using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Get, "/v1/usage", bearer);
            await IdentityHost.AssertProblemAsync(response, 403, "enterprise_suspended");
        }

        using HttpResponseMessage login = await Host.PostAsync(
            "/v1/auth/login",
            new LoginRequest(admin.User.Email, IdentityHost.AdminPassword),
            null
        );
        await IdentityHost.AssertProblemAsync(login, 403, "enterprise_suspended");
    }

    [Fact]
    public async Task Guard_WhenRolesChange_ShouldNotWaitForTheTokenToExpire()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/usage", admin.AccessToken));
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using NpgsqlCommand change = owner.CreateCommand(
            $"""
            SELECT set_config('app.enterprise_id', '{admin.User.EnterpriseId}', false);
            DELETE FROM user_roles WHERE user_id = '{admin.User.UserId}';
            UPDATE identity_version SET version = version + 1;
            """
        );
        await change.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);

        await Eventually.TrueAsync(
            async () =>
                await Host.StatusAsync(HttpMethod.Get, "/v1/usage", admin.AccessToken) == HttpStatusCode.Forbidden,
            "the person without roles is refused"
        );
    }
}
