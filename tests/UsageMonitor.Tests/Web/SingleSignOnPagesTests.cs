using System.Net;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity.SingleSignOn;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The pages of single sign-on, by their forms.</summary>
public sealed class SingleSignOnPagesTests(SingleSignOnFixture fixture) : IClassFixture<SingleSignOnFixture>
{
    [Fact]
    public async Task SignOn_WhenAnAddressIsOfAClaimedDomain_ShouldLeadToItsProvider()
    {
        OpenIdProvider provider = fixture.Provider.Reset();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, provider);
        string email = enterprise.Address("anna");
        provider.Person = new("anna", email);
        using var browser = new SignOnBrowser(fixture.Server);

        using HttpResponseMessage answer = await browser.SubmitAsync(
            "/sign-in/sso",
            "/sign-in/sso",
            ("email", email.ToUpperInvariant()),
            ("returnUrl", "/api-keys")
        );

        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        string refresh = Assert.Single(answer.Headers.GetValues("Refresh"));
        string location = refresh["0;url=".Length..];
        Assert.StartsWith(provider.Issuer, location, StringComparison.Ordinal);
        Assert.Contains("login_hint=" + Uri.EscapeDataString(email), location, StringComparison.Ordinal);
        using HttpResponseMessage back = await browser.GetAsync(await browser.RedirectAsync(location));
        Assert.Equal("/api-keys", back.Headers.Location!.OriginalString);
        Assert.Equal(email, (await browser.WhoAsync())!.Email);
    }

    [Theory]
    [InlineData("anna@nobody-has-claimed.example")]
    [InlineData("operator@usage-monitor.example")]
    [InlineData("no address")]
    public async Task SignOn_WhenTheDomainIsUnknown_ShouldSayTheSameToAll(string email)
    {
        using var browser = new SignOnBrowser(fixture.Server);

        using HttpResponseMessage answer = await browser.SubmitAsync("/sign-in/sso", "/sign-in/sso", ("email", email));

        Assert.Equal(HttpStatusCode.UnprocessableEntity, answer.StatusCode);
        Assert.Contains("is not set up for this address", await TextAsync(answer), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pages_WhenAnAdminSetsUpAProvider_ShouldShowTestChangeAndRemoveIt()
    {
        OpenIdProvider provider = fixture.Provider.Reset();
        Acme acme = await Acme.CreateAsync(fixture.Server);
        string domain = $"acme-{Guid.NewGuid():N}.example";
        using SignOnBrowser browser = await SignedInAsync(acme);
        (string, string)[] form =
        [
            ("name", "Acme's Entra"),
            ("issuer", provider.Issuer),
            ("clientId", OpenIdProvider.ClientId),
            ("clientSecret", OpenIdProvider.ClientSecret),
            ("domains", domain + "\r\nsub." + domain),
            ("scopes", "openid email"),
            ("rolesClaim", "groups"),
            ("mappedValue", "analysts"),
            ("mappedRole", "Analyst"),
            ("mappedValue", ""),
            ("mappedRole", "Employee"),
            ("defaultRoles", "Employee"),
            ("justInTime", "true"),
            ("active", "true"),
        ];

        using HttpResponseMessage wrong = await browser.SubmitAsync(
            "/single-sign-on/new",
            "/single-sign-on/new",
            [.. form, ("mappedValue", "x"), ("mappedRole", "Operator")]
        );
        Assert.Equal(HttpStatusCode.BadRequest, wrong.StatusCode);
        string again = await TextAsync(wrong);
        Assert.Contains("has no role &#x27;Operator&#x27;", again, StringComparison.Ordinal);
        Assert.Contains("value=\"analysts\"", again, StringComparison.Ordinal);
        Assert.DoesNotContain("not/only", again, StringComparison.Ordinal);

        using HttpResponseMessage made = await browser.SubmitAsync("/single-sign-on/new", "/single-sign-on/new", form);
        Assert.Equal(HttpStatusCode.SeeOther, made.StatusCode);
        string page = made.Headers.Location!.OriginalString;
        using HttpResponseMessage shown = await browser.GetAsync(page);
        string html = await TextAsync(shown);
        Assert.Contains($"/sign-in/sso/callback/{acme.EnterpriseId}", html, StringComparison.Ordinal);
        Assert.Contains("sub." + domain, html, StringComparison.Ordinal);
        Assert.DoesNotContain("not/only", html, StringComparison.Ordinal);

        using HttpResponseMessage tested = await browser.SubmitAsync(page, page + "/test");
        Assert.Contains("Nothing stands in the way", await TextAsync(tested), StringComparison.Ordinal);

        using HttpResponseMessage changed = await browser.SubmitAsync(
            page,
            page,
            [.. form.Where(field => field.Item1 is not ("clientSecret" or "active"))]
        );
        Assert.Contains("Saved.", await TextAsync(changed), StringComparison.Ordinal);
        using HttpResponseMessage list = await browser.GetAsync("/single-sign-on");
        string listed = await TextAsync(list);
        Assert.Contains("Acme&#x27;s Entra", listed, StringComparison.Ordinal);
        Assert.Contains("Inactive", listed, StringComparison.Ordinal);

        using HttpResponseMessage removed = await browser.SubmitAsync(page, page + "/delete");
        Assert.Equal(HttpStatusCode.SeeOther, removed.StatusCode);
        using HttpResponseMessage gone = await browser.GetAsync(page);
        Assert.Equal(HttpStatusCode.NotFound, gone.StatusCode);
    }

    [Fact]
    public async Task Pages_WhenSomebodyMayOnlyRead_ShouldOfferNothingToChange()
    {
        OpenIdProvider provider = fixture.Provider.Reset();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(
            fixture.Server,
            provider,
            request => request with { DefaultRoles = ["Auditor"] }
        );
        provider.Person = new("anna", enterprise.Address("anna"));
        using var browser = new SignOnBrowser(fixture.Server);
        using HttpResponseMessage signedOn = await browser.SignInAsync(enterprise.ProviderId);
        string page = $"/single-sign-on/{enterprise.ProviderId}";

        using HttpResponseMessage shown = await browser.GetAsync(page);
        string html = await TextAsync(shown);
        using HttpResponseMessage added = await browser.GetAsync("/single-sign-on/new");
        using HttpResponseMessage deleted = await browser.SubmitAsync(page, page + "/delete");

        Assert.Equal(HttpStatusCode.OK, shown.StatusCode);
        Assert.Contains("<fieldset disabled", html, StringComparison.Ordinal);
        Assert.DoesNotContain("Remove the provider", html, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.Forbidden, added.StatusCode);
        Assert.Equal(HttpStatusCode.Forbidden, deleted.StatusCode);
    }

    private async Task<SignOnBrowser> SignedInAsync(Acme acme)
    {
        var browser = new SignOnBrowser(fixture.Server);
        using HttpResponseMessage answer = await browser.SubmitAsync(
            "/sign-in",
            "/sign-in",
            ("email", acme.Admin.User.Email),
            ("password", Acme.AdminPassword)
        );
        Assert.Equal(HttpStatusCode.SeeOther, answer.StatusCode);
        return browser;
    }

    private static Task<string> TextAsync(HttpResponseMessage response) =>
        response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
}
