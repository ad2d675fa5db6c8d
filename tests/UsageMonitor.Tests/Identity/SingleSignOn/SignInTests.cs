using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>People who sign in by their enterprise's provider: who they become and what they may do.</summary>
public sealed class SignInTests(SingleSignOnFixture fixture) : IClassFixture<SingleSignOnFixture>
{
    private readonly OpenIdProvider _provider = fixture.Provider.Reset();

    [Fact]
    public async Task SignIn_WhenAPersonIsUnknown_ShouldMakeThemWithTheRolesOfTheirGroups()
    {
        SignOnEnterprise enterprise = await CreateAsync(request =>
            request with
            {
                RoleMapping = [new("analysts", "Analyst"), new("bosses", "EnterpriseAdmin")],
            }
        );
        _provider.Person = new("anna", enterprise.Address("Anna")) { Groups = ["analysts", "others"] };
        using var browser = new SignOnBrowser(fixture.Server);

        using HttpResponseMessage answer = await browser.SignInAsync(enterprise.ProviderId, "/?range=7d");
        ValidateResponse who = (await browser.WhoAsync())!;

        Assert.Equal(HttpStatusCode.SeeOther, answer.StatusCode);
        Assert.Equal("/?range=7d", answer.Headers.Location!.OriginalString);
        Assert.Equal(enterprise.Acme.EnterpriseId, who.EnterpriseId);
        Assert.Equal(enterprise.Address("anna"), who.Email);
        Assert.Contains(Permissions.UsageRead, who.Permissions);
        Assert.DoesNotContain(Permissions.PeopleWrite, who.Permissions);
        const string Origin = "SELECT origin FROM users WHERE enterprise_id = $1 AND user_id = $2";
        Assert.Equal("SSO", await enterprise.SqlAsync(Origin, who.UserId!.Value));
    }

    [Fact]
    public async Task SignIn_WhenTheGroupsHaveChanged_ShouldReplaceTheRolesThatCameFromThem()
    {
        SignOnEnterprise enterprise = await CreateAsync(
            request =>
                request with
                {
                    RoleMapping = [new("analysts", "Analyst"), new("auditors", "Auditor"), new("gone", "Removed")],
                    DefaultRoles = ["Employee"],
                },
            role: "Removed"
        );
        ProviderPerson anna = new("anna", enterprise.Address("anna")) { Groups = ["analysts", "gone"] };
        _provider.Person = anna;
        using var browser = new SignOnBrowser(fixture.Server);
        Guid userId = await SignedInAsync(browser, enterprise);
        Assert.Equal(["Analyst", "Employee", "Removed"], await enterprise.RolesAsync(userId));

        // By hand, and it stays; a role that the enterprise does not have any more is not given.
        await enterprise.ChangeAsync(
            "INSERT INTO user_roles (enterprise_id, user_id, role_name) VALUES ($1, $2, 'EnterpriseAdmin')",
            userId
        );
        await enterprise.ChangeAsync("DELETE FROM roles WHERE enterprise_id = $1");
        _provider.Person = anna with { Groups = ["auditors", "gone"] };
        using var again = new SignOnBrowser(fixture.Server);
        Assert.Equal(userId, await SignedInAsync(again, enterprise));

        Assert.Equal(["Auditor", "Employee", "EnterpriseAdmin"], await enterprise.RolesAsync(userId));
        _provider.Person = anna;
        await enterprise.UpdateAsync(enterprise.Request() with { ClientSecret = null });
        await SignedInAsync(again, enterprise);
        Assert.Equal(["EnterpriseAdmin"], await enterprise.RolesAsync(userId));
        Assert.Contains(Permissions.SettingsWrite, (await again.WhoAsync())!.Permissions);
    }

    [Fact]
    public async Task SignIn_WhenALocalPersonHasTheAddress_ShouldLinkThemAndKeepWhatTheyHave()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        Guid local = await enterprise.AddPersonAsync(enterprise.Address("anna"), null, "Analyst");
        _provider.Person = new("anna", enterprise.Address("ANNA"));
        using var browser = new SignOnBrowser(fixture.Server);

