using System.Collections.Concurrent;
using Npgsql;
using UsageMonitor.Tests.Security;
using Xunit;

namespace UsageMonitor.Tests.Audit;

/// <summary>
/// Every route that changes something, called by somebody who means it well: whenever it does what it is for, its enterprise's audit
/// log is longer afterwards. Routes are discovered, so a new one is held to it by itself.
/// </summary>
public sealed class AuditManifestTests(TenantsFixture fixture) : IClassFixture<TenantsFixture>
{
    private const int AtOnce = 4;
    private static readonly (string, string) s_json = ("Accept", "application/json");

    /// <summary>Answered with success and no entry, each with the reason.</summary>
    private static readonly Dictionary<string, string> s_noAct = new()
    {
        ["POST /v1/usage/events"] = "usage has its own ledger",
        ["POST /v1/usage/check"] = "a refusal is kept as a decision",
        ["POST /v1/usage/reservations"] = "usage has its own ledger",
        ["POST /v1/usage/reservations/{reservationId:guid}/commit"] = "usage has its own ledger",
        ["POST /v1/usage/reservations/{reservationId:guid}/release"] = "usage has its own ledger",
        ["POST /v1/admin/policies/simulate"] = "computes and changes nothing",
        ["POST /v1/admin/usage/limits/backtest"] = "computes and changes nothing",
        ["POST /policies/simulate"] = "computes and changes nothing",
        ["POST /limits/backtest"] = "computes and changes nothing",
        ["POST /v1/admin/identity-providers/{providerId:guid}/test"] = "looks whether the provider answers",
        ["POST /single-sign-on/{providerId:guid}/test"] = "looks whether the provider answers",
        ["POST /audit/verify"] = "looks, and changes nothing",
        ["POST /v1/audit/verify"] = "looks, and changes nothing",
        ["POST /v1/admin/privacy/property-rules/preview"] = "changes nothing and shows nothing but what was sent",
        ["POST /privacy/rules/preview"] = "changes nothing and shows nothing but what was sent",
        ["POST /v1/me/proof/options"] = "hands out a challenge",
        ["POST /v1/me/second-factors/passkeys/options"] = "hands out a challenge",
    };

    /// <summary>Bodies of routes that take no id, and so have no line in <see cref="SampleBodies"/>.</summary>
    private static readonly Dictionary<string, string> s_bodies = new()
    {
        ["POST /v1/admin/api-keys"] = """{"name":"{{new}}","scopes":["usage:write"]}""",
        ["POST /v1/admin/roles"] = """{"name":"{{new}}","permissions":["usage:read"]}""",
        ["PUT /v1/admin/security-settings"] = """{"secondFactorRequired":false,"passwordSignIn":true}""",
        ["PUT /v1/admin/policies/default"] = """{"default":"PERMIT"}""",
        ["PUT /v1/admin/usage/limits/settings"] = """{"whenUncounted":"OPEN"}""",
        ["PUT /v1/admin/anomalies/settings"] = """{"sensitivity":"NORMAL","recipients":[]}""",
        ["POST /v1/admin/privacy/property-rules"] = """{"property":"{{new}}","action":"DROP"}""",
        ["PUT /v1/admin/privacy/property-rules/defaults"] = """{"default":"ALLOW"}""",
        ["POST /privacy/rules"] = """{"property":"{{new}}","action":"DROP"}""",
        ["POST /privacy/rules/defaults"] = """{"default":"ALLOW","emails":"ALLOW","cards":"ALLOW","tokens":"ALLOW"}""",
        ["PUT /v1/me"] = """{"displayName":"Somebody"}""",
    };

