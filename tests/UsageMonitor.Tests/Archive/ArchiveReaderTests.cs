using System.Globalization;
using System.Text;
using System.Text.Json;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;
using Xunit;

namespace UsageMonitor.Tests.Archive;

public sealed class ArchiveReaderTests(Engines engines)
{
    private static readonly DateTime s_start = DateTime.SpecifyKind(
        ArchiveFixture.Day.UtcDateTime.Date,
        DateTimeKind.Utc
    );

    [Fact]
    public async Task PageAsync_WhenDaysAreArchivedLiveAndBoth_ShouldGiveEveryEventOnceInOrder()
    {
        await using var world = await World.CreateAsync(engines);
        var found = new List<ArchivedEvent>();
        EventCursor? cursor = null;
        do
        {
            ArchiveReader.Page page = await world.Reader.PageAsync(world.Enterprise, world.All, cursor, 7, default);
            Assert.True(page.Events.Count <= 7);
            found.AddRange(page.Events);
            Assert.True(EventCursor.TryParse(page.Next?.ToString(), out cursor));
        } while (cursor is not null);

        Assert.Equal(
            world
                .Events.OrderByDescending(one => one.TimestampMicroseconds)
                .ThenByDescending(one => one.EventId)
                .Select(Of),
            found.Select(Of)
        );
    }

    [Fact]
    public async Task StreamAsync_WhenDaysAreArchivedLiveAndBoth_ShouldGiveEveryEventOnceInOrder()
    {
        await using var world = await World.CreateAsync(engines);
        var found = new List<ArchivedEvent>();
        await foreach (
            IReadOnlyList<ArchivedEvent> chunk in world.Reader.StreamAsync(world.Enterprise, world.All, default)
        )
        {
            found.AddRange(chunk);
        }

        Assert.Equal(
            world.Events.OrderBy(one => one.TimestampMicroseconds).ThenBy(one => one.EventId).Select(Of),
            found.Select(Of)
        );
    }

    [Fact]
    public async Task PageAsync_WhenFiltered_ShouldGiveWhatTheFilterMeans()
    {
        await using var world = await World.CreateAsync(engines);
        ParsedEvent one = world.Events[3];
        EventFilter filter = world.All with { UserId = one.UserId, FeatureName = one.FeatureName, EventType = "use" };
        ArchiveReader.Page page = await world.Reader.PageAsync(world.Enterprise, filter, null, 500, default);
        Assert.Equal(
            world
                .Events.Where(other => (other.UserId, other.FeatureName) == (one.UserId, one.FeatureName))
                .Select(other => other.EventId)
                .Order(),
            page.Events.Select(other => other.EventId).Order()
        );
        var streamed = new List<Guid>();
        await foreach (
            IReadOnlyList<ArchivedEvent> chunk in world.Reader.StreamAsync(world.Enterprise, filter, default)
        )
        {
            streamed.AddRange(chunk.Select(other => other.EventId));
        }

        Assert.Equal(page.Events.Select(other => other.EventId).Reverse(), streamed);
        Assert.Empty(
            (
                await world.Reader.PageAsync(world.Enterprise, filter with { EventType = "'; --" }, null, 5, default)
            ).Events
        );
    }

    [Theory]
    [InlineData("feature")]
    [InlineData("user")]
    [InlineData("type")]
    [InlineData("day")]
    [InlineData("hour")]
    [InlineData("property:plan")]
    [InlineData("property:device.screen")]
    [InlineData("property:absent")]
    public async Task CountAsync_WhenGrouped_ShouldCountAsTheEventsThemselves(string text)
    {
        await using var world = await World.CreateAsync(engines);
        Assert.True(GroupKey.TryParse(text, out GroupKey by));
        var local = new LocalTime(world.Enterprise.TimeZone);
        Dictionary<string, long> expected = world
            .Events.GroupBy(one => KeyOf(one, by, local))
            .ToDictionary(group => group.Key, group => (long)group.Count());

        EventGroups.Outcome outcome = await world.Groups.CountAsync(world.Enterprise, world.All, by, 1_000, default);

        Assert.Equal(
            expected.OrderBy(pair => pair.Key),
            outcome.Groups.ToDictionary(one => one.Key, one => one.Events).OrderBy(pair => pair.Key)
        );
        Assert.Equal((world.Events.Count, expected.Count), (outcome.Total, outcome.Count));
    }

    [Fact]
    public async Task PageAsync_WhenAFileIsReplacedMeanwhile_ShouldReadTheNewOne()
    {
        await using var world = await World.CreateAsync(engines);
        var late = World.Event(world.Enterprise, 1, 999);
        await world.Archive.StoreAsync(world.Enterprise, late);
        await world.Archive.ArchiveAsync();
        ArchiveReader.Page page = await world.Reader.PageAsync(world.Enterprise, world.All, null, 500, default);
        Assert.Equal(world.Events.Count + 1, page.Events.Count);
        Assert.Contains(late.EventId, page.Events.Select(one => one.EventId));
    }

