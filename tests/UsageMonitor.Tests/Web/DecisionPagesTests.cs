using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The pages of refusals as a browser without JavaScript uses them.</summary>
public sealed partial class DecisionPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Pages_WhenAnAdminLooksForARefusal_ShouldExplainItAndMakeItCount()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        using HttpResponseMessage made = await fixture.Server.SendAsync(
            HttpMethod.Post,
            "/v1/admin/policies",
            acme.Admin.AccessToken,
            JsonContent.Create(new PolicyRequest("No <export>", "FORBID", Features: ["export"]))
        );
        Assert.Equal(HttpStatusCode.Created, made.StatusCode);
        using HttpResponseMessage sent = await acme.PostAsync(
            JsonContent.Create(new[] { new UsageEvent("<ana>", "export") })
        );
        Guid receipt = Assert
            .Single((await RunningServer.ReadAsync<IngestResponse>(sent, HttpStatusCode.Accepted)).Blocked!)
            .ReceiptId;
        await acme.ProcessedAsync();

        using HttpClient browser = await SignInAsync(acme);
        Assert.Contains($"/decisions/{receipt}", await GetAsync(browser, "/decisions"), StringComparison.Ordinal);
        Assert.Contains(
            "Nothing fits these filters",
            await GetAsync(browser, "/decisions?user=bob"),
            StringComparison.Ordinal
        );
        using HttpResponseMessage found = await browser.GetAsync(
            new Uri($"/decisions?receipt=%20{receipt}", UriKind.Relative),
            TestContext.Current.CancellationToken
        );
        Assert.Equal($"/decisions/{receipt}", found.Headers.Location?.OriginalString);
        string page = await GetAsync(browser, $"/decisions/{receipt}");
        Assert.Contains("&lt;ana&gt;", page, StringComparison.Ordinal);
        Assert.Contains("No &lt;export&gt;", page, StringComparison.Ordinal);

        using HttpResponseMessage without = await PostAsync(browser, receipt, " ");
        Assert.Equal(HttpStatusCode.BadRequest, without.StatusCode);
        using HttpResponseMessage done = await PostAsync(browser, receipt, "agreed <b>");
        Assert.Equal(HttpStatusCode.SeeOther, done.StatusCode);
        page = await GetAsync(browser, $"/decisions/{receipt}");
        Assert.Contains("Counted after all", page, StringComparison.Ordinal);
        Assert.Contains("agreed &lt;b&gt;", page, StringComparison.Ordinal);
        Assert.DoesNotContain("Count it as usage", page, StringComparison.Ordinal);
        await acme.ProcessedAsync();
        Assert.Equal(1, (await acme.LedgerAsync()).Stored);

        using HttpResponseMessage none = await browser.GetAsync(
            new Uri($"/decisions/{Guid.NewGuid()}", UriKind.Relative),
            TestContext.Current.CancellationToken
        );
        Assert.Equal(HttpStatusCode.NotFound, none.StatusCode);
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
        using HttpResponseMessage signedIn = await PostAsync(
            browser,
            "/sign-in",
            "/sign-in",
            ("email", acme.Admin.User.Email),
            ("password", Acme.AdminPassword)
        );
        Assert.Equal(HttpStatusCode.SeeOther, signedIn.StatusCode);
        return browser;
    }

    private static Task<HttpResponseMessage> PostAsync(HttpClient browser, Guid receipt, string reason) =>
        PostAsync(browser, $"/decisions/{receipt}/reclassify", "/decisions", ("reason", reason));

    private static async Task<HttpResponseMessage> PostAsync(
        HttpClient browser,
        string path,
        string formAt,
        params (string Name, string Value)[] fields
    )
    {
        string token = FormToken().Match(await GetAsync(browser, formAt)).Groups[1].Value;
        using var form = new FormUrlEncodedContent(
            fields.Append(("_form", token)).Select(field => KeyValuePair.Create(field.Item1, field.Item2))
        );
        return await browser.PostAsync(new Uri(path, UriKind.Relative), form, TestContext.Current.CancellationToken);
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();
}
