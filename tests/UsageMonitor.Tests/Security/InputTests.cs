using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using CsCheck;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// Bad bodies and bad words on every route, by callers who may call it: whatever is sent, no answer is the server's failure, none
/// tells how it is made, and no page shows a word unescaped.
/// </summary>
public sealed class InputTests(TenantsFixture fixture) : IClassFixture<TenantsFixture>
{
    private const int AtOnce = 6;
    private const int RandomBodies = 10;
    private static readonly (string, string) s_json = ("Accept", "application/json");

    /// <summary>What means something to SQL, HTML, HTTP, file systems, templates, shells or spreadsheets.</summary>
    private static readonly string[] s_words =
    [
        "'",
        "''",
        "' OR '1'='1",
        "1; DROP TABLE users; --",
        "' union select null from users --",
        "\\'; call sleep(30); --",
        "$1",
        "%",
        "_",
        "\\",
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' autofocus onfocus=alert(1) x='",
        "javascript:alert(1)",
        "{{7*7}}${7*7}<%= 7*7 %>@(7*7)",
        "a\r\nSet-Cookie: evil=1",
        "a\nb",
        "\0",
        "a\0b",
        "../../../../etc/passwd",
        "..\\..\\windows",
        "=cmd|'/c calc'!A0",
        "$(id)`id`",
        "\u202etxt.exe",
        "\ufffd\uffff",
        "😀",
        "2026-13-45",
        "9999999999999999999999",
        "-1",
        "NaN",
        "1e999",
        "null",
        "[]",
        "true",
        new string('x', 3_000),
    ];

    private static readonly string[] s_otherTypes =
    [
        "text/plain",
        "application/xml",
        "multipart/form-data",
        "application/json; charset=utf-7",
        "x",
    ];

    private static readonly string[] s_constants = ["null", "true", "false", "1e5", "\"\\ud800\"", "[]", "{}"];

    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Bodies_WhenTheyAreNotWhatIsExpected_ShouldNeverBeTheServersFailure()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        byte[][] bodies = [.. Bad()];
        var wrong = new ConcurrentBag<string>();
        await ForEachAsync(
            Route.Of(Server.Services).Where(route => route.Changes && !route.TakesForm),
            async (route, callers) =>
            {
                foreach (byte[] body in bodies.Concat(Shaped(route)).Concat(Random(route)))
                {
                    foreach ((string, string) caller in callers)
                    {
                        using var content = new ByteArrayContent(body);
                        content.Headers.ContentType = new("application/json");
                        Check(
                            wrong,
                            route,
                            await knocking.SendAsync(route.Method, route.PathToNothing(), content, [s_json, caller]),
                            Encoding.UTF8.GetString(body)
                        );
                    }
                }

                foreach (string type in s_otherTypes)
                {
                    using var content = new ByteArrayContent("{}"u8.ToArray());
                    content.Headers.TryAddWithoutValidation("Content-Type", type);
                    Check(
                        wrong,
                        route,
                        await knocking.SendAsync(route.Method, route.PathToNothing(), content, [s_json, callers[0]]),
                        type
                    );
                }
            }
        );

