using System.Collections.Concurrent;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// Wherever a route takes an id, in its path, its query or its body, another enterprise's real id is answered byte for byte as one
/// that does not exist, and changes nothing of that enterprise. Routes and the places of ids are discovered; what else a
/// request needs stands in <see cref="SampleBodies"/>.
/// </summary>
public sealed partial class ForeignIdTests(TenantsFixture fixture) : IClassFixture<TenantsFixture>
{
    private const int AtOnce = 6;
    private const string Any = "any:";

    /// <summary>Names of members that hold an id or a list of them.</summary>
    [GeneratedRegex("(^|[a-z_])(Ids?|id|ids|members|principals|users|groups|roles|apiKeys)$")]
    private static partial Regex IdName();

    private static readonly (string, string) s_json = ("Accept", "application/json");

    private RunningServer Server => fixture.Server;

    /// <summary>A request with the places of its ids.</summary>
    /// <param name="Slots">The kinds of the ids, of the path first; empty: whichever.</param>
    internal sealed record Shape(
        Route Route,
        SampleBodies.Sample Sample,
        int PathSlots,
        IReadOnlyList<string> Slots,
        IReadOnlyList<string> Query
    );

    [Fact]
    public async Task Routes_WhenTheyTakeIds_ShouldEachHaveARequestToTryThemWith()
    {
        IReadOnlyList<Route> routes = Route.Of(Server.Services);
        SampleBodies.AssertAllAreRoutes(routes);
        IReadOnlySet<string> contract = await ContractBodiesAsync();

        string[] missing = [.. routes.Select(route => WhatIsMissing(route, contract)).OfType<string>()];

        Assert.True(missing.Length == 0, string.Join('\n', missing));
        Assert.Contains(Shapes(routes), shape => shape.Route.Name == "DELETE /v1/admin/api-keys/{id:guid}");
    }

    [Fact]
    public async Task Anything_WhenNamedByAnothersId_ShouldBeAnsweredAsIfItDidNotExist()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        (string formCookie, string formToken) = await knocking.AntiforgeryAsync();
        Tenant foreign = await fixture.Tenants.CreateFullAsync();
        // Words that every enterprise has are nobody's.
        string[] foreignIds =
        [
            .. foreign
                .Ids.Where(pair => pair.Key != "email")
                .Select(pair => pair.Value)
                .Distinct()
                .Where(id => Guid.TryParse(id, out Guid _) || id.Contains(foreign.Marker, StringComparison.Ordinal)),
        ];
        var wrong = new ConcurrentBag<string>();
        string before = await ChecksumAsync(foreign);
        int tried = 0;
        await Parallel.ForEachAsync(
            Shapes(Route.Of(Server.Services)),
            new ParallelOptions
            {
                MaxDegreeOfParallelism = AtOnce,
                CancellationToken = TestContext.Current.CancellationToken,
            },
            async (shape, _) =>
            {
                Tenant own = await fixture.Tenants.CreateFullAsync();
                string browser = await fixture.Tenants.SignInWithBrowserAsync(own.Admin);
                (string, string)[][] callers = shape.Route.TakesForm
                    ?
                    [
                        [s_json, ("Sec-Fetch-Site", "same-origin"), ("Cookie", $"{browser}; {formCookie}")],
                    ]
                    :
                    [
                        [s_json, ("Authorization", "Bearer " + own.AdminToken)],
                        [s_json, ("Authorization", "Bearer " + own.ApiKey)],
                    ];
                foreach ((string, string)[] headers in callers)
                {
                    Task<Answer> SendAsync(Func<int, string> slot, string query = "") =>
                        knocking.SendAsync(
                            shape.Route.Method,
                            PathOf(shape, slot) + query,
                            ContentOf(shape, slot, formToken),
                            headers
                        );

                    foreach (
                        (int place, string id) in from place in Enumerable.Range(0, shape.Slots.Count)
                        from id in foreignIds
                        select (place, id)
                    )
                    {
                        if (
                            place < shape.PathSlots
                            && shape.Route.Parameters[place].IsUuid
                            && !Guid.TryParse(id, out Guid _)
                        )
                        {
                            continue;
                        }

                        Interlocked.Increment(ref tried);
                        string nothing = Guid.TryParse(id, out Guid _)
                            ? Guid.NewGuid().ToString()
                            : "nothing-" + Guid.NewGuid().ToString("N");
                        Answer theirs = await SendAsync(slot => slot == place ? id : OwnId(shape, own, slot));
                        Answer nobodys = await SendAsync(slot => slot == place ? nothing : OwnId(shape, own, slot));
                        Compare(
                            shape,
                            $"place {place}, {KindOf(foreign, id)}",
                            theirs,
                            nobodys,
                            id,
                            nothing,
                            shape.Slots[place].StartsWith(Any, StringComparison.Ordinal),
                            foreign,
                            wrong
                        );
                    }

                    foreach (string parameter in shape.Query)
                    {
                        foreach (string id in foreignIds)
                        {
                            Interlocked.Increment(ref tried);
                            string nothing = Guid.TryParse(id, out Guid _)
                                ? Guid.NewGuid().ToString()
                                : "nothing-" + Guid.NewGuid().ToString("N");
                            Answer theirs = await SendAsync(
                                slot => OwnId(shape, own, slot),
                                $"?{parameter}={Uri.EscapeDataString(id)}"
                            );
                            Answer nobodys = await SendAsync(
                                slot => OwnId(shape, own, slot),
                                $"?{parameter}={nothing}"
                            );
                            Compare(
                                shape,
                                $"?{parameter}, {KindOf(foreign, id)}",
                                theirs,
                                nobodys,
                                id,
                                nothing,
                                true,
                                foreign,
                                wrong
                            );
                        }
                    }
                }

                if (await WhyNotOnesOwnAsync(shape, own, knocking, callers, formToken) is { } vain)
                {
                    wrong.Add(vain);
                }
            }
        );

