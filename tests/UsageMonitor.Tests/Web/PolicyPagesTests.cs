using System.Net;
using System.Text.RegularExpressions;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Web;

/// <summary>The page of policies as a browser without JavaScript uses it.</summary>
public sealed partial class PolicyPagesTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Forms_WhenAnAdminUsesThem_ShouldSimulateMakeChangeAndEndAPolicy()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await acme.SendAsync(new UsageEvent("ana@acme.example", "export.pdf"), new UsageEvent("bob", "search"));
        await acme.ProcessedAsync();
        using HttpClient browser = await SignInAsync(acme);
        Assert.Contains("No policies yet", await GetAsync(browser, "/policies"), StringComparison.Ordinal);

        string simulated = await PostAsync(
            browser,
            "/policies",
            HttpStatusCode.OK,
            [("name", "<No> export"), ("effect", "FORBID"), ("features", "export*\r\n"), ("do", "simulate")]
        );
        Assert.Contains("Who would be refused with this policy", simulated, StringComparison.Ordinal);
        Assert.Contains("ana@acme.example", simulated, StringComparison.Ordinal);
        Assert.Empty((await ListAsync(acme)).Policies);
        string wrong = await PostAsync(
            browser,
            "/policies",
            HttpStatusCode.BadRequest,
            [("name", "n"), ("effect", "FORBID"), ("groups", "Nobody")]
        );
        Assert.Contains("Groups: there is no group", wrong, StringComparison.Ordinal);

        await PostAsync(
            browser,
            "/policies",
            HttpStatusCode.SeeOther,
            [
                ("name", "<No> export"),
                ("effect", "FORBID"),
                ("users", "Ana@acme.example\r\nbob"),
                ("features", "export*"),
                ("weekdays", "MON"),
                ("weekdays", "TUE"),
                ("weekdays", "WED"),
                ("from", "22:00"),
                ("to", "06:00"),
                ("actions", "record"),
                ("actions", "check"),
            ]
        );
        PolicyResponse made = Assert.Single((await ListAsync(acme)).Policies);
        Assert.Equal(["ana@acme.example", "bob"], made.Principals.Users);
        Assert.Empty(made.Actions);
        string list = await GetAsync(browser, "/policies");
        Assert.Contains("&lt;No&gt; export", list, StringComparison.Ordinal);
        Assert.Contains("Mon–Wed, 22:00–06:00", WebUtility.HtmlDecode(list), StringComparison.Ordinal);
        string form = await GetAsync(browser, $"/policies?edit={made.PolicyId}");
        Assert.Contains("Save the change", form, StringComparison.Ordinal);

        string address = $"/policies/{made.PolicyId}";
        await PostAsync(browser, address + "/status", HttpStatusCode.SeeOther, [("status", "INACTIVE")]);
        await PostAsync(
            browser,
            address,
            HttpStatusCode.Conflict,
            [("name", "late"), ("effect", "FORBID"), ("version", "1")]
        );
        Assert.Equal(
            (2, "INACTIVE"),
            ((await ListAsync(acme)).Policies[0].Version, (await ListAsync(acme)).Policies[0].Status)
        );
        await PostAsync(browser, "/policies/default", HttpStatusCode.SeeOther, [("default", "FORBID")]);
        await PostAsync(browser, address + "/delete", HttpStatusCode.SeeOther, []);
        PolicyListResponse left = await ListAsync(acme);
        Assert.Equal(("FORBID", 0), (left.Default, left.Policies.Count));
    }

    private async Task<PolicyListResponse> ListAsync(Acme acme)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Get,
            "/v1/admin/policies",
            acme.Admin.AccessToken
        );
        return await RunningServer.ReadAsync<PolicyListResponse>(response, HttpStatusCode.OK);
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
        string formAt = "/policies"
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
