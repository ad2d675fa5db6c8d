using System.Collections.Concurrent;
using Npgsql;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// Every route there is, knocked at by every kind of caller there is. What must be answered follows from the permission that
/// the route names and from nothing else, so that a new route is held to it by itself.
/// </summary>
public sealed class RouteMatrixTests(TenantsFixture fixture) : IClassFixture<TenantsFixture>
{
    private const int AtOnce = 8;

    /// <summary>Codes by which the guard refuses; an endpoint that refuses what its permission lets pass has a code of its own.</summary>
    private static readonly string[] s_guardsCodes =
    [
        "forbidden",
        "unauthenticated",
        "invalid_token",
        "enterprise_suspended",
        "address_not_allowed",
        "second_factor_required",
        "cross_site",
    ];

    /// <summary>Routes that refuse some holders of their permission by a code that the guard has too, each with the reason.</summary>
    private static readonly Dictionary<string, string> s_refusesItself = new()
    {
        ["POST /v1/admin/identity-providers"] = OfProviders,
        ["PUT /v1/admin/identity-providers/{providerId:guid}"] = OfProviders,
        ["DELETE /v1/admin/identity-providers/{providerId:guid}"] = OfProviders,
    };

    private const string OfProviders =
        "whoever decides who signs in as whom needs all that an EnterpriseAdmin may do; operators have no provider";

    private static readonly (string, string) s_json = ("Accept", "application/json");

    private RunningServer Server => fixture.Server;

    [Fact]
    public void Routes_WhenListed_ShouldBeThoseOfTheWholeServer()
    {
        IReadOnlyList<Route> routes = Route.Of(Server.Services);

        Assert.Contains(routes, route => route.Name == "DELETE /v1/admin/api-keys/{id:guid}");
        Assert.Contains(routes, route => route is { IsPage: true, Name: "GET /enterprises" });
        Assert.DoesNotContain(routes, route => route.Permission is null);
    }

    [Fact]
    public async Task Guard_WhenAnybodyKnocksAnywhere_ShouldDecideByThePermissionAlone()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        Tenant foreign = await fixture.Tenants.CreateFullAsync();
        IReadOnlyList<CallerKind> callers = await new Callers(Server.Services, fixture.Tenants).AllAsync(
            foreign,
            await PermissionsAsync()
        );
        IReadOnlyList<Route> routes = Route.Of(Server.Services);
        var wrong = new ConcurrentBag<string>();
        int passed = 0;
        await Parallel.ForEachAsync(
            routes.SelectMany(route => callers.Select(caller => (route, caller))),
            new ParallelOptions
            {
                MaxDegreeOfParallelism = AtOnce,
                CancellationToken = TestContext.Current.CancellationToken,
            },
            async (knock, _) =>
            {
                (Route route, CallerKind caller) = knock;
                Refusal? expected = caller.Expected(route);
                CallerKind sending =
                    expected is null && route.Changes && !route.IsAnonymous && caller.Anew is { } anew
                        ? await anew()
                        : caller;
                using HttpContent? content = route.Changes && !route.TakesForm ? Knocking.Json("{}") : null;
                Answer answer = await knocking.SendAsync(route.Method, route.PathToNothing(), content, sending.Headers);
                if (WhatIsWrong(route, expected, answer, foreign) is { } what)
                {
                    wrong.Add($"{route.Name} ({route.Permission}) by {caller}: {what}. It was {answer}");
                }
                else if (expected is null && !route.IsAnonymous)
                {
                    Interlocked.Increment(ref passed);
                }
            }
        );

