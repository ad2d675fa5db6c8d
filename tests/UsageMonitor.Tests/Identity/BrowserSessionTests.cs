using System.Net;
using System.Net.Http.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class BrowserSessionTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    private static readonly (string, string) FromUs = ("Sec-Fetch-Site", "same-origin");
    private static readonly (string, string) FromElsewhere = ("Sec-Fetch-Site", "cross-site");

    private IdentityHost Host => fixture.Host;

    [Fact]
    public async Task SignIn_WhenThePasswordIsRight_ShouldSetACookieThatOpensPages()
    {
        using HttpResponseMessage signedIn = await SignInAsync(FromUs);
        string setCookie = Assert.Single(signedIn.Headers.GetValues("Set-Cookie"));
        string cookie = setCookie.Split(';')[0];

        Assert.Contains("httponly", setCookie, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("samesite=lax", setCookie, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(HttpStatusCode.OK, await WithCookieAsync(HttpMethod.Get, "/pages/overview", cookie));
        Assert.Equal(HttpStatusCode.OK, await WithCookieAsync(HttpMethod.Get, "/v1/auth/validate", cookie));
        string token = cookie.Split('=')[1];
        Assert.Equal(HttpStatusCode.Unauthorized, await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", token));

        Assert.Equal(HttpStatusCode.OK, await WithCookieAsync(HttpMethod.Post, "/sign-out", cookie, FromUs));

        Assert.Equal(HttpStatusCode.Unauthorized, await WithCookieAsync(HttpMethod.Get, "/v1/auth/validate", cookie));
    }

    [Fact]
    public async Task SignIn_WhenAnotherSiteSendsTheForm_ShouldSetNoCookie()
    {
        using HttpResponseMessage response = await SignInAsync(FromElsewhere);

        Assert.False(response.Headers.Contains("Set-Cookie"));
        Assert.Contains(
            nameof(SignInOutcome.CrossSite),
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task Change_WhenAnotherSiteSendsIt_ShouldBeRefused()
    {
        using HttpResponseMessage signedIn = await SignInAsync(FromUs);
        string cookie = Assert.Single(signedIn.Headers.GetValues("Set-Cookie")).Split(';')[0];
        string origin = Host.Client.BaseAddress!.GetLeftPart(UriPartial.Authority);

        async Task AssertAsync(HttpStatusCode expected, params (string, string)[] headers) =>
            Assert.Equal(expected, await WithCookieAsync(HttpMethod.Post, "/pages/change", cookie, headers));

        await AssertAsync(HttpStatusCode.OK, FromUs);
        await AssertAsync(HttpStatusCode.OK, ("Origin", origin));
        await AssertAsync(HttpStatusCode.Forbidden);
        await AssertAsync(HttpStatusCode.Forbidden, FromElsewhere);
        await AssertAsync(HttpStatusCode.Forbidden, FromElsewhere, ("Origin", origin));
        await AssertAsync(HttpStatusCode.Forbidden, ("Sec-Fetch-Site", "same-site"));
        await AssertAsync(HttpStatusCode.Forbidden, ("Origin", "https://elsewhere.example"));
        await AssertAsync(HttpStatusCode.Forbidden, ("Origin", "null"));
    }

    [Fact]
    public async Task Page_WhenNobodyIsSignedIn_ShouldLeadToSignIn()
    {
        using HttpResponseMessage page = await Host.SendAsync(
            HttpMethod.Get,
            "/pages/overview?day=1",
            null,
            null,
            ("Accept", "text/html,*/*;q=0.8")
        );
        using HttpResponseMessage api = await Host.SendAsync(
            HttpMethod.Get,
            "/v1/usage",
            null,
            null,
            ("Accept", "text/html")
        );

        Assert.Equal(HttpStatusCode.SeeOther, page.StatusCode);
        Assert.Equal("/sign-in?returnUrl=%2Fpages%2Foverview%3Fday%3D1", page.Headers.Location!.ToString());
        await IdentityHost.AssertProblemAsync(api, 401, "unauthenticated");
    }

    [Theory]
    [InlineData("/pages/overview?day=1", "/pages/overview?day=1")]
    [InlineData("//elsewhere.example", "/")]
    [InlineData("/\\elsewhere.example", "/")]
    [InlineData("https://elsewhere.example", "/")]
    [InlineData("/\t/elsewhere.example", "/")]
    [InlineData("", "/")]
    [InlineData(null, "/")]
    public void LocalReturnUrl_WhenItLeadsElsewhere_ShouldLeadHome(string? returnUrl, string expected) =>
        Assert.Equal(expected, BrowserSessions.LocalReturnUrl(returnUrl));

    private Task<HttpResponseMessage> SignInAsync((string, string) header) =>
        Host.SendAsync(
            HttpMethod.Post,
            "/sign-in",
            null,
            JsonContent.Create(new LoginRequest(IdentityHost.OperatorEmail, IdentityHost.OperatorPassword)),
            header
        );

    private async Task<HttpStatusCode> WithCookieAsync(
        HttpMethod method,
        string path,
        string cookie,
        params (string, string)[] headers
    )
    {
        using HttpResponseMessage response = await Host.SendAsync(
            method,
            path,
            null,
            null,
            [("Cookie", cookie), .. headers]
        );
        return response.StatusCode;
    }
}
