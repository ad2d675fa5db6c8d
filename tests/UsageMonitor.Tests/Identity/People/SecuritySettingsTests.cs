using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.People;

public sealed class SecuritySettingsTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Path = "/v1/admin/security-settings";

    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Put_WhenASecondFactorIsAskedFor_ShouldHoldBackWhoHasShownNone()
    {
        Acme acme = await Acme.CreateAsync(Server);
        LoginResponse auditor = await Server.JoinAsync(acme.Admin, RolePermissions.Auditor);
        Assert.Equal(
            new SecuritySettings(false, true),
            await Server.GetAsync<SecuritySettings>(Path, auditor.AccessToken)
        );

        using HttpResponseMessage refused = await Server.PutAsync(
            Path,
            auditor.AccessToken,
            new SecuritySettings(true, true)
        );
        await RunningServer.AssertProblemAsync(refused, 403, "forbidden");
        using HttpResponseMessage set = await Server.PutAsync(
            Path,
            acme.Admin.AccessToken,
            new SecuritySettings(true, true)
        );
        await PeopleOf.EnsureAsync(set, HttpStatusCode.OK);

        using HttpResponseMessage held = await Server.SendAsync(HttpMethod.Get, Path, auditor.AccessToken);
        await RunningServer.AssertProblemAsync(held, 403, "second_factor_required");
    }

    [Fact]
    public async Task Put_WhenNobodyCouldSignInAnyMore_ShouldChangeNothing()
    {
        Acme acme = await Acme.CreateAsync(Server);

        using HttpResponseMessage off = await Server.PutAsync(
            Path,
            acme.Admin.AccessToken,
            new SecuritySettings(true, false)
        );
        using HttpResponseMessage half = await Server.PutAsync(
            Path,
            acme.Admin.AccessToken,
            new SecuritySettings(true, null)
        );

        await RunningServer.AssertProblemAsync(off, 409, "no_identity_provider");
        await RunningServer.AssertProblemAsync(half, 400, "invalid_request");
        Assert.Equal(
            new SecuritySettings(false, true),
            await Server.GetAsync<SecuritySettings>(Path, acme.Admin.AccessToken)
        );
        await Server.LoginAsync(acme.Admin.User.Email, Acme.AdminPassword);
    }
}