        Assert.True(wrong.IsEmpty, Lines(wrong));
        // Were everybody refused everywhere, all of the above would hold too.
        Assert.True(passed > routes.Count, $"only {passed} knocks were let in");
        TestContext.Current.SendDiagnosticMessage($"{routes.Count} routes, {callers.Count} callers, {passed} let in");
    }

    [Fact]
    public async Task Guard_WhenAnAddressOrAMethodIsWrittenOtherwise_ShouldLetNobodyAround()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        Tenant employee = await fixture.Tenants.CreateAsync(UsageMonitor.Server.Identity.RolePermissions.Employee);
        (string, string)[][] callers =
        [
            [s_json],
            [s_json, ("Authorization", "Bearer " + employee.AdminToken)],
            [
                s_json,
                ("X-Original-URL", "/sign-in"),
                ("X-Rewrite-URL", "/sign-in"),
                ("X-HTTP-Method-Override", "OPTIONS"),
            ],
        ];
        var wrong = new ConcurrentBag<string>();
        await Parallel.ForEachAsync(
            Route.Of(Server.Services).Where(route => !route.IsAnonymous).SelectMany(Variants),
            new ParallelOptions
            {
                MaxDegreeOfParallelism = AtOnce,
                CancellationToken = TestContext.Current.CancellationToken,
            },
            async (knock, _) =>
            {
                (Route route, string method, string path) = knock;
                for (int at = 0; at < callers.Length; at++)
                {
                    if (at == 1 && IsForEveryPerson(route))
                    {
                        continue;
                    }

                    Answer answer = await knocking.SendAsync(method, path, null, callers[at]);
                    if (answer.Status is < 400 or >= 500)
                    {
                        wrong.Add($"{method} {path} (of {route.Name}) by caller {at}: {answer}");
                    }
                }
            }
        );

        Assert.True(wrong.IsEmpty, Lines(wrong));
    }

    [Fact]
    public async Task Guard_WhenAPersonOpensAPage_ShouldShowTheWayToSignIn()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        foreach (
            Route page in Route
                .Of(Server.Services)
                .Where(route => route is { IsPage: true, IsAnonymous: false, Changes: false })
        )
        {
            string path = page.PathToNothing();
            Answer answer = await knocking.SendAsync("GET", path + "?a=<b>", null, [("Accept", "text/html")]);

            Assert.Equal((303, ""), (answer.Status, answer.Body));
            Assert.Equal($"/sign-in?returnUrl={Uri.EscapeDataString(path + "?a=<b>")}", answer.Header("Location"));
        }
    }

    [Fact]
    public async Task Guard_WhenAnotherSiteSendsABrowsersCookie_ShouldRefuseEveryChange()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        Tenant tenant = await fixture.Tenants.CreateAsync();
        string cookie = await fixture.Tenants.SignInWithBrowserAsync(tenant.Admin);
        IEnumerable<Route> changes = Route
            .Of(Server.Services)
            .Where(route =>
                route is { IsAnonymous: false, Changes: true }
                && UsageMonitor
                    .Server.Identity.RolePermissions.BuiltIn["EnterpriseAdmin"]
                    .Append("person")
                    .Append("authenticated")
                    .Contains(route.Permission)
            );
        Assert.NotEmpty(changes);
        foreach (Route route in changes)
        {
            foreach (
                (string, string)[] from in new[]
                {
                    [("Sec-Fetch-Site", "cross-site")],
                    [("Sec-Fetch-Site", "same-site")],
                    [("Origin", "https://evil.example")],
                    [("Origin", "null")],
                    Array.Empty<(string, string)>(),
                }
            )
            {
                using HttpContent? content = route.TakesForm ? null : Knocking.Json("{}");
                Answer answer = await knocking.SendAsync(
                    route.Method,
                    route.PathToNothing(),
                    content,
                    [s_json, ("Cookie", cookie), .. from]
                );

                Assert.True(answer is { Status: 403, Code: "cross_site" }, $"{route.Name}: {answer}");
            }
        }
    }

    private static string? WhatIsWrong(Route route, Refusal? expected, Answer answer, Tenant foreign)
    {
        if (expected is not null)
        {
            if (answer.Status != expected.Status || answer.Code != expected.Code)
            {
                return $"expected {expected.Status} {expected.Code}";
            }
        }
        else if (route.IsAnonymous)
        {
            if (answer.Header("WWW-Authenticate") is not null || answer.Code == "forbidden")
            {
                return "it is open to everybody";
            }
        }
        else if (
            answer.Status is 401 or 403
            && s_guardsCodes.Contains(answer.Code)
            && !s_refusesItself.ContainsKey(route.Name)
        )
        {
            return $"the caller may (if the endpoint itself says no: add it to {nameof(s_refusesItself)} in RouteMatrixTests.cs)";
        }

        if (answer.Status >= 500)
        {
            return "it failed";
        }

        if (answer.Status == 429)
        {
            return "the rate limit is too low for this test: raise it in the settings of its server";
        }

        return answer.Status >= 400 && Tells(answer, foreign) ? "it tells of another enterprise" : null;
    }

    private static bool Tells(Answer answer, Tenant foreign) =>
        (answer.Body + answer.Headers).Contains(foreign.Marker, StringComparison.OrdinalIgnoreCase)
        || (answer.Body + answer.Headers).Contains(foreign.EnterpriseId.ToString(), StringComparison.OrdinalIgnoreCase);

    private static bool IsForEveryPerson(Route route) =>
        route.Permission is "person" or "setting-up" or "authenticated";

    // Other methods at the same address; the same method at addresses that somebody might take for the same.
    private static IEnumerable<(Route, string Method, string Path)> Variants(Route route)
    {
        string path = route.PathToNothing();
        foreach (string method in s_otherMethods.Append(route.Method))
        {
            yield return (route, method, path);
        }

        string[] written =
        [
            path + "/",
            path + "//",
            path.ToUpperInvariant(),
            Encoded(path),
            path + "%00",
            path + "%20",
            path + "%2f",
            path + ";a=b",
            path + ".json",
            path + "?",
            path + "/.",
            path + "/..;/",
            "/." + path,
            "//" + path.TrimStart('/'),
            "/sign-in/.." + path,
            "/sign-in/..%2f" + path.TrimStart('/'),
            "/assets/..%2f" + path.TrimStart('/'),
            "/assets/%2e%2e" + path,
            "/%2e" + path,
            path.Replace("/", "/./", StringComparison.Ordinal),
            path.Replace("/", "//", StringComparison.Ordinal),
            path.Replace("/", "\\", StringComparison.Ordinal).Insert(0, "/"),
            path + "%c0%af",
            "/%ef%bb%bf" + path,
        ];
        foreach (string variant in written.Where(variant => !OpenOnes.Contains(variant)))
        {
            yield return (route, route.Method, variant);
        }
    }

    private static readonly string[] s_otherMethods = ["HEAD", "OPTIONS", "TRACE", "FOO", "get", "PATCH"];

    // What the variants of "/" come to: they are another page's own address.
    private static readonly string[] OpenOnes = ["/sign-in/../", "/assets/..%2f"];

    private static string Encoded(string path) =>
        string.Concat(
            path.Select(character => char.IsAsciiLetter(character) ? $"%{(int)character:x2}" : character.ToString())
        );

    private async Task<List<string>> PermissionsAsync()
    {
        var permissions = new List<string>();
        await using NpgsqlCommand command = Server.Database.Database.App.CreateCommand(
            "SELECT permission FROM permissions"
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        while (await reader.ReadAsync(TestContext.Current.CancellationToken))
        {
            permissions.Add(reader.GetString(0));
        }

        return permissions;
    }

    private static string Lines(ConcurrentBag<string> wrong) =>
        $"{wrong.Count} wrong:\n" + string.Join('\n', wrong.Order(StringComparer.Ordinal).Take(40));
}
