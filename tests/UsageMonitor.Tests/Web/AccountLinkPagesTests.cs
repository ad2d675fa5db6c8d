using System.Net;
using System.Text.RegularExpressions;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The pages as a browser without scripts uses them.</summary>
public sealed partial class AccountLinkPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Invitation_WhenOpenedInABrowser_ShouldTakeTheTokenOutOfTheAddressAndLetThePersonJoin()
    {
        Acme acme = await Acme.CreateAsync(Server);
        string email = PeopleOf.NewEmail();
        using HttpResponseMessage invited = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(invited, HttpStatusCode.Created);
        var link = new Uri(sent.Link!);
        var browser = new Browser(Server);

        (HttpResponseMessage opened, _) = await browser.GetAsync(link.PathAndQuery);
        string setCookie = Assert.Single(opened.Headers.GetValues("Set-Cookie"));
        Assert.Equal(
            (HttpStatusCode.SeeOther, "/invitation"),
            (opened.StatusCode, opened.Headers.Location!.ToString())
        );
        Assert.Contains("httponly", setCookie, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("path=/invitation", setCookie, StringComparison.OrdinalIgnoreCase);
        Assert.Equal("no-referrer", opened.Headers.GetValues("Referrer-Policy").Single());

        (HttpResponseMessage page, string html) = await browser.GetAsync("/invitation");
        Assert.Equal("no-referrer", page.Headers.GetValues("Referrer-Policy").Single());
        Assert.Contains(email, html, StringComparison.Ordinal);
        Assert.DoesNotContain(SmtpServer.TokenIn(sent.Link!), html, StringComparison.Ordinal);
        (HttpResponseMessage weak, string why) = await browser.PostAsync(
            "/invitation",
            html,
            ("password", "password1234")
        );
        Assert.Equal(HttpStatusCode.UnprocessableEntity, weak.StatusCode);
        Assert.Contains("easy to guess", why, StringComparison.Ordinal);
        (HttpResponseMessage joined, string done) = await browser.PostAsync(
            "/invitation",
            why,
            ("password", PeopleOf.Password),
            ("displayName", "Ada <b>Lovelace</b>")
        );
        Assert.Equal(HttpStatusCode.OK, joined.StatusCode);
        Assert.Contains("You have joined", done, StringComparison.Ordinal);
        await Server.LoginAsync(email, PeopleOf.Password);

        await browser.GetAsync(link.PathAndQuery);
        (HttpResponseMessage used, string sorry) = await browser.GetAsync("/invitation");
        Assert.Equal(HttpStatusCode.UnprocessableEntity, used.StatusCode);
        Assert.Contains("This link does not work", sorry, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Form_WhenItHasNoTokenOfOurs_ShouldBeRefused()
    {
        using HttpResponseMessage response = await Server.SendAsync(
            HttpMethod.Post,
            "/reset-password",
            null,
            new FormUrlEncodedContent([new("password", PeopleOf.Password)])
        );

        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
    }

    [Fact]
    public async Task ForgotPassword_WhenThePlatformSendsNoMail_ShouldSayWhomToAsk()
    {
        (HttpResponseMessage page, string html) = await new Browser(Server).GetAsync("/forgot-password");

        Assert.Equal(HttpStatusCode.OK, page.StatusCode);
        Assert.Contains("sends no mail", html, StringComparison.Ordinal);
        (_, string signIn) = await new Browser(Server).GetAsync("/sign-in");
        Assert.Contains("href=\"/forgot-password\"", signIn, StringComparison.Ordinal);
    }

    [Fact]
    public async Task People_WhenAnAdminWorksWithThem_ShouldInviteChangeDeactivateAndRemove()
    {
        Acme acme = await Acme.CreateAsync(Server);
        var browser = new Browser(Server);
        (_, string signIn) = await browser.GetAsync("/sign-in");
        await browser.PostAsync("/sign-in", signIn, ("email", acme.Admin.User.Email), ("password", Acme.AdminPassword));
        (_, string list) = await browser.GetAsync("/people");
        string email = PeopleOf.NewEmail();

        (_, string made) = await browser.PostAsync(
            "/people",
            list,
            ("email", email),
            ("roles", RolePermissions.Analyst)
        );
        Assert.Contains("/invitation?token=", made, StringComparison.Ordinal);
        UserPage found = await Server.GetAsync<UserPage>($"{PeopleOf.Path}?email={email}", acme.Admin.AccessToken);
        string person = $"/people/{Assert.Single(found.Users).UserId}";
        (_, string html) = await browser.GetAsync(person);
        Assert.Contains("Invite again", html, StringComparison.Ordinal);
        (HttpResponseMessage saved, _) = await browser.PostAsync(
            person,
            html,
            ("displayName", "Ada"),
            ("roles", RolePermissions.Auditor)
        );
        Assert.Equal(HttpStatusCode.SeeOther, saved.StatusCode);
        await browser.PostAsync(person + "/deactivate", html);
        UserSummary off = (
            await Server.GetAsync<UserPage>($"{PeopleOf.Path}?email={email}", acme.Admin.AccessToken)
        ).Users.Single();
        Assert.Equal(("Ada", "DEACTIVATED"), (off.DisplayName, off.Status));
        Assert.Equal([RolePermissions.Auditor], off.Roles);
        (HttpResponseMessage wrong, string why) = await browser.PostAsync(person, html, ("roles", "Nonsense"));
        Assert.Equal(HttpStatusCode.BadRequest, wrong.StatusCode);
        Assert.Contains("names of roles", why, StringComparison.Ordinal);
        (HttpResponseMessage removed, _) = await browser.PostAsync(person + "/remove", html);
        Assert.Equal("/people", removed.Headers.Location!.ToString());
        (HttpResponseMessage gone, _) = await browser.GetAsync(person);
        Assert.Equal(HttpStatusCode.NotFound, gone.StatusCode);
    }

    /// <summary>Keeps cookies, and sends forms with their token.</summary>
    private sealed partial class Browser(RunningServer server)
    {
        private readonly Dictionary<string, string> _cookies = [];

        public Task<(HttpResponseMessage, string)> GetAsync(string path) => SendAsync(HttpMethod.Get, path, null);

        public Task<(HttpResponseMessage, string)> PostAsync(
            string path,
            string html,
            params (string Key, string Value)[] fields
        )
        {
            string token = FormToken().Match(html).Groups[1].Value;
            return SendAsync(
                HttpMethod.Post,
                path,
                new FormUrlEncodedContent([
                    new("_form", WebUtility.HtmlDecode(token)),
                    .. fields.Select(field => new KeyValuePair<string, string>(field.Key, field.Value)),
                ])
            );
        }

        private async Task<(HttpResponseMessage, string)> SendAsync(
            HttpMethod method,
            string path,
            HttpContent? content
        )
        {
            using var request = new HttpRequestMessage(method, path) { Content = content };
            request.Headers.Add("Accept", "text/html");
            request.Headers.Add("Sec-Fetch-Site", "same-origin");
            if (_cookies.Count > 0)
            {
                request.Headers.Add("Cookie", string.Join("; ", _cookies.Select(one => $"{one.Key}={one.Value}")));
            }

            HttpResponseMessage response = await server.Client.SendAsync(
                request,
                TestContext.Current.CancellationToken
            );
            foreach (string set in response.Headers.TryGetValues("Set-Cookie", out IEnumerable<string>? all) ? all : [])
            {
                string[] pair = set.Split(';')[0].Split('=', 2);
                _cookies[pair[0]] = pair[1];
            }

            return (response, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }

        [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
        private static partial Regex FormToken();
    }
}
