using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using OtpNet;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The pages of the second step and of one's own account, as a browser without JavaScript asks for them.</summary>
public sealed partial class SecondFactorPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task SecondStep_WhenThePasswordIsRight_ShouldKeepAChallengeThatNoScriptAndNoOtherSiteGets()
    {
        Acme acme = await Acme.CreateAsync(Server);
        await AddTotpAsync(acme.Admin.AccessToken);
        var browser = new Browser(Server);

        using HttpResponseMessage step = await browser.PostAsync(
            "/sign-in",
            "/sign-in",
            ("email", acme.Admin.User.Email),
            ("password", Acme.AdminPassword)
        );

        Assert.Equal("/sign-in/second-factor?returnUrl=%2F", step.Headers.Location?.ToString());
        string challenge = Assert.Single(
            step.Headers.GetValues("Set-Cookie"),
            cookie => cookie.StartsWith("um_challenge=", StringComparison.Ordinal)
        );
        foreach (string attribute in new[] { "httponly", "samesite=strict", "path=/sign-in", "max-age=300" })
        {
            Assert.Contains(attribute, challenge, StringComparison.OrdinalIgnoreCase);
        }

        Assert.DoesNotContain(
            step.Headers.GetValues("Set-Cookie"),
            cookie => cookie.StartsWith("um_session=", StringComparison.Ordinal)
        );
        using HttpResponseMessage withoutToken = await browser.SendAsync(
            HttpMethod.Post,
            "/sign-in/second-factor",
            ("code", "123456")
        );
        Assert.Equal(HttpStatusCode.BadRequest, withoutToken.StatusCode);
        using HttpResponseMessage wrong = await browser.PostAsync(
            "/sign-in/second-factor",
            "/sign-in/second-factor",
            ("code", "123456x")
        );
        Assert.Equal(HttpStatusCode.UnprocessableEntity, wrong.StatusCode);
        Assert.Contains(
            "That was not right",
            await wrong.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task SecondStep_WhenThereIsNoChallenge_ShouldLeadToTheFirst()
    {
        var browser = new Browser(Server);

        using HttpResponseMessage page = await browser.SendAsync(
            HttpMethod.Get,
            "/sign-in/second-factor?returnUrl=//evil.example"
        );

        Assert.Equal("/sign-in?returnUrl=%2F", page.Headers.Location?.ToString());
    }

    [Fact]
    public async Task Pages_WhenASecondFactorIsToBeSetUp_ShouldAllLeadThere()
    {
        Acme acme = await Acme.CreateAsync(Server);
        await using (
            ScopedTransaction own = await Server.Database.Database.OpenEnterpriseAsync(
                acme.EnterpriseId,
                TestContext.Current.CancellationToken
            )
        )
        {
            await own.ExecuteAsync(
                "UPDATE enterprises SET second_factor_required = true WHERE enterprise_id = $1",
                [acme.EnterpriseId],
                TestContext.Current.CancellationToken
            );
            await Server
                .Services.GetRequiredService<IdentityVersion>()
                .CommitAsync(own, TestContext.Current.CancellationToken);
        }

        var browser = new Browser(Server);
        using HttpResponseMessage signedIn = await browser.PostAsync(
            "/sign-in",
            "/sign-in",
            ("email", acme.Admin.User.Email),
            ("password", Acme.AdminPassword)
        );
        Assert.Equal("/", signedIn.Headers.Location?.ToString());

        foreach (string path in new[] { "/", "/api-keys", "/account" })
        {
            using HttpResponseMessage page = await browser.SendAsync(HttpMethod.Get, path);
            Assert.Equal("/account/second-factor", page.Headers.Location?.ToString());
        }

        using HttpResponseMessage setUp = await browser.SendAsync(HttpMethod.Get, "/account/second-factor");
        Assert.Equal(HttpStatusCode.OK, setUp.StatusCode);
        using HttpResponseMessage remove = await browser.PostAsync(
            "/account/second-factor",
            "/account/second-factor/totp/remove"
        );
        Assert.Equal("/account/second-factor", remove.Headers.Location?.ToString());
    }

    [Theory]
    [InlineData(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Firefox on Windows"
    )]
    [InlineData(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
        "Edge on Linux"
    )]
    [InlineData("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari on iPhone")]
    [InlineData("curl/8.5.0", "curl/8.5.0")]
    [InlineData(null, "Unknown program")]
    public void Of_WhenGivenAUserAgent_ShouldNameIt(string? userAgent, string expected) =>
        Assert.Equal(expected, ClientName.Of(userAgent));

    private async Task AddTotpAsync(string token)
    {
        using HttpResponseMessage begun = await Server.SendAsync(HttpMethod.Post, "/v1/me/second-factors/totp", token);
        BeginTotpResponse secret = await RunningServer.ReadAsync<BeginTotpResponse>(begun, HttpStatusCode.OK);
        string code = new Totp(Base32Encoding.ToBytes(secret.Secret)).ComputeTotp();
        using HttpResponseMessage confirmed = await Server.SendAsync(
            HttpMethod.Post,
            "/v1/me/second-factors/totp/confirm",
            token,
            JsonContent.Create(new ConfirmTotpRequest(code))
        );
        await RunningServer.ReadAsync<FactorAddedResponse>(confirmed, HttpStatusCode.OK);
    }

    [GeneratedRegex("""name="_form" value="([^"]+)""")]
    private static partial Regex FormToken();

    /// <summary>Keeps cookies, and sends forms as a browser does.</summary>
    private sealed class Browser(RunningServer server)
    {
        private readonly Dictionary<string, string> _cookies = [];

        /// <summary>Opens a page and sends one of its forms.</summary>
        public async Task<HttpResponseMessage> PostAsync(
            string page,
            string action,
            params (string Name, string Value)[] fields
        )
        {
            using HttpResponseMessage opened = await SendAsync(HttpMethod.Get, page);
            string html = await opened.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
            Match token = FormToken().Match(html);
            Assert.True(token.Success, $"{page} has no form: {opened.StatusCode}");
            return await SendAsync(HttpMethod.Post, action, [.. fields, ("_form", token.Groups[1].Value)]);
        }

        public async Task<HttpResponseMessage> SendAsync(
            HttpMethod method,
            string path,
            params (string Name, string Value)[] fields
        )
        {
            using var request = new HttpRequestMessage(method, path);
            request.Headers.TryAddWithoutValidation("Accept", "text/html");
            request.Headers.TryAddWithoutValidation(
                "Cookie",
                string.Join("; ", _cookies.Select(one => one.Key + "=" + one.Value))
            );
            if (method == HttpMethod.Post)
            {
                request.Headers.TryAddWithoutValidation("Sec-Fetch-Site", "same-origin");
                request.Content = new FormUrlEncodedContent(
                    fields.Select(field => new KeyValuePair<string, string>(field.Name, field.Value))
                );
            }

            HttpResponseMessage response = await server.Client.SendAsync(
                request,
                TestContext.Current.CancellationToken
            );
            foreach (string cookie in response.Headers.TryGetValues("Set-Cookie", out var all) ? all : [])
            {
                string[] pair = cookie.Split(';')[0].Split('=', 2);
                _cookies[pair[0]] = pair[1];
            }

            return response;
        }
    }
}