    [Fact]
    public async Task OpenAsync_WhenTheCacheIsFull_ShouldRemoveWhatNobodyReads()
    {
        await using var world = await World.CreateAsync(engines);
        await world.Reader.PageAsync(world.Enterprise, world.All, null, 500, default);
        Assert.NotEmpty(Directory.GetFiles(world.Archive.Opened.Path, "*.parquet"));
        world.Files.Forget(world.Enterprise.EnterpriseId);
        Assert.Empty(Directory.GetFiles(world.Archive.Opened.Path, "*.parquet"));
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(
                UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute,
                File.GetUnixFileMode(world.Archive.Opened.Path)
            );
        }
    }

    [Fact]
    public async Task PageAsync_WhenAnotherEnterpriseAsks_ShouldFindNothing()
    {
        await using var world = await World.CreateAsync(engines);
        EnterpriseInfo other = await world.Archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
        Assert.Empty((await world.Reader.PageAsync(other, world.All, null, 500, default)).Events);
        Assert.True(GroupKey.TryParse("feature", out GroupKey by));
        Assert.Equal(0, (await world.Groups.CountAsync(other, world.All, by, 10, default)).Total);
    }

    private static (Guid, Guid, string, long, string) Of(ParsedEvent one) =>
        (
            one.EventId,
            one.UserId,
            one.FeatureName,
            one.TimestampMicroseconds,
            Encoding.UTF8.GetString(one.Properties.Span)
        );

    private static (Guid, Guid, string, long, string) Of(ArchivedEvent one) =>
        (
            one.EventId,
            one.UserId,
            one.FeatureName,
            (one.Timestamp - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond,
            one.Properties ?? ""
        );

    private static string KeyOf(ParsedEvent one, GroupKey by, LocalTime local)
    {
        DateTime at = DateTime.UnixEpoch.AddTicks(one.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond);
        switch (by.Kind)
        {
            case GroupKey.Feature:
                return one.FeatureName;
            case GroupKey.User:
                return one.UserId.ToString();
            case GroupKey.EventType:
                return one.EventType;
            case GroupKey.Day:
                return local.Show(local.DayStart(at)).ToString("O", CultureInfo.InvariantCulture);
            case GroupKey.Hour:
                return local.Show(local.HourStart(at)).ToString("O", CultureInfo.InvariantCulture);
            default:
                if (one.Properties.IsEmpty)
                {
                    return "";
                }

                JsonElement element = JsonDocument.Parse(one.Properties).RootElement;
                foreach (string name in by.Property)
                {
                    if (element.ValueKind != JsonValueKind.Object || !element.TryGetProperty(name, out element))
                    {
                        return "";
                    }
                }

                return element.ToString();
        }
    }

    /// <summary>An enterprise with archived days, live ones, and one that is both, because events came late.</summary>
    private sealed class World : IAsyncDisposable
    {
        public required ArchiveFixture Archive { get; init; }

        public required EnterpriseInfo Enterprise { get; init; }

        public List<ParsedEvent> Events { get; } = [];

        public OpenedFiles Files { get; private set; } = null!;

        public ArchiveReader Reader { get; private set; } = null!;

        public EventGroups Groups { get; private set; } = null!;

        public EventFilter All { get; } =
            new(
                DateOnly.FromDateTime(s_start.AddDays(-3)),
                DateOnly.FromDateTime(DateTime.UtcNow.AddDays(2)),
                null,
                null,
                null
            );

        public static async Task<World> CreateAsync(Engines engines)
        {
            ArchiveFixture archive = await ArchiveFixture.CreateAsync(engines);
            EnterpriseInfo enterprise = await archive.Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
            var world = new World { Archive = archive, Enterprise = enterprise };
            await world.StoreAsync(Enumerable.Range(0, 60).Select(number => Event(enterprise, number % 3, number)));
            await archive.ArchiveAsync();
            await world.StoreAsync(Enumerable.Range(60, 10).Select(number => Event(enterprise, number % 2, number)));
            await world.StoreAsync(
                Enumerable.Range(70, 15).Select(number => Event(enterprise, 55 + (number % 3), number))
            );
            world.Files = new OpenedFiles(archive.Folder, archive.Opened, archive.Settings);
            world.Reader = new ArchiveReader(archive.Pipeline.Database, world.Files, archive.Opened, archive.Settings);
            world.Groups = new EventGroups(archive.Pipeline.Database, world.Files, archive.Opened, archive.Settings);
            return world;
        }

        public static ParsedEvent Event(EnterpriseInfo enterprise, int day, int number) =>
            PipelineFixture.Event(
                Guid.NewGuid(),
                enterprise,
                $"user-{number % 4}",
                $"feature-{number % 5}",
                new DateTimeOffset(s_start.AddDays(day).AddMinutes(7 * number), TimeSpan.Zero)
            ) with
            {
                Properties = Encoding.UTF8.GetBytes(
                    number % 6 == 0
                        ? ""
                        : $$"""{"plan":"plan ü{{number % 3}}","number":{{number}},"device":{"screen":{{number % 2}}} }"""
                ),
            };

        public ValueTask DisposeAsync() => Archive.DisposeAsync();

        private async Task StoreAsync(IEnumerable<ParsedEvent> events)
        {
            ParsedEvent[] stored = [.. events];
            Events.AddRange(stored);
            await Archive.StoreAsync(Enterprise, stored);
        }
    }
}
