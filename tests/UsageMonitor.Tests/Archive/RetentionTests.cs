using UsageMonitor.Server.Archive.Retention;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;
using Xunit;

namespace UsageMonitor.Tests.Archive;

public sealed class RetentionTests(Engines engines)
{
    [Fact]
    public async Task RunAsync_WhenTheArchiveIsWanted_ShouldDeleteNoEventBeforeItIsArchived()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        await StoreAsync(archive, enterprise, 60, 20);
        await SetAsync(archive, enterprise, archiveWanted: true, eventsDays: 50);

        await RunAsync(archive);
        Assert.Equal(20, await archive.CountAsync("usage_events"));

        await archive.ArchiveAsync();
        Assert.Equal(1, await archive.CountAsync("archive_files"));
        await RunAsync(archive);
        Assert.Equal((0, 0), (await archive.CountAsync("usage_events"), await archive.CountAsync("archive_files")));
        Assert.Equal(0, await archive.CountAsync("archived_event_keys"));
        Assert.Empty(Directory.GetFiles(archive.Settings.Folder, "*", SearchOption.AllDirectories));
        Assert.Equal(
            [("EVENTS", "archive_files", 20L)],
            await archive.Pipeline.QueryAsync(
                "SELECT data_class, table_name, deleted_rows FROM retention_runs WHERE data_class = 'EVENTS'",
                reader => (reader.GetString(0), reader.GetString(1), reader.GetInt64(2))
            )
        );

