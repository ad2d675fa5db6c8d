using System.Net.Sockets;
using System.Text;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>What every answer says to browsers and caches, and how requests that are no requests are answered.</summary>
public sealed class HeaderTests(TenantsFixture fixture) : IClassFixture<TenantsFixture>
{
    private static readonly (string, string) s_html = ("Accept", "text/html");
    private static readonly (string, string) s_json = ("Accept", "application/json");

    /// <summary>Answers open to everybody that may be kept by anybody: they are the same for all.</summary>
    private static readonly string[] s_public = ["public", "immutable", "max-age"];

    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Answers_WhenOfAnyRoute_ShouldTellBrowsersWhatNotToDo()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        await ForEveryAnswerAsync(
            knocking,
            (what, answer) =>
            {
                string policy = answer.Header("Content-Security-Policy") ?? "";
                string[] directives = policy.Split(
                    ';',
                    StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries
                );
                Assert.True(directives.Contains("default-src 'none'"), $"{what}: {policy}");
                Assert.Contains("frame-ancestors 'none'", directives);
                Assert.Contains("base-uri 'none'", directives);
                Assert.Contains("form-action 'self'", directives);
                Assert.DoesNotContain("unsafe", policy, StringComparison.Ordinal);
                Assert.DoesNotContain("*", policy, StringComparison.Ordinal);
                Assert.DoesNotContain("http", policy, StringComparison.Ordinal);
                Assert.Equal("nosniff", answer.Header("X-Content-Type-Options"));
                Assert.Equal("DENY", answer.Header("X-Frame-Options"));
                Assert.True(answer.Header("Referrer-Policy") is "same-origin" or "no-referrer", what);
                Assert.Contains("camera=()", answer.Header("Permissions-Policy"), StringComparison.Ordinal);
                Assert.Equal("same-origin", answer.Header("Cross-Origin-Opener-Policy"));
                Assert.Equal("same-origin", answer.Header("Cross-Origin-Resource-Policy"));
                Assert.Null(answer.Header("Server"));
                Assert.Null(answer.Header("X-Powered-By"));
            }
        );
    }

    [Fact]
    public async Task Answers_WhenForOneCallerOnly_ShouldBeKeptByNoCache()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        await ForEveryAnswerAsync(
            knocking,
            (what, answer) =>
            {
                string kept = answer.Header("Cache-Control") ?? "";
                Assert.True(kept.Contains("no-store", StringComparison.Ordinal), $"{what}: Cache-Control: {kept}");
                Assert.DoesNotContain(s_public, word => kept.Contains(word, StringComparison.Ordinal));
            },
            guardedOnly: true
        );

        // What gives credentials away is open to everybody, and as little to be kept.
        Answer signIn = await knocking.SendAsync("GET", "/sign-in", null, [s_html]);
        Assert.Contains("no-store", signIn.Header("Cache-Control"), StringComparison.Ordinal);
        using HttpContent content = Knocking.Json(
            $$"""{"email":"{{RunningServer.OperatorEmail}}","password":"{{RunningServer.OperatorPassword}}"}"""
        );
        Answer login = await knocking.SendAsync("POST", "/v1/auth/login", content, [s_json]);
        Assert.Equal(200, login.Status);
        Assert.Contains("no-store", login.Header("Cache-Control"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Answers_WhenAnotherSiteAsks_ShouldNotBeReadableThere()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        foreach (Route route in Route.Of(Server.Services))
        {
            (string, string)[] from = [s_json, ("Origin", "https://evil.example")];
            foreach (
                Answer answer in new[]
                {
                    await knocking.SendAsync(route.Method, route.PathToNothing(), null, from),
                    await knocking.SendAsync(
                        "OPTIONS",
                        route.PathToNothing(),
                        null,
                        [
                            .. from,
                            ("Access-Control-Request-Method", route.Method),
                            ("Access-Control-Request-Headers", "authorization"),
                        ]
                    ),
                }
            )
            {
                Assert.False(
                    answer.Headers.Contains("Access-Control-", StringComparison.OrdinalIgnoreCase),
                    $"{route.Name}: {answer.Headers}"
                );
            }
        }
    }

    [Fact]
    public async Task Trace_WhenSentAnywhere_ShouldBeRefusedAndNotEchoed()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        foreach (Route route in Route.Of(Server.Services))
        {
            Answer answer = await knocking.SendAsync(
                "TRACE",
                route.PathToNothing(),
                null,
                [s_json, ("X-Secret", "echo-me")]
            );

            Assert.True(answer.Status is 401 or 403 or 404 or 405, $"{route.Name}: {answer}");
            Assert.DoesNotContain("echo-me", answer.Body, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Cookies_WhenSet_ShouldBeForThisSiteAndOutOfScriptsReach()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        (string cookie, string token) = await knocking.AntiforgeryAsync();
        using var form = new FormUrlEncodedContent(
            new Dictionary<string, string>
            {
                ["_form"] = token,
                ["email"] = RunningServer.OperatorEmail,
                ["password"] = RunningServer.OperatorPassword,
            }
        );
        Answer signedIn = await knocking.SendAsync(
            "POST",
            "/sign-in",
            form,
            [s_html, ("Cookie", cookie), ("Sec-Fetch-Site", "same-origin")]
        );
        Assert.Equal(303, signedIn.Status);
        Answer page = await knocking.SendAsync("GET", "/sign-in", null, [s_html]);

        foreach (string set in new[] { signedIn.Header("Set-Cookie")!, page.Header("Set-Cookie")! })
        {
            Assert.Contains("httponly", set, StringComparison.OrdinalIgnoreCase);
            Assert.Matches("(?i)samesite=(lax|strict)", set);
            Assert.Contains("path=/", set, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("domain=", set, StringComparison.OrdinalIgnoreCase);
        }
    }

    [Theory]
    [InlineData("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n", "431")]
    [InlineData("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n", "414")]
    [InlineData("GET / HTTP/1.1\r\n{many}Host: x\r\n\r\n", "431")]
    [InlineData("GET / HTTP/1.1\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400")]
    [InlineData("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", "400")]
    [InlineData("NONSENSE\r\n\r\n", "400")]
    [InlineData(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "400"
    )]
    [InlineData("POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400")]
    [InlineData(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "400"
    )]
    [InlineData("POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400")]
    public async Task Request_WhenItIsTooLargeOrMalformed_ShouldBeAnsweredCleanly(string request, string status)
    {
        request = request
            // Not much more than the limits (8 KB, 32 KB): what is sent after the refusal would reset it on its way.
            .Replace("/{long}", "/" + new string('a', 9_000), StringComparison.Ordinal)
            .Replace("{long}", new string('a', 33_000), StringComparison.Ordinal)
            .Replace(
                "{many}",
                string.Concat(Enumerable.Range(0, 300).Select(number => $"X-{number}: y\r\n")),
                StringComparison.Ordinal
            );

        string answer = await RawAsync(request);

        Assert.StartsWith($"HTTP/1.1 {status} ", answer, StringComparison.Ordinal);
        AssertNothingInternal(request[..Math.Min(60, request.Length)], answer);
    }

    [Fact]
    public async Task Request_WhenLengthAndChunksDisagree_ShouldBeOneRequest()
    {
        // Chunks count (RFC 9112, 6.3) and the connection ends, so that what follows is not taken for a second request.
        string answer = await RawAsync(
            "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        );

        Assert.StartsWith("HTTP/1.1 400 ", answer, StringComparison.Ordinal);
        Assert.Equal(1, answer.Split("HTTP/1.1 ").Length - 1);
    }

    [Fact]
    public async Task Bodies_WhenTooLarge_ShouldBeRefusedByEveryRouteThatReadsOne()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        Tenant tenant = await fixture.Tenants.CreateAsync();
        foreach (Route route in Route.Of(Server.Services).Where(route => route.BodyType is not null))
        {
            using HttpContent content = Knocking.Json($$"""{"name":"{{new string('x', 70 * 1024)}}"}""");
            Answer answer = await knocking.SendAsync(
                route.Method,
                route.PathToNothing(),
                content,
                [s_json, ("Authorization", "Bearer " + tenant.AdminToken)]
            );

            Assert.True(answer.Status is 413 or 403 or 404, $"{route.Name}: {answer}");
        }
    }

    /// <summary>Nothing in an answer that tells how the server is made.</summary>
    internal static void AssertNothingInternal(string what, string answer)
    {
        foreach (
            string inside in new[]
            {
                "   at ",
                "Exception",
                "StackTrace",
                "Npgsql",
                "PostgreSQL:",
                "SELECT ",
                "INSERT ",
                "UPDATE ",
                "pg_catalog",
                "pg_stat",
                "usage_monitor_app",
                "SqlState",
                ".cs:line",
                "System.",
                "Microsoft.",
                "/src/",
                "data_key",
                "password_hash",
            }
        )
        {
            Assert.False(
                answer.Contains(inside, StringComparison.Ordinal),
                $"{what} is answered with «{inside}» in {answer[..Math.Min(answer.Length, 2_000)]}"
            );
        }
    }

    // Every route, refused, answered, and asked as by a browser; and addresses that nothing answers.
    private async Task ForEveryAnswerAsync(Knocking knocking, Action<string, Answer> check, bool guardedOnly = false)
    {
        Tenant tenant = await fixture.Tenants.CreateAsync();
        string cookie = await fixture.Tenants.SignInWithBrowserAsync(tenant.Admin);
        string anOperator = (await Server.LoginOperatorAsync()).AccessToken;
        (string, string)[][] callers =
        [
            [s_json],
            [s_json, ("Authorization", "Bearer " + tenant.AdminToken)],
            [s_json, ("Authorization", "Bearer " + anOperator)],
            [s_html, ("Cookie", cookie), ("Sec-Fetch-Site", "same-origin")],
            [s_html],
        ];
        foreach (Route route in Route.Of(Server.Services).Where(route => !guardedOnly || !route.IsAnonymous))
        {
            foreach ((string, string)[] caller in callers)
            {
                using HttpContent? content = route.Changes && !route.TakesForm ? Knocking.Json("{}") : null;
                Answer answer = await knocking.SendAsync(route.Method, route.PathToNothing(), content, caller);
                check($"{route.Name} {string.Join(' ', caller.Select(header => header.Item1))}", answer);
            }
        }

        if (!guardedOnly)
        {
            foreach (
                string nowhere in new[]
                {
                    "/v1/nowhere",
                    "/nowhere",
                    "/scim/nowhere",
                    "/assets/nothing.js",
                    "/v1/admin/api-keys/not-a-uuid",
                }
            )
            {
                check(nowhere, await knocking.SendAsync("GET", nowhere, null, [s_html]));
                check(nowhere, await knocking.SendAsync("POST", nowhere, null, [s_json]));
            }
        }
    }

    private async Task<string> RawAsync(string request)
    {
        CancellationToken cancellationToken = TestContext.Current.CancellationToken;
        using var client = new TcpClient();
        await client.ConnectAsync(Server.Client.BaseAddress!.Host, Server.Client.BaseAddress.Port, cancellationToken);
        await using NetworkStream stream = client.GetStream();
        var answer = new MemoryStream();
        try
        {
            await stream.WriteAsync(Encoding.Latin1.GetBytes(request), cancellationToken);
            await stream.CopyToAsync(answer, cancellationToken);
        }
        catch (IOException)
        {
            // Reset after the answer, because the server does not read what it has refused.
        }

        return Encoding.UTF8.GetString(answer.ToArray());
    }
}
