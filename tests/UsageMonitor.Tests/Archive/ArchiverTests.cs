using System.Text;
using Npgsql;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;
using Xunit;

namespace UsageMonitor.Tests.Archive;

public sealed class ArchiverTests(Engines engines)
{
    private static readonly DateTimeOffset s_noon = new(ArchiveFixture.Day.UtcDateTime.Date.AddHours(6), TimeSpan.Zero);

    [Fact]
    public async Task RunAsync_WhenADayIsDue_ShouldMoveEveryEventWithItsPropertiesIntoAFile()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        EnterpriseInfo other = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        ParsedEvent[] events = Events(enterprise, 300);
        await archive.StoreAsync(enterprise, events[..100]);
        await archive.StoreAsync(enterprise, events[100..]);
        await archive.StoreAsync(other, Events(other, 20));
        ParsedEvent young = Event(enterprise, DateTimeOffset.UtcNow.AddDays(-3), "{}");
        await archive.StoreAsync(enterprise, young);

        Assert.Equal(2, await archive.ArchiveAsync());

        List<ArchivedEvent> archived = await archive.ReadArchiveAsync(enterprise);
        Assert.Equal(
            events
                .Select(one => (one.EventId, one.UserId, Text(one), one.TimestampMicroseconds))
                .OrderBy(one => one.EventId),
            archived
                .Select(one => (one.EventId, one.UserId, one.Properties ?? "", Microseconds(one.Timestamp)))
                .OrderBy(one => one.EventId)
        );
        Assert.All(archived, one => Assert.True(one.ReceivedAt > DateTime.UtcNow.AddHours(-1)));
        Assert.Equal(20, (await archive.ReadArchiveAsync(other)).Count);
        Assert.Equal(1, await archive.CountAsync("usage_events"));
        Assert.Equal(0, await archive.ArchiveAsync());
        Assert.Equal(["lock"], Directory.EnumerateFiles(archive.Opened.Path).Select(Path.GetFileName));
    }

    [Fact]
    public async Task RunAsync_WhenAnEventComesLate_ShouldMergeItIntoANewGeneration()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Europe/Berlin", 0);
        ParsedEvent[] events = Events(enterprise, 12);
        await archive.StoreAsync(enterprise, events[..10]);
        Assert.Equal(1, await archive.ArchiveAsync());
        await archive.StoreAsync(enterprise, events[10..]);
        Assert.Equal(2, await archive.CountAsync("usage_events"));

        Assert.Equal(1, await archive.ArchiveAsync());

        Assert.Equal(
            events.Select(one => one.EventId).Order(),
            (await archive.ReadArchiveAsync(enterprise)).Select(one => one.EventId).Order()
        );
        Assert.Equal(0, await archive.CountAsync("usage_events"));
        string file = Assert.Single(Directory.GetFiles(archive.Settings.Folder, "*", SearchOption.AllDirectories));
        Assert.EndsWith("2.parquet.sealed", file, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StepAsync_WhenAnArchivedEventIsSentAgain_ShouldBeADuplicate()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 2);
        ParsedEvent[] events = Events(enterprise, 1_500);
        await archive.StoreAsync(enterprise, events);
        await archive.ArchiveAsync();

        // The same ids, one of them with a time some days off, and a new event.
        ParsedEvent moved = events[7] with
        {
            TimestampMicroseconds = events[7].TimestampMicroseconds + 5 * 86_400_000_000,
        };
        await archive.StoreAsync(enterprise, [.. events[..500], moved, Event(enterprise, s_noon, "{}")]);

        Assert.Equal(1, await archive.CountAsync("usage_events"));
        Assert.Equal(
            [(1_501L, 501L)],
            await archive.Pipeline.QueryAsync(
                "SELECT sum(stored)::bigint, sum(duplicate)::bigint FROM usage_ledger",
                reader => (reader.GetInt64(0), reader.GetInt64(1))
            )
        );
        await archive.ArchiveAsync();
        await archive.StoreAsync(enterprise, events);
        Assert.Equal(0, await archive.CountAsync("usage_events"));
    }

    [Theory]
    [InlineData(nameof(ArchiveStage.Read))]
    [InlineData(nameof(ArchiveStage.Reserved))]
    [InlineData(nameof(ArchiveStage.Sealed))]
    [InlineData(nameof(ArchiveStage.Verified))]
    [InlineData(nameof(ArchiveStage.Switching))]
    [InlineData(nameof(ArchiveStage.Switched))]
    public async Task RunAsync_WhenItEndsAtAnyStage_ShouldLoseNothingAndComeThroughNextTime(string name)
    {
        ArchiveStage end = Enum.Parse<ArchiveStage>(name);
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        ParsedEvent[] events = Events(enterprise, 60);
        await archive.StoreAsync(enterprise, events[..40]);

        // The first file, and then the merge of late events: each ends once at the stage.
        foreach (ParsedEvent[] late in new[] { events[40..], [] })
        {
            await Assert.ThrowsAsync<TimeoutException>(() =>
                archive.ArchiveAsync(stage =>
                {
                    if (stage == end)
                    {
                        throw new TimeoutException();
                    }
                })
            );
            long expected = late.Length > 0 ? 40 : 60;
            Assert.Equal(expected, await EverywhereAsync(archive, enterprise));
            if (late.Length > 0)
            {
                await archive.ArchiveAsync();
                Assert.Equal(expected, await EverywhereAsync(archive, enterprise));
                await archive.StoreAsync(enterprise, late);
            }
        }

        await archive.ArchiveAsync();
        Assert.Equal(0, await archive.CountAsync("usage_events"));
        Assert.Equal(
            events.Select(one => (one.EventId, Text(one))).Order(),
            (await archive.ReadArchiveAsync(enterprise)).Select(one => (one.EventId, one.Properties ?? "")).Order()
        );

        // A day later nothing is left of what was not finished.
        archive.Time.Advance(ArchiveSweep.AgeMin * 2);
        await new ArchiveSweep(archive.Pipeline.Database, archive.Folder, archive.Settings, archive.Time).RunAsync(
            default
        );
        Assert.Single(Directory.GetFiles(archive.Settings.Folder, "*", SearchOption.AllDirectories));
        Assert.Equal(["lock"], Directory.EnumerateFiles(archive.Opened.Path).Select(Path.GetFileName));
    }

    [Fact]
    public async Task RunAsync_WhenAnEventArrivesMeanwhile_ShouldLeaveItLive()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        ParsedEvent[] events = Events(enterprise, 11);
        await archive.StoreAsync(enterprise, events[..10]);
        bool isStored = false;

        await archive.ArchiveAsync(stage =>
        {
            if (stage == ArchiveStage.Verified && !isStored)
            {
                isStored = true;
                Task.Run(() => archive.StoreAsync(enterprise, events[10])).GetAwaiter().GetResult();
            }
        });

        Assert.Equal(1, await archive.CountAsync("usage_events"));
        Assert.Equal(10, (await archive.ReadArchiveAsync(enterprise)).Count);
        Assert.Equal(1, await archive.ArchiveAsync());
        Assert.Equal(11, (await archive.ReadArchiveAsync(enterprise)).Count);
    }

    [Fact]
    public async Task RunAsync_WhenWhatStandsOnTheDiskIsAnother_ShouldDeleteNothing()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        await archive.StoreAsync(enterprise, Events(enterprise, 10));

        await Assert.ThrowsAnyAsync<Exception>(() =>
            archive.ArchiveAsync(stage =>
            {
                if (stage == ArchiveStage.Sealed)
                {
                    string file = Directory.GetFiles(archive.Settings.Folder, "*.sealed", SearchOption.AllDirectories)[
                        0
                    ];
                    byte[] bytes = File.ReadAllBytes(file);
                    bytes[^20] ^= 1;
                    File.WriteAllBytes(file, bytes);
                }
            })
        );

        Assert.Equal(10, await archive.CountAsync("usage_events"));
        Assert.Equal(0, await archive.CountAsync("archive_files"));
    }

    [Fact]
    public async Task RunAsync_WhenTwoRunAtOnce_ShouldArchiveADayOnce()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        await archive.StoreAsync(enterprise, Events(enterprise, 10));
        ArchivePass pass = Assert.Single(await archive.Plan.FindAsync(archive.Time.GetUtcNow(), default));
        Archiver.Outcome? second = null;

        Archiver.Outcome first = await archive
            .NewArchiver(stage =>
            {
                if (stage == ArchiveStage.Read)
                {
                    second = Task.Run(() => archive.NewArchiver().RunAsync(pass, default)).GetAwaiter().GetResult();
                }
            })
            .RunAsync(pass, default);

        Assert.Equal(1, first.Files);
        Assert.True(second!.IsBusy);
        Assert.Equal(10, (await archive.ReadArchiveAsync(enterprise)).Count);
    }

    [Fact]
    public async Task ArchiveOpen_WhenTheMasterKeyIsThere_ShouldGivePlainParquet()
    {
        await using ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
        EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        await archive.StoreAsync(enterprise, Events(enterprise, 10));
        await archive.ArchiveAsync();
        string file = Directory.GetFiles(archive.Settings.Folder, "*.sealed", SearchOption.AllDirectories)[0];
        string target = archive.Opened.NewPath(".parquet");
        await using var owner = NpgsqlDataSource.Create(archive.Pipeline.OwnerConnectionString);

        await ArchiveCommand.OpenAsync(owner, Engines.MasterKey.Keys, file, target, default);

        using var duck = new Duck(archive.Opened, archive.Settings);
        using DuckDB.NET.Data.DuckDBCommand command = duck.Command(
            $"SELECT count(DISTINCT event_id) FROM {ParquetFile.From(target)}"
        );
        Assert.Equal(10L, command.ExecuteScalar());
        await Assert.ThrowsAnyAsync<Exception>(() =>
            ArchiveCommand.OpenAsync(owner, new WrappingKeys([new byte[32]]), file, target + "2", default)
        );
        Assert.False(File.Exists(target + "2"));
    }

    private static async Task<long> EverywhereAsync(ArchiveFixture archive, EnterpriseInfo enterprise) =>
        await archive.CountAsync("usage_events") + (await archive.ReadArchiveAsync(enterprise)).Count;

    private static ParsedEvent[] Events(EnterpriseInfo enterprise, int count) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(number =>
                    Event(
                        enterprise,
                        s_noon.AddSeconds(number),
                        number % 7 == 0 ? "" : $$"""{"number":{{number}},"text":"ü {{Guid.NewGuid()}}"}""",
                        $"user-{number % 5}",
                        $"feature-{number % 3}"
                    )
                ),
        ];

    private static ParsedEvent Event(
        EnterpriseInfo enterprise,
        DateTimeOffset timestamp,
        string properties,
        string user = "user",
        string feature = "feature"
    ) =>
        PipelineFixture.Event(Guid.NewGuid(), enterprise, user, feature, timestamp) with
        {
            Properties = Encoding.UTF8.GetBytes(properties),
        };

    private static string Text(ParsedEvent one) => Encoding.UTF8.GetString(one.Properties.Span);

    private static long Microseconds(DateTime utc) => (utc - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
}
