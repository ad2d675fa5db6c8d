using System.Net;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Identity.Access;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The page <c>/api-keys</c> as a browser uses it: a cookie, the form's token, the page's own answers.</summary>
public sealed partial class ApiKeyPageTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Page_WhenAnAdminMakesRotatesAndRevokes_ShouldShowEachKeyOnce()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        using Browser browser = await SignInAsync(tester, RolePermissions.EnterpriseAdmin);

        string made = await browser.PostAsync(
            "/api-keys",
            ("name", "web <shop>"),
            ("scopes", Permissions.UsageRead),
            ("days", "30"),
            ("networks", "127.0.0.1, 10.1.2.3/8\n::1")
        );

        string key = Assert.Single(Keys().Matches(made).Select(match => match.Value).Distinct());
        Assert.Contains("web &lt;shop&gt;", made, StringComparison.Ordinal);
        Assert.Contains("10.0.0.0/8", made, StringComparison.Ordinal);
        Assert.Equal([Permissions.UsageRead], await tester.PermissionsAsync(key));
        Assert.DoesNotContain(key, await browser.GetAsync("/api-keys"), StringComparison.Ordinal);

        ApiKeySummary listed = (
            await tester.SendAsync<ApiKeysResponse>(HttpMethod.Get, "/v1/admin/api-keys")
        ).ApiKeys.Single(one => one.Name == "web <shop>");
        string rotated = await browser.PostAsync(
            $"/api-keys/{listed.ApiKeyId}/rotate",
            ("name", listed.Name),
            ("overlapHours", "0")
        );
        string second = Assert.Single(Keys().Matches(rotated).Select(match => match.Value).Distinct());
        Assert.Null(await tester.PermissionsAsync(key));
        Assert.NotNull(await tester.PermissionsAsync(second));
        string again = await browser.PostAsync(
            $"/api-keys/{listed.ApiKeyId}/rotate",
            ("name", listed.Name),
            ("overlapHours", "0")
        );
        Assert.Contains("Another key has taken its place", again, StringComparison.Ordinal);

        Guid last = (await tester.SendAsync<ApiKeysResponse>(HttpMethod.Get, "/v1/admin/api-keys?limit=1"))
            .ApiKeys[0]
            .ApiKeyId;
        await browser.PostAsync($"/api-keys/{last}/revoke");
        Assert.Null(await tester.PermissionsAsync(second));
    }

    [Fact]
    public async Task Page_WhenTheCallerMayOnlyLook_ShouldOfferNothing()
    {
        AccessTester tester = await AccessTester.CreateAsync(fixture.Server);
        using Browser browser = await SignInAsync(tester, RolePermissions.Auditor);

        string page = await browser.GetAsync("/api-keys");

        Assert.Contains("a key", page, StringComparison.Ordinal);
        Assert.DoesNotContain("action=\"/api-keys", page, StringComparison.Ordinal);
    }

    private async Task<Browser> SignInAsync(AccessTester tester, string role)
    {
        string cookie = await fixture
            .Server.Services.GetRequiredService<Sessions>()
            .BeginInBrowserAsync(
                await tester.AddPersonAsync(role),
                new SignInProof(SignInProof.SingleSignOn, null),
                new SessionClient(null, null),
                TestContext.Current.CancellationToken
            );
        return new Browser(fixture.Server.Client.BaseAddress!, cookie);
    }

    [GeneratedRegex("um_[A-Za-z0-9_-]{43}")]
    private static partial Regex Keys();

    private sealed partial class Browser : IDisposable
    {
        private readonly Uri _address;
        private readonly HttpClient _client;

        public Browser(Uri address, string cookie)
        {
            var cookies = new CookieContainer();
            cookies.Add(address, new Cookie(BrowserSessions.CookieName(new DefaultHttpContext().Request), cookie));
            _address = address;
            _client = new HttpClient(new SocketsHttpHandler { CookieContainer = cookies }) { BaseAddress = address };
            _client.DefaultRequestHeaders.Add("Accept", "text/html");
        }

        public async Task<string> GetAsync(string path)
        {
            using HttpResponseMessage response = await _client.GetAsync(
                new Uri(path, UriKind.Relative),
                TestContext.Current.CancellationToken
            );
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            return await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        }

        public async Task<string> PostAsync(string path, params (string Name, string Value)[] fields)
        {
            string token = FormToken().Match(await GetAsync("/api-keys")).Groups[1].Value;
            using var request = new HttpRequestMessage(HttpMethod.Post, path)
            {
                Content = new FormUrlEncodedContent(
                    fields.Append(("_form", token)).Select(field => KeyValuePair.Create(field.Item1, field.Item2))
                ),
            };
            request.Headers.Add("Origin", _address.GetLeftPart(UriPartial.Authority));
            request.Headers.Add("Sec-Fetch-Site", "same-origin");
            using HttpResponseMessage response = await _client.SendAsync(
                request,
                TestContext.Current.CancellationToken
            );
            return await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        }

        public void Dispose() => _client.Dispose();

        [GeneratedRegex("name=\"_form\"[^>]*value=\"([^\"]+)\"")]
        private static partial Regex FormToken();
    }
}
