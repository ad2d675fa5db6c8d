using System.Net;
using System.Text.RegularExpressions;
using Npgsql;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The page of anomalies as a browser without JavaScript uses it.</summary>
public sealed partial class AnomalyPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Page_WhenAnAdminUsesIt_ShouldListAnswerAndSet()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        var id = Guid.CreateVersion7();
        await using (var connection = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString))
        {
            await connection.OpenAsync(TestContext.Current.CancellationToken);
            await using var command = new NpgsqlCommand(
                $"""
                INSERT INTO anomalies (enterprise_id, anomaly_id, kind, series, feature_name, user_id, starts_at, ends_at, observed, expected,
                                       low, high, score, status, detail, opened_at)
                VALUES ('{acme.EnterpriseId}', '{id}', 'SPIKE', 'USAGE', '<export>', '{Guid.Empty}', now() - interval '1 hour', now(),
                        90, 20, 10, 30, 0.9, 'OPEN', 'far too many', now())
                """,
                connection
            );
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        using HttpClient browser = await SignInAsync(acme);
        string page = await GetAsync(browser, "/anomalies");
        Assert.Contains("&lt;export&gt;", page, StringComparison.Ordinal);
        Assert.Contains("90 came; 10 to 30 were expected", page, StringComparison.Ordinal);
        Assert.Contains(
            "Nothing of this kind",
            await GetAsync(browser, "/anomalies?kind=DROP"),
            StringComparison.Ordinal
        );

        await PostAsync(browser, $"/anomalies/{id}/feedback", [("isExpected", "true"), ("note", "a campaign")]);
        await PostAsync(
            browser,
            "/anomalies/settings",
            [("sensitivity", "LOW"), ("recipients", "ana@acme.example\r\nbob@acme.example")]
        );

        page = WebUtility.HtmlDecode(await GetAsync(browser, "/anomalies?open=false"));
        Assert.Contains("Expected: a campaign", page, StringComparison.Ordinal);
        Assert.Contains("ana@acme.example\nbob@acme.example", page, StringComparison.Ordinal);
        Assert.Matches(CheckedLow(), page);
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
        await PostAsync(
            browser,
            "/sign-in",
            [("email", acme.Admin.User.Email), ("password", Acme.AdminPassword)],
            formAt: "/sign-in"
        );
        return browser;
    }

    private static async Task PostAsync(
        HttpClient browser,
        string path,
        IEnumerable<(string Name, string Value)> fields,
        string formAt = "/anomalies"
    )
    {
        string token = FormToken().Match(await GetAsync(browser, formAt)).Groups[1].Value;
        using var form = new FormUrlEncodedContent(
            fields.Append(("_form", token)).Select(field => KeyValuePair.Create(field.Item1, field.Item2))
        );
        using HttpResponseMessage answer = await browser.PostAsync(
            new Uri(path, UriKind.Relative),
            form,
            TestContext.Current.CancellationToken
        );
        string body = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(answer.StatusCode == HttpStatusCode.SeeOther, body);
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();

    [GeneratedRegex("value=\"LOW\"[^>]*checked")]
    private static partial Regex CheckedLow();
}
