using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Limits;
using Xunit;

namespace UsageMonitor.Tests.Dashboard;

/// <summary>A reported figure that changes leaves what it was.</summary>
public sealed class RestatementTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task List_WhenEventsComeAfterTheirDayWasReported_ShouldTellBeforeAfterAndWhy()
    {
        Acme acme = await OldAcmeAsync();
        await acme.SendAsync(Late("search", 2), Late("search", 2), Late("export", 2), Now("search"));
        await acme.ProcessedAsync();
        await acme.SendAsync(Late("search", 2), Late("search", 30));
        await acme.ProcessedAsync();

        RestatementListResponse list = await acme.GetAsync<RestatementListResponse>(Path(""));

        DateOnly twoDaysAgo = DateOnly.FromDateTime(Zoned(2));
        Assert.Equal(
            [(twoDaysAgo, "export", 0L, 1L), (twoDaysAgo, "search", 0L, 3L), (twoDaysAgo, null, 0L, 4L)],
            list.Restatements.Where(one => one.Cause == "LATE")
                .OrderBy(one => one.FeatureName is null)
                .ThenBy(one => one.FeatureName, StringComparer.Ordinal)
                .Select(one => (one.Day, one.FeatureName, one.Before, one.After))
        );
        Assert.Equal(
            [("search", 0L, 1L), (null, 0L, 1L)],
            list.Restatements.Where(one => one.Cause == "BACKFILL")
                .OrderBy(one => one.FeatureName is null)
                .Select(one => (one.FeatureName, one.Before, one.After))
        );
        Assert.Equal(
            [null, null],
            (await acme.GetAsync<RestatementListResponse>(Path("&feature=*"))).Restatements.Select(one =>
                one.FeatureName
            )
        );
    }

    [Fact]
    public async Task List_WhenADayIsRestatedOnSeveralDays_ShouldFollowFromReportToPresent()
    {
        Acme acme = await OldAcmeAsync();
        var random = new Random(20_261_124);
        string[] features = ["search", "export", "open"];
        for (int round = 0; round < 6; round++)
        {
            UsageEvent[] events =
            [
                .. Enumerable
                    .Range(0, random.Next(1, 12))
                    .Select(_ => Late(features[random.Next(3)], random.Next(2, 6))),
            ];
            await acme.SendAsync(events);

            // The same events again change nothing.
            await acme.SendAsync(events);
            await acme.ProcessedAsync();
            await fixture.Server.Database.ExecuteAsync(
                $"UPDATE usage_restatements SET restated_on = restated_on - {100 - round} WHERE enterprise_id = '{acme.EnterpriseId}' AND restated_on > now()::date - 50"
            );
        }

        var seen = new List<RestatementSummary>();
        for (Guid? next = null; seen.Count == 0 || next is not null; )
        {
            RestatementListResponse page = await acme.GetAsync<RestatementListResponse>(
                Path($"&limit=4&before={next}")
            );
            Assert.InRange(page.Restatements.Count, 1, 4);
            seen.AddRange(page.Restatements);
            next = page.Next;
        }

        Assert.Equal(seen.Count, seen.DistinctBy(one => one.RestatementId).Count());
        Dictionary<(DateOnly, string), long> present = await PresentAsync(acme);
        Assert.Equal(present.Count, seen.DistinctBy(one => (one.Day, one.FeatureName)).Count());
        foreach (var chain in seen.GroupBy(one => (one.Day, one.FeatureName)))
        {
            RestatementSummary[] rows = [.. chain.OrderBy(one => one.FirstAt)];
            Assert.Equal(0, rows[0].Before);
            Assert.All(rows.Zip(rows.Skip(1)), pair => Assert.Equal(pair.First.After, pair.Second.Before));
            Assert.Equal(present[(chain.Key.Day, chain.Key.FeatureName ?? "")], rows[^1].After);
        }
    }

    [Fact]
    public async Task List_WhenTheEnterpriseIsNewOrAnother_ShouldHoldNothing()
    {
        Acme old = await OldAcmeAsync();
        Acme fresh = await Acme.CreateAsync(fixture.Server);
        await old.SendAsync(Late("search", 3));
        await fresh.SendAsync(Late("search", 3));
        await old.ProcessedAsync();
        await fresh.ProcessedAsync();

        Assert.Equal(2, (await old.GetAsync<RestatementListResponse>(Path(""))).Restatements.Count);
        Assert.Empty((await fresh.GetAsync<RestatementListResponse>(Path(""))).Restatements);
    }

    private static string Path(string more) =>
        $"/v1/dashboard/restatements?from={Zoned(60):yyyy-MM-dd}&to={Zoned(0):yyyy-MM-dd}{more}";

    // Acme is in Kolkata.
    private static DateTime Zoned(int daysAgo) => DateTime.UtcNow.AddHours(5.5).AddDays(-daysAgo);

    private static UsageEvent Late(string feature, int daysAgo) =>
        new("ana", feature, Guid.NewGuid(), EventTimestamp: DateTimeOffset.UtcNow.AddDays(-daysAgo));

    private static UsageEvent Now(string feature) => new("ana", feature, Guid.NewGuid());

    private async Task<Acme> OldAcmeAsync()
    {
        Acme acme = await Acme.CreateAsync(fixture.Server);
        await fixture.Server.Database.ExecuteAsync(
            $"UPDATE enterprises SET created_at = now() - interval '90 days' WHERE enterprise_id = '{acme.EnterpriseId}'"
        );
        return acme;
    }

    private async Task<Dictionary<(DateOnly Day, string Feature), long>> PresentAsync(Acme acme)
    {
        await using var connection = new NpgsqlConnection(fixture.Server.Database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(
            $"""
            SELECT (time_bucket AT TIME ZONE 'Asia/Kolkata')::date, feature_name, value FROM usage_aggregates
             WHERE enterprise_id = '{acme.EnterpriseId}' AND granularity = 'day' AND metric_type = 'usage_count'
            """,
            connection
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        var present = new Dictionary<(DateOnly, string), long>();
        while (await reader.ReadAsync(TestContext.Current.CancellationToken))
        {
            present[(reader.GetFieldValue<DateOnly>(0), reader.GetString(1))] = reader.GetInt64(2);
        }

        return present;
    }
}