    [Fact]
    public async Task Routes_WhenTheyHaveChangedSomething_ShouldHaveLeftAnEntry()
    {
        using var knocking = new Knocking(fixture.Server.Client.BaseAddress!);
        (string formCookie, string formToken) = await knocking.AntiforgeryAsync();
        var wrong = new ConcurrentBag<string>();
        var done = new ConcurrentBag<string>();
        await Parallel.ForEachAsync(
            Route.Of(fixture.Server.Services).Where(route => route is { Changes: true, IsAnonymous: false }),
            new ParallelOptions
            {
                MaxDegreeOfParallelism = AtOnce,
                CancellationToken = TestContext.Current.CancellationToken,
            },
            async (route, _) =>
            {
                if (route.Permission is "enterprises:write" or "platform:write" || s_noAct.ContainsKey(route.Name))
                {
                    return;
                }

                SampleBodies.Sample sample =
                    SampleBodies.For(route) ?? new SampleBodies.Sample(s_bodies.GetValueOrDefault(route.Name));
                string[] path = sample.Path.Length > 0 ? sample.Path : [.. route.Parameters.Select(_ => "")];
                var shape = new ForeignIdTests.Shape(route, sample, path.Length, [.. path, .. sample.Slots], []);
                Tenant own = await fixture.Tenants.CreateFullAsync();
                (string, string)[] headers = route.TakesForm
                    ?
                    [
                        s_json,
                        ("Sec-Fetch-Site", "same-origin"),
                        ("Cookie", $"{await fixture.Tenants.SignInWithBrowserAsync(own.Admin)}; {formCookie}"),
                    ]
                    : [s_json, ("Authorization", "Bearer " + own.AdminToken)];
                (string, string)[] asKey = [s_json, ("Authorization", "Bearer " + own.ApiKey)];
                string?[] kinds = shape.Slots.Contains("") ? [.. own.Ids.Keys] : [null];
                foreach (string? kind in kinds)
                {
                    string Slot(int slot) =>
                        kind is null || shape.Slots[slot].Length > 0
                            ? ForeignIdTests.OwnId(shape, own, slot)
                            : own.Ids[kind];
                    if (shape.PathSlots > 0 && route.Parameters[0].IsUuid && !Guid.TryParse(Slot(0), out Guid _))
                    {
                        continue;
                    }

                    foreach ((string, string)[] by in route.TakesForm ? [headers] : new[] { headers, asKey })
                    {
                        long before = await EntriesAsync(own);
                        Answer answer = await knocking.SendAsync(
                            route.Method,
                            ForeignIdTests.PathOf(shape, Slot),
                            ForeignIdTests.ContentOf(shape, Slot, formToken),
                            by
                        );
                        long after = await EntriesAsync(own);

                        // A page sends the browser on whether it did something or not; its form goes to the same writers.
                        bool isDone = route.TakesForm ? after > before : answer.IsSuccess;
                        if (answer.Status >= 500 && !route.TakesForm)
                        {
                            wrong.Add($"{route.Name}: {answer}");
                        }

                        if (isDone && after == before)
                        {
                            wrong.Add($"{route.Name}: done without an entry: {answer.Status}");
                        }

                        // A form that is wrong is shown again, with 200 or 4xx.
                        if (!isDone && after != before && answer.Status != 403)
                        {
                            wrong.Add($"{route.Name}: {after - before} entries and {answer}");
                        }

                        if (isDone)
                        {
                            done.Add(route.Name);
                            return;
                        }
                    }
                }
            }
        );

        Assert.True(wrong.IsEmpty, $"{wrong.Count} wrong:\n" + string.Join('\n', wrong.Order(StringComparer.Ordinal)));
        Assert.Contains("POST /v1/admin/api-keys", done);
        Assert.Contains("PUT /v1/admin/policies/{id:guid}", done);
        Assert.Contains("POST /v1/admin/usage/limits", done);
        Assert.True(done.Count > 50, $"only {done.Count} routes did anything: {string.Join(", ", done)}");
    }

    private async Task<long> EntriesAsync(Tenant tenant)
    {
        await using var owner = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString);
        await owner.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(
            "SELECT count(*) FROM audit_log WHERE enterprise_id = $1 AND action <> 'access.refused'",
            owner
        );
        command.Parameters.Add(new NpgsqlParameter { Value = tenant.EnterpriseId });
        return (long)(await command.ExecuteScalarAsync(TestContext.Current.CancellationToken))!;
    }
}