        Assert.Equal(local, await SignedInAsync(browser, enterprise));
        Assert.Equal(["Analyst"], await enterprise.RolesAsync(local));
    }

    [Fact]
    public async Task SignIn_WhenTheAddressHasChanged_ShouldFindThePersonBySubject()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        Guid userId = await SignedInAsync(browser, enterprise);

        _provider.Person = new("anna", enterprise.Address("anna.married"));

        Assert.Equal(userId, await SignedInAsync(browser, enterprise));
        Assert.Equal(2, await enterprise.PeopleAsync());
    }

    [Fact]
    public async Task SignIn_WhenTheAddressWasGivenToSomebodyElse_ShouldNotLetThemIntoTheOldAccount()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        await SignedInAsync(browser, enterprise);

        _provider.Person = new("another anna", enterprise.Address("anna"));

        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "belongs to another account");
    }

    [Theory]
    [InlineData(true, false, "email", true)]
    [InlineData(false, false, "email", false)]
    [InlineData(false, true, "email", false)]
    [InlineData(null, false, "email", false)]
    [InlineData(null, true, "email", true)]
    // email_verified speaks of the claim email: of another claim it says nothing.
    [InlineData(true, false, "upn", false)]
    [InlineData(true, true, "upn", true)]
    public async Task SignIn_WhenTheProviderSaysOfTheAddress_ShouldTakeVerifiedOnesOnly(
        bool? verified,
        bool trusted,
        string claim,
        bool letsIn
    )
    {
        SignOnEnterprise enterprise = await CreateAsync(request =>
            request with
            {
                TrustEmail = trusted,
                EmailClaim = claim,
            }
        );
        string email = enterprise.Address("anna");
        _provider.Person = new("anna", email) { EmailVerified = verified };
        _provider.Spoil = token => token["upn"] = email;

        if (letsIn)
        {
            using var browser = new SignOnBrowser(fixture.Server);
            await SignedInAsync(browser, enterprise);
        }
        else
        {
            await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "not verified");
        }
    }

    [Theory]
    [InlineData("anna@elsewhere.example")]
    [InlineData("anna@sub.{0}")]
    [InlineData("anna@{0}.elsewhere.example")]
    [InlineData("anna@x{0}")]
    public async Task SignIn_WhenTheAddressIsOfAForeignDomain_ShouldRefuse(string email)
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", string.Format(null, email, enterprise.Domain));

        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "cannot be used");
    }

    [Theory]
    [InlineData(null)]
    [InlineData("anna")]
    [InlineData("anna@a@b")]
    public async Task SignIn_WhenThereIsNoAddress_ShouldRefuse(string? email)
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", email);

        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "did not tell your e-mail");
    }

    [Fact]
    public async Task SignIn_WhenTheAddressIsAnotherEnterprises_ShouldRefuseAsForAForeignDomain()
    {
        SignOnEnterprise a = await CreateAsync();
        SignOnEnterprise b = await CreateAsync();
        await b.AddPersonAsync(a.Address("victim"), null, "EnterpriseAdmin");
        _provider.Person = new("attacker", a.Address("victim"));

        await AssertRefusedAsync(a, HttpStatusCode.Forbidden, "cannot be used");
        const string Links = "SELECT count(*) FROM external_identities WHERE enterprise_id = $1";
        Assert.Equal(0L, await a.SqlAsync(Links));
        Assert.Equal(0L, await b.SqlAsync(Links));
    }

    [Fact]
    public async Task SignIn_WhenThePersonIsDeactivated_ShouldRefuse()
    {
        const string Deactivate = "UPDATE users SET deactivated_at = now() WHERE enterprise_id = $1 AND user_id = $2";
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        Guid known = await SignedInAsync(browser, enterprise);
        await enterprise.ChangeAsync(Deactivate, known);
        Assert.Null(await browser.WhoAsync());
        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "deactivated");

        // Also one who has never signed on, and one whose address was taken away with the account.
        Guid bert = await enterprise.AddPersonAsync(enterprise.Address("bert"), null, "Analyst");
        await enterprise.ChangeAsync(Deactivate, bert);
        _provider.Person = new("bert", enterprise.Address("bert"));
        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "deactivated");
        await enterprise.ChangeAsync(
            "UPDATE users SET email = NULL, email_hash = NULL WHERE enterprise_id = $1 AND user_id = $2",
            bert
        );
        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "deactivated");
    }

    [Fact]
    public async Task SignIn_WhenPeopleAreNotMadeJustInTime_ShouldLetInOnlyThoseWhoAreThere()
    {
        SignOnEnterprise enterprise = await CreateAsync(request => request with { JustInTime = false });
        _provider.Person = new("anna", enterprise.Address("anna"));
        await AssertRefusedAsync(enterprise, HttpStatusCode.Forbidden, "no account here yet");

        Guid invited = await enterprise.AddPersonAsync(enterprise.Address("anna"), null, "Analyst");
        using var browser = new SignOnBrowser(fixture.Server);

        Assert.Equal(invited, await SignedInAsync(browser, enterprise));
    }

    [Fact]
    public async Task SignIn_WhenTheEnterpriseIsSuspended_ShouldLeadNowhere()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        using var browser = new SignOnBrowser(fixture.Server);
        string callback = await browser.LeaveAsync(enterprise.ProviderId);
        await enterprise.ChangeAsync("UPDATE enterprises SET status = 'SUSPENDED' WHERE enterprise_id = $1");

        using HttpResponseMessage back = await browser.GetAsync(callback);
        using HttpResponseMessage begun = await browser.GetAsync($"/sign-in/sso/{enterprise.ProviderId}");

        Assert.Equal(HttpStatusCode.NotFound, back.StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, begun.StatusCode);
        Assert.Equal(0, _provider.Redeemed);
    }

    [Fact]
    public async Task SignIn_WhenTheProvidersKeyHasChanged_ShouldFetchTheNewOne()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        await SignedInAsync(browser, enterprise);

        _provider.RotateKey();
        await SignedInAsync(browser, enterprise);
        _provider.RotateKey(OpenIdProvider.NewRsaKey());
        await SignedInAsync(browser, enterprise);
    }

    [Fact]
    public async Task SignIn_WhenTheProviderIsAway_ShouldSayThatItDoesNotAnswer()
    {
        await using OpenIdProvider provider = await OpenIdProvider.StartAsync();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, provider);
        using var browser = new SignOnBrowser(fixture.Server);
        string callback = await browser.LeaveAsync(enterprise.ProviderId);
        await provider.StopAsync();

        using HttpResponseMessage back = await browser.GetAsync(callback);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, back.StatusCode);
        Assert.Contains("does not answer", await TextAsync(back), StringComparison.Ordinal);

        // One that has never been asked: there is not even an address to send people to.
        await enterprise.UpdateAsync(enterprise.Request() with { Issuer = provider.Issuer + "never-asked" });
        using HttpResponseMessage begun = await browser.GetAsync($"/sign-in/sso/{enterprise.ProviderId}");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, begun.StatusCode);
        Assert.Contains("does not answer", await TextAsync(begun), StringComparison.Ordinal);
    }

    [Fact]
    public async Task SignIn_WhenTwoTabsAreAtItAtOnce_ShouldLetBothInAsOnePerson()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        string[] callbacks =
        [
            await browser.LeaveAsync(enterprise.ProviderId),
            await browser.LeaveAsync(enterprise.ProviderId),
        ];

        HttpResponseMessage[] answers = await Task.WhenAll(callbacks.Select(browser.GetAsync));

        Assert.All(answers, answer => Assert.Equal(HttpStatusCode.SeeOther, answer.StatusCode));
        Assert.Equal(2, await enterprise.PeopleAsync()); // with the admin
        Assert.NotNull(await browser.WhoAsync());
    }

    [Theory]
    [InlineData("//elsewhere.example")]
    [InlineData("/\\elsewhere.example")]
    [InlineData("https://elsewhere.example/")]
    [InlineData("javascript:alert(1)")]
    [InlineData("/\t/elsewhere.example")]
    public async Task SignIn_WhenTheReturnAddressLeadsElsewhere_ShouldLeadHome(string returnUrl)
    {
        SignOnEnterprise enterprise = await CreateAsync();
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);

        using HttpResponseMessage answer = await browser.SignInAsync(enterprise.ProviderId, returnUrl);

        Assert.Equal("/", answer.Headers.Location!.OriginalString);
    }

    [Fact]
    public async Task Provider_WhenTakenOutOfUse_ShouldEndItsSessionsAndTakeItsRoles()
    {
        SignOnEnterprise enterprise = await CreateAsync(request => request with { DefaultRoles = ["Analyst"] });
        _provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        Guid userId = await SignedInAsync(browser, enterprise);
        string callback = await browser.LeaveAsync(enterprise.ProviderId);
        IdentityProviderRequest request = enterprise.Request() with { ClientSecret = null };

        await enterprise.UpdateAsync(request with { DefaultRoles = ["Analyst"], Status = "INACTIVE" });

        Assert.Null(await browser.WhoAsync());
        Assert.Empty(await enterprise.RolesAsync(userId));
        using HttpResponseMessage back = await browser.GetAsync(callback);
        Assert.Equal(HttpStatusCode.NotFound, back.StatusCode);

        await enterprise.UpdateAsync(request with { DefaultRoles = ["Analyst"] });
        Assert.Equal(userId, await SignedInAsync(browser, enterprise));
        using HttpResponseMessage deleted = await enterprise.SendAsync(
            HttpMethod.Delete,
            "/" + enterprise.ProviderId,
            null
        );
        Assert.Equal(HttpStatusCode.NoContent, deleted.StatusCode);
        Assert.Null(await browser.WhoAsync());
        Assert.Empty(await enterprise.RolesAsync(userId));
        using HttpResponseMessage gone = await browser.GetAsync($"/sign-in/sso/{enterprise.ProviderId}");
        Assert.Equal(HttpStatusCode.NotFound, gone.StatusCode);
    }

    private async Task<SignOnEnterprise> CreateAsync(
        Func<IdentityProviderRequest, IdentityProviderRequest>? with = null,
        string? role = null
    ) => await SignOnEnterprise.CreateAsync(fixture.Server, _provider, with, role);

    private static async Task<Guid> SignedInAsync(SignOnBrowser browser, SignOnEnterprise enterprise)
    {
        using HttpResponseMessage answer = await browser.SignInAsync(enterprise.ProviderId);
        Assert.True(answer.StatusCode == HttpStatusCode.SeeOther, $"{answer.StatusCode}: {await TextAsync(answer)}");
        ValidateResponse who = (await browser.WhoAsync())!;
        Assert.Equal(enterprise.Acme.EnterpriseId, who.EnterpriseId);
        return who.UserId!.Value;
    }

    private async Task AssertRefusedAsync(SignOnEnterprise enterprise, HttpStatusCode status, string text)
    {
        long people = await enterprise.PeopleAsync();
        using var browser = new SignOnBrowser(fixture.Server);

        using HttpResponseMessage answer = await browser.SignInAsync(enterprise.ProviderId);

        string html = await TextAsync(answer);
        Assert.True(answer.StatusCode == status, $"{answer.StatusCode}: {html}");
        Assert.Contains(text, html, StringComparison.Ordinal);
        Assert.Null(await browser.WhoAsync());
        Assert.Equal(people, await enterprise.PeopleAsync());
    }

    private static Task<string> TextAsync(HttpResponseMessage response) =>
        response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
}
