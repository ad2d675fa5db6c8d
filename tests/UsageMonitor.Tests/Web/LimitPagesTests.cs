using System.Net;
using System.Text.RegularExpressions;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The page of limits as a browser without JavaScript uses it.</summary>
public sealed partial class LimitPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Forms_WhenAnAdminUsesThem_ShouldTryMakeChangeAndEndALimit()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await acme.SendAsync([
            .. Enumerable.Repeat(new UsageEvent("ana@acme.example", "export.pdf"), 3),
            new UsageEvent("bob", "export.pdf"),
        ]);
        await acme.ProcessedAsync();
        using HttpClient browser = await SignInAsync(acme);
        string empty = await GetAsync(browser, "/limits");
        Assert.Contains("No limits yet", empty, StringComparison.Ordinal);
        Assert.Contains("href=\"/limits\" aria-current=\"page\"", empty, StringComparison.Ordinal);

        (string, string)[] fields =
        [
            ("featureName", "export*"),
            ("scope", "USER"),
            ("subject", ""),
            ("limitValue", "2"),
            ("windowType", "DAILY"),
            ("action", "BLOCK"),
            ("startsAt", ""),
            ("expiresAt", ""),
        ];
        string tried = await PostAsync(browser, "/limits", HttpStatusCode.OK, [.. fields, ("do", "backtest")]);
        Assert.Contains("Who this limit would have blocked", tried, StringComparison.Ordinal);
        Assert.Contains("ana@acme.example", tried, StringComparison.Ordinal);
        Assert.Contains("value=\"export*\"", tried, StringComparison.Ordinal);
        Assert.Empty((await ListAsync(acme)).Limits);
        string wrong = await PostAsync(
            browser,
            "/limits",
            HttpStatusCode.BadRequest,
            [
                ("scope", "ROLE"),
                ("subject", "<Nobody>"),
                ("limitValue", "2"),
                ("windowType", "DAILY"),
                ("action", "BLOCK"),
            ]
        );
        Assert.Contains(
            "User or role: there is no role “&lt;Nobody&gt;”",
            wrong.Replace("&#x201C;", "“", StringComparison.Ordinal).Replace("&#x201D;", "”", StringComparison.Ordinal),
            StringComparison.Ordinal
        );
        string text = await PostAsync(
            browser,
            "/limits",
            HttpStatusCode.BadRequest,
            [("scope", "USER"), ("limitValue", "ten"), ("windowType", "DAILY"), ("action", "BLOCK")]
        );
        Assert.Contains("At most: must be a whole number.", text, StringComparison.Ordinal);

        await PostAsync(browser, "/limits", HttpStatusCode.SeeOther, fields);
        LimitResponse made = Assert.Single((await ListAsync(acme)).Limits);
        string list = WebUtility.HtmlDecode(await GetAsync(browser, "/limits"));
        Assert.Contains("At most 2 a day", list, StringComparison.Ordinal);
        Assert.Contains("export*, by each user", list, StringComparison.Ordinal);
        Assert.Contains("3 of 2", list, StringComparison.Ordinal);
        Assert.Contains("Reached by ana@acme.example.", list, StringComparison.Ordinal);
        Assert.Contains("Nearest: ana@acme.example 3, bob 1", list, StringComparison.Ordinal);
        Assert.Contains(
            "Nothing is refused any more by: At most 2 a day, export*, by each user.",
            list,
            StringComparison.Ordinal
        );

        string address = $"/limits/{made.LimitId}";
        string form = await GetAsync(browser, $"/limits?edit={made.LimitId}");
        Assert.Contains("Save the change", form, StringComparison.Ordinal);
        await PostAsync(
            browser,
            address,
            HttpStatusCode.SeeOther,
            [.. fields.Where(field => field.Item1 != "expiresAt"), ("expiresAt", "2150-01-01T18:00"), ("version", "1")]
        );
        LimitResponse changed = Assert.Single((await ListAsync(acme)).Limits);
        Assert.Equal(new DateTimeOffset(2150, 1, 1, 18, 0, 0, TimeSpan.FromHours(5.5)), changed.ExpiresAt);
        Assert.Contains(
            "value=\"2150-01-01T18:00\"",
            await GetAsync(browser, $"/limits?edit={made.LimitId}"),
            StringComparison.Ordinal
        );
        await PostAsync(browser, address, HttpStatusCode.Conflict, [.. fields, ("version", "1")]);
        await PostAsync(browser, address + "/status", HttpStatusCode.SeeOther, [("status", "INACTIVE")]);
        Assert.Equal("INACTIVE", (await ListAsync(acme)).Limits[0].Status);
        await PostAsync(browser, "/limits/settings", HttpStatusCode.SeeOther, [("whenUncounted", "CLOSED")]);
        Assert.Contains(
            "is refused until it can be counted",
            await GetAsync(browser, "/limits"),
            StringComparison.Ordinal
        );
        await PostAsync(browser, address + "/delete", HttpStatusCode.SeeOther, []);
        Assert.Empty((await ListAsync(acme)).Limits);
    }

    private async Task<LimitListResponse> ListAsync(Acme acme)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            "/v1/admin/usage/limits",
            acme.Admin.AccessToken
        );
        return await RunningServer.ReadAsync<LimitListResponse>(response, HttpStatusCode.OK);
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
            HttpStatusCode.SeeOther,
            [("email", acme.Admin.User.Email), ("password", Acme.AdminPassword)],
            formAt: "/sign-in"
        );
        return browser;
    }

    private static async Task<string> GetAsync(HttpClient browser, string path) =>
        await browser.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken);

    private static async Task<string> PostAsync(
        HttpClient browser,
        string path,
        HttpStatusCode expected,
        IEnumerable<(string Name, string Value)> fields,
        string formAt = "/limits"
    )
    {
        string token = FormToken().Match(await GetAsync(browser, formAt)).Groups[1].Value;
        using var content = new FormUrlEncodedContent(
            fields.Append(("_form", token)).Select(field => KeyValuePair.Create(field.Item1, field.Item2))
        );
        using HttpResponseMessage response = await browser.PostAsync(
            new Uri(path, UriKind.Relative),
            content,
            TestContext.Current.CancellationToken
        );
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode == expected, $"{path}: {response.StatusCode}: {body}");
        return body;
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();
}