        // What comes in of then is not archived any more, and goes with the next run.
        await StoreAsync(archive, enterprise, 60, 3);
        Assert.Equal(0, await archive.ArchiveAsync());
        await RunAsync(archive);
        Assert.Equal(0, await archive.CountAsync("usage_events"));
    }

    [Fact]
    public async Task RunAsync_WhenLegallyHeld_ShouldDeleteNothing()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        await StoreAsync(archive, enterprise, 60, 5);
        await SetAsync(archive, enterprise, archiveWanted: false, eventsDays: 1, hold: true);
        await RunAsync(archive);
        Assert.Equal(5, await archive.CountAsync("usage_events"));
        Assert.NotEqual(0, await archive.CountAsync("user_usage_aggregates"));
        Assert.Equal(0, await archive.CountAsync("retention_runs"));
    }

    [Fact]
    public async Task RunAsync_WhenEnterprisesDiffer_ShouldDeleteOnlyWhatEachLetsGo()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo one = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        EnterpriseInfo other = await archive.Pipeline.AddEnterpriseAsync("Europe/Berlin", 1);
        foreach (EnterpriseInfo enterprise in new[] { one, other })
        {
            await StoreAsync(archive, enterprise, 100, 12);
            await StoreAsync(archive, enterprise, 20, 4);
        }

        await SetAsync(archive, one, archiveWanted: false, eventsDays: 30);
        Assert.Equal(12 + 2, await RunAsync(archive));
        Assert.Equal(
            [(one.EnterpriseId, 4L), (other.EnterpriseId, 16L)],
            (
                await archive.Pipeline.QueryAsync(
                    "SELECT enterprise_id, count(*) FROM usage_events GROUP BY 1",
                    reader => (reader.GetGuid(0), reader.GetInt64(1))
                )
            ).OrderBy(row => row.Item2)
        );
        Assert.Equal(
            [(one.EnterpriseId, "usage_events", 12L, false), (one.EnterpriseId, "user_usage_aggregates", 1L, false)],
            await archive.Pipeline.QueryAsync(
                "SELECT enterprise_id, table_name, deleted_rows, whole_partition FROM retention_runs WHERE table_name <> 'active_user_sets' ORDER BY 2",
                reader => (reader.GetGuid(0), reader.GetString(1), reader.GetInt64(2), reader.GetBoolean(3))
            )
        );
    }

    [Fact]
    public async Task RunAsync_WhenEverybodyLetsAMonthGo_ShouldEmptyItsPartition()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo one = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        EnterpriseInfo other = await archive.Pipeline.AddEnterpriseAsync("Europe/Berlin", 2);
        await StoreAsync(archive, one, 100, 12);
        await StoreAsync(archive, other, 100, 3);
        await SetAsync(archive, one, archiveWanted: false, eventsDays: 30);
        await SetAsync(archive, other, archiveWanted: false, eventsDays: 40);
        await SetEverybodyElseAsync(archive);

        await RunAsync(archive);

        Assert.Equal(0, await archive.CountAsync("usage_events"));
        Assert.Equal(
            [(12L, true), (3L, true)],
            await archive.Pipeline.QueryAsync(
                "SELECT deleted_rows, whole_partition FROM retention_runs WHERE table_name = 'usage_events' ORDER BY 1 DESC",
                reader => (reader.GetInt64(0), reader.GetBoolean(1))
            )
        );

        // The partition is still there for what comes late.
        await StoreAsync(archive, one, 100, 1);
        Assert.Equal(1, await archive.CountAsync("usage_events"));
    }

    [Fact]
    public async Task RunAsync_WhenNothingPointsToSegments_ShouldTrimThem()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        EnterpriseInfo refused = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 2);
        await StoreAsync(archive, enterprise, 60, 5);
        await archive.Pipeline.AppendAsync(
            refused,
            [],
            blocked: [PipelineFixture.Attempt(Event(refused, 60), Guid.NewGuid())]
        );
        await archive.Pipeline.ProcessAllAsync(archive.Pipeline.NewStep(archive.Time));
        await archive.Pipeline.AppendAsync(
            await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 3),
            [Event(enterprise, 60)]
        );
        archive.Time.Advance(TimeSpan.FromDays(45));

        // Live events, a refused attempt, and a segment that processing has not reached.
        Assert.Equal((0, 0), await TrimAsync(archive));
        await archive.ArchiveAsync();
        await TrimAsync(archive);
        Assert.Equal(
            [2, 3],
            await archive.Pipeline.QueryAsync(
                "SELECT DISTINCT log_partition FROM log_segments ORDER BY 1",
                reader => (int)reader.GetInt16(0)
            )
        );
        Assert.Equal(5, (await archive.ReadArchiveAsync(enterprise)).Count(one => one.Properties == "{\"n\":1}"));
    }

    private static async Task<long> RunAsync(ArchiveFixture archive) =>
        await new RetentionRun(
            archive.Pipeline.Database,
            archive.Pipeline.Enterprises,
            archive.Folder,
            new MonthEmptying(archive.Pipeline.Database),
            new AuditTrim(archive.Pipeline.Database),
            archive.Time
        )
        {
            RestsBetween = false,
        }.RunAsync(default);

    private static Task<(int, int)> TrimAsync(ArchiveFixture archive) =>
        new LogTrim(
            archive.Pipeline.Database,
            archive.Pipeline.Log,
            new MonthEmptying(archive.Pipeline.Database),
            archive.Settings,
            archive.Time
        ).RunAsync(default);

    private static Task StoreAsync(ArchiveFixture archive, EnterpriseInfo enterprise, int daysAgo, int count) =>
        archive.StoreAsync(enterprise, [.. Enumerable.Range(0, count).Select(_ => Event(enterprise, daysAgo))]);

    private static ParsedEvent Event(EnterpriseInfo enterprise, int daysAgo) =>
        PipelineFixture.Event(
            Guid.NewGuid(),
            enterprise,
            "user",
            "feature",
            new DateTimeOffset(DateTime.UtcNow.Date.AddDays(-daysAgo).AddHours(9), TimeSpan.Zero)
        );

    private static async Task SetAsync(
        ArchiveFixture archive,
        EnterpriseInfo enterprise,
        bool archiveWanted,
        int eventsDays,
        bool hold = false
    )
    {
        await using ScopedTransaction own = await archive.Pipeline.Database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            default
        );
        await own.ExecuteAsync(
            """
            INSERT INTO retention_settings (enterprise_id, archive, events_days, user_aggregates_days, legal_hold, updated_by, updated_at)
            VALUES ($1, $2, $3, $3, $4, $1, now())
            """,
            [enterprise.EnterpriseId, archiveWanted, eventsDays, hold],
            default
        );
        await own.CommitAsync(default);
    }

    // The platform is an enterprise too.
    private static async Task SetEverybodyElseAsync(ArchiveFixture archive) =>
        await archive.Pipeline.QueryAsync(
            """
            INSERT INTO retention_settings (enterprise_id, archive, events_days, updated_by, updated_at)
            SELECT enterprise_id, false, 1, enterprise_id, now() FROM enterprises ON CONFLICT DO NOTHING RETURNING 1
            """,
            reader => reader.GetInt32(0)
        );
}