        Assert.True(
            wrong.IsEmpty,
            $"{wrong.Count} wrong:\n" + string.Join('\n', wrong.Order(StringComparer.Ordinal).Take(40))
        );
        string[] changed = [.. (await ChecksumAsync(foreign)).Split('\n').Except(before.Split('\n'))];
        Assert.True(changed.Length == 0, "rows of the other enterprise have changed: " + string.Join(", ", changed));
        Assert.True(tried > 0);
        TestContext.Current.SendDiagnosticMessage($"{tried} ids tried");
    }

    [Fact]
    public async Task Listings_WhenAnotherEnterpriseHasRows_ShouldNotShowThem()
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        Tenant foreign = await fixture.Tenants.CreateFullAsync();
        Tenant own = await fixture.Tenants.CreateAsync();
        foreach (Route route in Route.Of(Server.Services).Where(route => !route.Changes && route.Parameters.Count == 0))
        {
            foreach (string bearer in new[] { own.AdminToken, own.ApiKey })
            {
                Answer answer = await knocking.SendAsync(
                    "GET",
                    route.PathToNothing(),
                    null,
                    [s_json, ("Authorization", "Bearer " + bearer)]
                );

                Assert.True(answer.Status < 500, $"{route.Name}: {answer}");
                Assert.False(Tells(answer, foreign), $"{route.Name} tells of another enterprise: {answer}");
            }
        }
    }

    /// <summary>Requests that name an address: the answer must not tell who has an account, here or elsewhere.</summary>
    /// <remarks>
    /// Not among them: SCIM's user names, which must be unique (RFC 7644, 3.3) and are people's addresses for signing in. What
    /// a provisioning key can learn by that is in docs/security.md.
    /// </remarks>
    [Theory]
    [InlineData("POST", "/v1/auth/login", """{"email":"{0}","password":"not the password"}""", null)]
    [InlineData("POST", "/v1/auth/password-reset", """{"email":"{0}"}""", null)]
    [InlineData("POST", "/v1/admin/users", """{"email":"{0}","roles":["Employee"]}""", "person")]
    public async Task Address_WhenAnotherEnterprisesPersonHasIt_ShouldBeAnsweredAsIfNobodyHad(
        string method,
        string path,
        string body,
        string? signedIn
    )
    {
        using var knocking = new Knocking(Server.Client.BaseAddress!);
        Tenant foreign = await fixture.Tenants.CreateFullAsync();
        Tenant own = await fixture.Tenants.CreateFullAsync();
        Assert.Contains(Route.Of(Server.Services), route => route.Name == $"{method} {path}");
        (string, string)[] headers = signedIn is null
            ? [s_json]
            : [s_json, ("Authorization", "Bearer " + own.AdminToken)];

        async Task<(Answer, string)> KnockAsync(string email)
        {
            using HttpContent content = Knocking.Json(body.Replace("{0}", email, StringComparison.Ordinal));
            Answer answer = await knocking.SendAsync(method, path, content, headers);
            return (answer, Address().Replace(Normal(answer, email), "«»"));
        }

        (Answer theirs, string one) = await KnockAsync(foreign.Ids["email"]);
        (Answer nobodys, string other) = await KnockAsync($"nobody.{Guid.NewGuid():N}@walls.example");

        Assert.True(one == other, $"{theirs}\nand\n{nobodys}");
        Assert.True(theirs.Status < 500, theirs.ToString());
    }

    /// <summary>What is made up for each link.</summary>
    [GeneratedRegex("(?<=token=)[^\"&]+|W/\"[^\"]*\"")]
    private static partial Regex Address();

    private static void Compare(
        Shape shape,
        string what,
        Answer theirs,
        Answer nobodys,
        string id,
        string nothing,
        bool mayBeTaken,
        Tenant foreign,
        ConcurrentBag<string> wrong
    )
    {
        string name = $"{shape.Route.Name} ({what})";
        if (theirs.IsSuccess && !mayBeTaken)
        {
            wrong.Add(
                $"{name}: another's id is answered with {theirs}. If it is a name and not a reference, say so with any: in SampleBodies.cs"
            );
        }

        if (theirs.Status >= 500 || nobodys.Status >= 500)
        {
            wrong.Add($"{name}: failed, {theirs}");
        }

        (string one, string other) = (Normal(theirs, id), Normal(nobodys, nothing));
        if (one != other)
        {
            int at = Math.Max(0, one.Zip(other).TakeWhile(pair => pair.First == pair.Second).Count() - 40);
            wrong.Add(
                $"{name}: another's id and no one's are told apart: {theirs.Status} «{Beginning(one[at..])}» and {nobodys.Status} «{Beginning(other[at..])}»"
            );
        }

        if (Tells(theirs with { Body = theirs.Body.Replace(id, "", StringComparison.OrdinalIgnoreCase) }, foreign))
        {
            wrong.Add($"{name}: tells of the other enterprise: {theirs}");
        }
    }

    private static string Beginning(string text) => text[..Math.Min(text.Length, 160)].ReplaceLineEndings(" ");

    // Everything but what differs from one request to the next: the id itself, trace ids, instants, and ids just made.
    private static string Normal(Answer answer, string id)
    {
        string text = $"{answer.Status}\n{answer.Headers}\n{answer.Body}"
            .Replace(Uri.EscapeDataString(id), "«id»", StringComparison.OrdinalIgnoreCase)
            .Replace(id, "«id»", StringComparison.OrdinalIgnoreCase);
        text = Varying().Replace(text, "«»");
        return answer.IsSuccess ? Made().Replace(text, "«»") : text;
    }

    /// <summary>Headers and members that name the request and not what was asked.</summary>
    [GeneratedRegex(
        "(?m)^(Date|Set-Cookie|RateLimit[^:]*|X-RateLimit[^:]*|Content-Length): .*$|\"traceId\":\"[^\"]*\"|name=\"_form\" value=\"[^\"]*\"|new-[0-9a-f]{8}"
    )]
    private static partial Regex Varying();

    /// <summary>Ids and instants of an answer that made or listed something.</summary>
    [GeneratedRegex(
        "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\\d{4}-\\d\\d-\\d\\dT[\\d:.]+(Z|[+-]\\d\\d:\\d\\d)|um_[\\w-]{43}|(?<=\"version\":)\\d+"
    )]
    private static partial Regex Made();

    private static bool Tells(Answer answer, Tenant foreign) =>
        (answer.Body + answer.Headers).Contains(foreign.Marker, StringComparison.OrdinalIgnoreCase)
        || (answer.Body + answer.Headers).Contains(foreign.EnterpriseId.ToString(), StringComparison.OrdinalIgnoreCase);

    // Were the request bad in itself, everything above would hold of it too: with one's own ids it must do what it is for.
    private static async Task<string?> WhyNotOnesOwnAsync(
        Shape shape,
        Tenant own,
        Knocking knocking,
        (string, string)[][] callers,
        string formToken
    )
    {
        if (
            shape.Slots.Count == 0
            || shape.Route.IsPage
            || shape.Sample.OwnFails is not null
            || shape.Route.Permission is "enterprises:write" or "platform:write"
        )
        {
            return null;
        }

        Answer? last = null;
        string?[] kinds = shape.Slots.Contains("") ? [.. own.Ids.Keys] : [null];
        foreach (string? kind in kinds)
        {
            foreach ((string, string)[] headers in callers)
            {
                string Slot(int slot) =>
                    kind is null || shape.Slots[slot].Length > 0 ? OwnId(shape, own, slot) : own.Ids[kind];
                if (shape.PathSlots > 0 && shape.Route.Parameters[0].IsUuid && !Guid.TryParse(Slot(0), out Guid _))
                {
                    continue;
                }

                Answer answer = await knocking.SendAsync(
                    shape.Route.Method,
                    PathOf(shape, Slot),
                    ContentOf(shape, Slot, formToken),
                    headers
                );
                if (answer.IsSuccess)
                {
                    return null;
                }

                // The answer that comes nearest.
                last = last is null || last.Code == "forbidden" ? answer : last;
            }
        }

        return SampleBodies.Missing(shape.Route, $"not even one's own ids are answered with 2xx but with {last}");
    }

    internal static string OwnId(Shape shape, Tenant own, int slot)
    {
        string kind = shape.Slots[slot].StartsWith(Any, StringComparison.Ordinal)
            ? shape.Slots[slot][Any.Length..]
            : shape.Slots[slot];
        return kind.Length == 0 ? Guid.NewGuid().ToString()
            : own.Ids.TryGetValue(kind, out string? id) ? id
            : kind.EndsWith("_id", StringComparison.Ordinal) ? Guid.NewGuid().ToString()
            : throw new InvalidOperationException(
                $"{shape.Route.Name}: there is no id of the kind {kind}; there are {string.Join(", ", own.Ids.Keys)}."
            );
    }

    private static string KindOf(Tenant tenant, string id) => tenant.Ids.First(pair => pair.Value == id).Key;

    internal static string PathOf(Shape shape, Func<int, string> slot)
    {
        IReadOnlyList<(string Name, bool)> parameters = shape.Route.Parameters;
        return shape.Route.Path(name => slot(parameters.TakeWhile(parameter => parameter.Name != name).Count()));
    }

    internal static HttpContent? ContentOf(Shape shape, Func<int, string> slot, string formToken)
    {
        if (shape.Route.TakesForm)
        {
            var fields = new Dictionary<string, string> { ["_form"] = formToken };
            if (shape.Sample.Filled((place, _) => slot(shape.PathSlots + place)) is { } json)
            {
                foreach ((string name, JsonNode? value) in JsonNode.Parse(json)!.AsObject())
                {
                    fields[name] = value!.ToString();
                }
            }

            return new FormUrlEncodedContent(fields);
        }

        return shape.Sample.Filled((place, _) => slot(shape.PathSlots + place)) is { } body
            ? Knocking.Json(body)
            : null;
    }

    private static IEnumerable<Shape> Shapes(IEnumerable<Route> routes)
    {
        foreach (Route route in routes.Where(route => !route.IsAnonymous))
        {
            SampleBodies.Sample sample = SampleBodies.For(route) ?? new SampleBodies.Sample(null);
            string[] path = sample.Path.Length > 0 ? sample.Path : [.. route.Parameters.Select(_ => "")];
            string[] query = [.. route.QueryParameters.Where(name => IdName().IsMatch(name))];
            if (path.Length + sample.Slots.Count + query.Length > 0)
            {
                yield return new Shape(route, sample, path.Length, [.. path, .. sample.Slots], query);
            }
        }
    }

    private static string? WhatIsMissing(Route route, IReadOnlySet<string> contract)
    {
        SampleBodies.Sample? sample = SampleBodies.For(route);
        if (route.IsAnonymous)
        {
            return null;
        }

        if (sample is not null)
        {
            return sample.Path.Length > 0 && sample.Path.Length != route.Parameters.Count
                ? $"{route.Name}: its line in SampleBodies.cs names {sample.Path.Length} of {route.Parameters.Count} parameters."
                : null;
        }

        string[] ids =
        [
            .. route.BodyType is { } type
                ? Members(type, []).Where(name => IdName().IsMatch(name))
                : route.FormFields.Where(name => IdName().IsMatch(name)),
        ];
        return ids.Length > 0 ? SampleBodies.Missing(route, $"its body has {string.Join(", ", ids.Distinct())}")
            : contract.Contains(Constraint().Replace(route.Name, "")) && route.BodyType is null
                ? SampleBodies.Missing(route, "its contract has a body")
            : route.Pattern.StartsWith("/scim", StringComparison.Ordinal) && route.Method is "POST" or "PUT" or "PATCH"
                ? SampleBodies.Missing(route, "SCIM reads its body itself")
            : route.Parameters.Count > 1 ? SampleBodies.Missing(route, "it has several parameters")
            : route.Parameters.Count == 1 && route.BodyType is not null
                ? SampleBodies.Missing(route, "it has a parameter and a body")
            : null;
    }

    /// <summary>What a parameter of a pattern must be; the contract leaves it out.</summary>
    [GeneratedRegex(@":\w+(?=\})")]
    private static partial Regex Constraint();

    private static IEnumerable<string> Members(Type type, HashSet<Type> seen)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type.IsGenericType || type.IsArray)
        {
            return (type.IsArray ? [type.GetElementType()!] : type.GetGenericArguments()).SelectMany(each =>
                Members(each, seen)
            );
        }

        return
            type.Assembly.GetName().Name?.StartsWith("UsageMonitor", StringComparison.Ordinal) == true
            && seen.Add(type)
            && !type.IsEnum
            ? type.GetProperties(BindingFlags.Public | BindingFlags.Instance)
                .SelectMany(property =>
                    Members(property.PropertyType, seen).Prepend(JsonNamingPolicy.CamelCase.ConvertName(property.Name))
                )
            : [];
    }

    // Routes that the contract gives a body, whatever their handlers' signatures say.
    private async Task<IReadOnlySet<string>> ContractBodiesAsync()
    {
        using var document = JsonDocument.Parse(
            await Server.Client.GetStringAsync("/openapi/v1.json", TestContext.Current.CancellationToken)
        );
        return document
            .RootElement.GetProperty("paths")
            .EnumerateObject()
            .SelectMany(path =>
                path.Value.EnumerateObject()
                    .Where(operation => operation.Value.TryGetProperty("requestBody", out _))
                    .Select(operation => $"{operation.Name.ToUpperInvariant()} {path.Name.TrimEnd('/')}")
            )
            .ToHashSet(StringComparer.Ordinal);
    }

    private async Task<string> ChecksumAsync(Tenant tenant)
    {
        RowGenerator rows = await RowGenerator.LoadAsync(
            Server.Database.OwnerConnectionString,
            TestContext.Current.CancellationToken
        );
        return await rows.ChecksumAsync(tenant.EnterpriseId, TestContext.Current.CancellationToken);
    }
}