        Assert.True(wrong.IsEmpty, Lines(wrong));
    }

    [Fact]
    public async Task Words_WhenInAnyParameterOrHeader_ShouldNeitherFailNorComeBackAsMarkup()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        var wrong = new ConcurrentBag<string>();
        await ForEachAsync(
            Route.Of(Server.Services),
            async (route, callers) =>
            {
                string[] names = [.. route.QueryParameters, .. route.IsPage ? s_pagesParameters : []];
                foreach (string word in s_words)
                {
                    string escaped = Uri.EscapeDataString(word);
                    string plain = route.PathToNothing();
                    // One at a time: a parameter that is refused would keep the next from being looked at.
                    IEnumerable<(string, (string, string)[])> knocks = names
                        .DefaultIfEmpty("q")
                        .Select(name => ($"{plain}?{name}={escaped}", Array.Empty<(string, string)>()))
                        .Append((plain, Headers(word)));
                    if (route.Parameters.Count > 0)
                    {
                        knocks = knocks.Append((route.Path(_ => word), []));
                    }

                    string accept = route.IsPage ? "text/html" : "application/json";
                    foreach ((string address, (string, string)[] more) in knocks)
                    {
                        Check(
                            wrong,
                            route,
                            await knocking.SendAsync(
                                route.Method,
                                address,
                                null,
                                [("Accept", accept), ("Sec-Fetch-Site", "same-origin"), callers[0], .. more]
                            ),
                            word
                        );
                    }
                }

                // Said twice, as parameter pollution does.
                if (names.Length > 0)
                {
                    string twice =
                        "?"
                        + string.Join(
                            '&',
                            names.Select(name => $"{name}=a&{name}=b&{name}[]=c&{name.ToUpperInvariant()}=d")
                        );
                    Check(
                        wrong,
                        route,
                        await knocking.SendAsync(
                            route.Method,
                            route.PathToNothing() + twice,
                            null,
                            [s_json, callers[0]]
                        ),
                        twice
                    );
                }
            }
        );

        Assert.True(wrong.IsEmpty, Lines(wrong));
    }

    [Fact]
    public async Task Words_WhenInAnyFieldOfAForm_ShouldNeitherFailNorComeBackAsMarkup()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        (string formCookie, string token) = await knocking.AntiforgeryAsync();
        var wrong = new ConcurrentBag<string>();
        await ForEachAsync(
            Route.Of(Server.Services).Where(route => route.TakesForm),
            async (route, _) =>
            {
                Tenant tenant = await fixture.Tenants.CreateAsync();
                foreach (string word in s_words.Where(word => word.Length < 100))
                {
                    // A session for each, since some forms end it.
                    string browser = await fixture.Tenants.SignInWithBrowserAsync(tenant.Admin);
                    using var form = new FormUrlEncodedContent(
                        route
                            .FormFields.Append("returnUrl")
                            .Distinct()
                            .Select(name => KeyValuePair.Create(name, word))
                            .Append(new("_form", token))
                    );
                    Answer answer = await knocking.SendAsync(
                        route.Method,
                        route.PathToNothing(),
                        form,
                        [
                            ("Accept", "text/html"),
                            ("Sec-Fetch-Site", "same-origin"),
                            ("Cookie", $"{browser}; {formCookie}"),
                        ]
                    );
                    Check(wrong, route, answer, word);
                    if (answer.Header("Location") is { } location && !location.StartsWith('/'))
                    {
                        wrong.Add($"{route.Name} sends the browser to {location}");
                    }
                }
            }
        );

        Assert.True(wrong.IsEmpty, Lines(wrong));
    }

    [Fact]
    public async Task Names_WhenTheyAreMarkup_ShouldBeShownAsTextOnPages()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        const string Markup = "<script>alert('x')</script>\"'&";
        Tenant tenant = await fixture.Tenants.CreateAsync();
        await fixture.Tenants.ChangeAsync(
            tenant.EnterpriseId,
            "UPDATE enterprises SET name = $2 WHERE enterprise_id = $1",
            Markup
        );
        await fixture.Tenants.ChangeAsync(
            tenant.EnterpriseId,
            "UPDATE api_keys SET name = $2 WHERE enterprise_id = $1",
            Markup
        );
        string browser = await fixture.Tenants.SignInWithBrowserAsync(tenant.Admin);
        int shown = 0;
        foreach (Route page in Route.Of(Server.Services).Where(route => route is { IsPage: true, Changes: false }))
        {
            Answer answer = await knocking.SendAsync(
                "GET",
                page.PathToNothing(),
                null,
                [("Accept", "text/html"), ("Cookie", browser)]
            );

            Assert.DoesNotContain("<script>alert", answer.Body, StringComparison.Ordinal);
            shown += answer.Body.Contains("&lt;script&gt;alert", StringComparison.Ordinal) ? 1 : 0;
        }

        Assert.True(shown > 0, "no page shows the names");
    }

    /// <summary>Parameters that pages read from the query by hand.</summary>
    private static readonly string[] s_pagesParameters =
    [
        "returnUrl",
        "range",
        "from",
        "to",
        "interval",
        "feature",
        "q",
        "after",
        "error",
    ];

    private static (string, string)[] Headers(string word)
    {
        // What a header cannot carry, no client can send in it.
        string value = new([.. word.Where(character => character is >= ' ' and not (char)127)]);
        return
        [
            ("User-Agent", value),
            ("Referer", value),
            ("Origin", value),
            ("Accept-Language", value),
            ("Accept-Encoding", value),
            ("X-Forwarded-For", value),
            ("X-Forwarded-Proto", value),
            ("X-Forwarded-Host", value),
            ("Cookie", "theme=" + value + "; um_session=" + value + "; um_form=" + value),
            ("traceparent", value),
            ("tracestate", value),
            ("baggage", value),
            ("If-None-Match", value),
            ("If-Match", value),
            ("Range", value),
            ("Idempotency-Key", value),
            ("X-Request-ID", value),
        ];
    }

    private static void Check(ConcurrentBag<string> wrong, Route route, Answer answer, string sent)
    {
        string what = $"{route.Name} sent {sent[..Math.Min(sent.Length, 200)]}";
        if (answer.Status >= 500)
        {
            wrong.Add($"{what}: {answer}");
        }

        if (
            answer.MediaType == "text/html"
            && (
                answer.Body.Contains("<script>alert", StringComparison.Ordinal)
                || answer.Body.Contains("<img src=x", StringComparison.Ordinal)
                || answer.Body.Contains("x=''", StringComparison.Ordinal)
            )
        )
        {
            wrong.Add($"{what}: comes back as markup");
        }

        if (
            answer.Headers.Contains("\nevil", StringComparison.Ordinal)
            || answer.Headers.Contains("Set-Cookie: evil", StringComparison.Ordinal)
        )
        {
            wrong.Add($"{what}: comes back as a header");
        }

        if (answer.Status >= 400)
        {
            try
            {
                HeaderTests.AssertNothingInternal(
                    what,
                    sent.Length == 0 ? answer.Body : answer.Body.Replace(sent, "", StringComparison.Ordinal)
                );
            }
            catch (Xunit.Sdk.XunitException exception)
            {
                wrong.Add(exception.Message);
            }
        }
    }

    private static IEnumerable<byte[]> Bad()
    {
        string deep = new('[', 100_000);
        foreach (
            string text in new[]
            {
                "",
                " ",
                "{",
                "}",
                "[",
                "[]",
                "[[[]]]",
                "null",
                "true",
                "0",
                "\"text\"",
                "{}",
                "{\"\":1}",
                "{\"a\":}",
                "{\"a\":1,}",
                "{'a':1}",
                "// comment\n{}",
                "{}{}",
                "{} trailing",
                "\ufeff{}",
                deep,
                string.Concat(Enumerable.Repeat("{\"a\":", 20_000)),
                "{\"name\":\"\\u0000\"}",
                "{\"name\":\"\\ud800\"}",
                "{\"\\ud800\":\"x\"}",
                "{\"__proto__\":{\"admin\":true},\"constructor\":{\"prototype\":{}}}",
                "{\"$type\":\"System.Diagnostics.Process, System\",\"$ref\":\"1\",\"$id\":\"1\"}",
                "{\"name\":1e999}",
                "{\"name\":-99999999999999999999999999999999999999}",
            }
        )
        {
            yield return Encoding.UTF8.GetBytes(text);
        }

        yield return [0];
        yield return [0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00];
        yield return [0xc3, 0x28];
        yield return [.. "{\"name\":\""u8, 0xff, 0xfe, .. "\"}"u8];
        yield return new byte[70_000];
        yield return [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    }

    // Each member of the body with each kind of value that it is not, and each word; said twice; and with members it does not have.
    private static IEnumerable<byte[]> Shaped(Route route)
    {
        if (route.BodyType is not { } type)
        {
            yield break;
        }

        string[] members =
        [
            .. type.GetProperties().Select(property => JsonNamingPolicy.CamelCase.ConvertName(property.Name)),
        ];
        string[] values =
        [
            "null",
            "true",
            "0",
            "-1",
            "1.5",
            "1e999",
            "\"\"",
            "[]",
            "[null]",
            "[[]]",
            "[{}]",
            "{}",
            "{\"a\":{}}",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "\"00000000-0000-0000-0000-000000000000\"",
            "[\"\\u0000\"]",
            "[1]",
            "[\"\",\"\"]",
            $"[{string.Join(',', Enumerable.Repeat("\"x\"", 5_000))}]",
            .. s_words.Select(word => JsonSerializer.Serialize(word)),
        ];
        foreach (string value in values)
        {
            yield return Encoding.UTF8.GetBytes(
                "{" + string.Join(',', members.Select(member => $"\"{member}\":{value}")) + "}"
            );
            foreach (string member in members.Length > 1 ? members : [])
            {
                yield return Encoding.UTF8.GetBytes($"{{\"{member}\":{value}}}");
            }
        }

        yield return Encoding.UTF8.GetBytes(
            "{" + string.Join(',', members.Concat(members).Select(member => $"\"{member}\":\"x\"")) + "}"
        );
        yield return Encoding.UTF8.GetBytes(
            "{" + string.Join(',', members.Select(member => $"\"{member.ToUpperInvariant()}\":\"x\"")) + "}"
        );
    }

    // Another each run; a failure shows the body itself.
    private static IEnumerable<byte[]> Random(Route route)
    {
        string[] members =
        [
            .. route.BodyType?.GetProperties().Select(property => JsonNamingPolicy.CamelCase.ConvertName(property.Name))
                ?? [],
            "events",
            "userId",
            "name",
        ];
        Gen<string> leaf = Gen.OneOf(
            Gen.String.Select(text => JsonSerializer.Serialize(text)),
            Gen.Int.Select(number => number.ToString(System.Globalization.CultureInfo.InvariantCulture)),
            Gen.Int[0, s_constants.Length - 1].Select(at => s_constants[at])
        );
        Gen<string> member = Gen.Select(Gen.Int[0, members.Length - 1].Select(at => members[at]), leaf, leaf)
            .Select((name, one, two) => $"\"{name}\":{(one.Length % 3 == 0 ? $"[{one},{two}]" : one)}");
        Gen<string> body = member.Array[0, 6].Select(all => "{" + string.Join(',', all) + "}");
        for (int made = 0; made < RandomBodies; made++)
        {
            yield return Encoding.UTF8.GetBytes(body.Single());
        }
    }

    // Each route with callers of its own: what one does to its enterprise is not another's.
    private Task ForEachAsync(IEnumerable<Route> routes, Func<Route, (string, string)[], Task> knock) =>
        Parallel.ForEachAsync(
            routes,
            new ParallelOptions
            {
                MaxDegreeOfParallelism = AtOnce,
                CancellationToken = TestContext.Current.CancellationToken,
            },
            async (route, _) =>
            {
                Tenant tenant = await fixture.Tenants.CreateAsync();
                string anOperator = (await Server.LoginOperatorAsync()).AccessToken;
                (string, string)[] callers =
                [
                    (
                        "Authorization",
                        "Bearer "
                            + (
                                route.Permission is "enterprises:write" or "platform:write"
                                    ? anOperator
                                    : tenant.AdminToken
                            )
                    ),
                    ("Authorization", "Bearer " + tenant.ApiKey),
                ];
                await knock(route, callers);
            }
        );

    private static string Lines(ConcurrentBag<string> wrong) =>
        $"{wrong.Count} wrong:\n"
        + string.Join(
            '\n',
            wrong.Order(StringComparer.Ordinal).DistinctBy(line => line[..Math.Min(line.Length, 60)]).Take(40)
        );
}
