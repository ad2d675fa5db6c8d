using System.Net;
using System.Net.Http.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>An enterprise that has switched passwords off.</summary>
public sealed class PasswordRuleTests(SingleSignOnFixture fixture) : IClassFixture<SingleSignOnFixture>
{
    private const string SwitchOff = "UPDATE enterprises SET password_sign_in = false WHERE enterprise_id = $1";

    [Fact]
    public async Task Login_WhenPasswordsAreOff_ShouldAnswerAsToAWrongPassword()
    {
        OpenIdProvider provider = fixture.Provider.Reset();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, provider);
        string anna = enterprise.Address("anna");
        await enterprise.AddPersonAsync(anna, Acme.AdminPassword, "Analyst");
        LoginResponse before = await fixture.Server.LoginAsync(anna, Acme.AdminPassword);
        Assert.Equal(HttpStatusCode.OK, await ValidateAsync(before.AccessToken));

        await enterprise.ChangeAsync(SwitchOff);

        using HttpResponseMessage right = await LoginAsync(anna, Acme.AdminPassword);
        using HttpResponseMessage wrong = await LoginAsync(anna, "a wrong password");
        string refused = await RunningServer.AssertProblemAsync(right, 401, "invalid_credentials");
        Assert.Equal(refused, await RunningServer.AssertProblemAsync(wrong, 401, "invalid_credentials"));

        // What had begun with a password is over too; and the provider still lets her in.
        Assert.Equal(HttpStatusCode.Unauthorized, await ValidateAsync(before.AccessToken));
        provider.Person = new("anna", anna);
        using var browser = new SignOnBrowser(fixture.Server);
        using HttpResponseMessage signedOn = await browser.SignInAsync(enterprise.ProviderId);
        Assert.Equal(anna, (await browser.WhoAsync())!.Email);
    }

    [Fact]
    public async Task Login_WhenPasswordsAreOff_ShouldStillLetAnAdminSetUpASecondFactorButNothingElse()
    {
        OpenIdProvider provider = fixture.Provider.Reset();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, provider);
        await enterprise.ChangeAsync(SwitchOff);

        using HttpResponseMessage login = await LoginAsync(enterprise.Acme.Admin.User.Email, Acme.AdminPassword);
        LoginResponse admin = await RunningServer.ReadAsync<LoginResponse>(login, HttpStatusCode.OK);
        using HttpResponseMessage refused = await fixture.Server.SendAsync(
            HttpMethod.Get,
            SignOnEnterprise.Path,
            admin.AccessToken
        );

        Assert.Equal(HttpStatusCode.OK, await ValidateAsync(admin.AccessToken));
        await RunningServer.AssertProblemAsync(refused, 403, "second_factor_required");
    }

    [Fact]
    public async Task Login_WhenPasswordsAreOffAndGuessed_ShouldNotBeForgottenByTheThrottle()
    {
        OpenIdProvider provider = fixture.Provider.Reset();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, provider);
        string anna = enterprise.Address("anna");
        await enterprise.AddPersonAsync(anna, Acme.AdminPassword, "Analyst");
        await enterprise.ChangeAsync(SwitchOff);

        var statuses = new List<HttpStatusCode>();
        for (int attempt = 0; attempt < 11; attempt++)
        {
            using HttpResponseMessage response = await LoginAsync(anna, Acme.AdminPassword);
            statuses.Add(response.StatusCode);
        }

        // A right password counts as a failure like any other; else its guesser would see the count begin anew.
        Assert.Contains(HttpStatusCode.TooManyRequests, statuses);
        Assert.DoesNotContain(HttpStatusCode.OK, statuses);
    }

    private Task<HttpResponseMessage> LoginAsync(string email, string password) =>
        fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/auth/login",
            bearer: null,
            JsonContent.Create(new LoginRequest(email, password))
        );

    private async Task<HttpStatusCode> ValidateAsync(string token)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(HttpMethod.Get, "/v1/auth/validate", token);
        return response.StatusCode;
    }
}
