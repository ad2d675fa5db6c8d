using System.Net;
using System.Text.RegularExpressions;
using Npgsql;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The page of the audit log as a browser without JavaScript uses it.</summary>
public sealed partial class AuditPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Page_WhenAnAdminUsesIt_ShouldListFilterAndCheck()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpClient browser = await SignInAsync(acme);
        string page = await GetAsync(browser, "/audit");
        Assert.Contains("session.began", page, StringComparison.Ordinal);
        Assert.Contains("/v1/audit/export?format=ndjson", page, StringComparison.Ordinal);
        Assert.Contains(
            "No entry fits these filters.",
            await GetAsync(browser, "/audit?action=%3Cscript%3E"),
            StringComparison.Ordinal
        );

        Assert.Contains("The chain is whole", await CheckAsync(browser), StringComparison.Ordinal);
        await using (var owner = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString))
        {
            await owner.OpenAsync(TestContext.Current.CancellationToken);
            await using var command = new NpgsqlCommand(
                $"UPDATE audit_log SET action = 'nothing.done' WHERE enterprise_id = '{acme.EnterpriseId}' AND sequence = 2",
                owner
            );
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        Assert.Contains("Entry 2 was altered.", await CheckAsync(browser), StringComparison.Ordinal);
    }

    private static async Task<string> CheckAsync(HttpClient browser)
    {
        string token = FormToken().Match(await GetAsync(browser, "/audit")).Groups[1].Value;
        using var form = new FormUrlEncodedContent([new("_form", WebUtility.HtmlDecode(token))]);
        using HttpResponseMessage answer = await browser.PostAsync(
            new Uri("/audit/verify", UriKind.Relative),
            form,
            TestContext.Current.CancellationToken
        );
        return await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
    }

    private static async Task<string> GetAsync(HttpClient browser, string path)
    {
        using HttpResponseMessage page = await browser.GetAsync(
            new Uri(path, UriKind.Relative),
            TestContext.Current.CancellationToken
        );
        string html = await page.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(page.StatusCode == HttpStatusCode.OK, html);
        return html;
    }

    private async Task<HttpClient> SignInAsync(Acme acme)
    {
        var browser = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
        {
            BaseAddress = fixture.Server.Client.BaseAddress,
        };
        browser.DefaultRequestHeaders.Accept.ParseAdd("text/html");
        browser.DefaultRequestHeaders.Add("Origin", browser.BaseAddress!.GetLeftPart(UriPartial.Authority));
        string token = FormToken().Match(await GetAsync(browser, "/sign-in")).Groups[1].Value;
        using var form = new FormUrlEncodedContent([
            new("_form", WebUtility.HtmlDecode(token)),
            new("email", acme.Admin.User.Email),
            new("password", Acme.AdminPassword),
        ]);
        using HttpResponseMessage signedIn = await browser.PostAsync(
            new Uri("/sign-in", UriKind.Relative),
            form,
            TestContext.Current.CancellationToken
        );
        Assert.Equal(HttpStatusCode.SeeOther, signedIn.StatusCode);
        return browser;
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();
}
