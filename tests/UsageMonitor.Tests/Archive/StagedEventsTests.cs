using System.Buffers;
using DuckDB.NET.Data;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Archive;

public sealed class StagedEventsTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("usage-monitor-staged-tests-");

    [Fact]
    public void Write_WhenTheTableWasFullManyTimes_ShouldHaveEveryDaysEventsInOrder()
    {
        var settings = new ArchiveSettings { Folder = _folder.FullName, TemporaryFolder = _folder.FullName };
        using var opened = new OpenedFolder(_folder.FullName);
        using var duck = new Duck(opened, settings);
        using var staged = new StagedEvents(duck, opened, places: 2, bytesMax: 2_000);
        var random = new Random(3);
        var all = new[] { default(Content), default };
        var scratch = new ArrayBufferWriter<byte>();
        for (int number = 0; number < 300; number++)
        {
            var one = new ArchivedEvent(
                Guid.NewGuid(),
                Guid.NewGuid(),
                $"feature-{random.Next(3)}",
                "use",
                new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc).AddMicroseconds(random.Next()),
                new DateTime(2026, 1, 2, 0, 0, 0, DateTimeKind.Utc),
                number % 5 == 0 ? null : $"{{\"number\":{number}}}"
            );
            all[number % 2] = all[number % 2].With(one.Hash(scratch));
            staged.Add(number % 2, one, TestContext.Current.CancellationToken);
        }

        for (int place = 0; place < 2; place++)
        {
            Assert.Equal(all[place], staged.ContentOf(place));
            string path = staged.Write(place, null, 150, TestContext.Current.CancellationToken);
            using DuckDBCommand command = duck.Command($"SELECT {ParquetFile.Columns} FROM {ParquetFile.From(path)}");
            ArchivedEvent[] written = [.. ParquetFile.Read(command, TestContext.Current.CancellationToken)];
            Assert.Equal(all[place], written.Aggregate(default(Content), (sum, one) => sum.With(one.Hash(scratch))));
            Assert.Equal(
                written.OrderBy(one => one.FeatureName, StringComparer.Ordinal).ThenBy(one => one.UserId),
                written
            );
        }

        Assert.Empty(Directory.GetFiles(opened.Path, "*.part"));
    }

    [Fact]
    public void OpenedFolder_WhenItsProcessHasEnded_ShouldBeRemovedByTheNext()
    {
        using var living = new OpenedFolder(_folder.FullName);
        DirectoryInfo abandoned = Directory.CreateDirectory(
            Path.Combine(_folder.FullName, "usage-monitor-archive-" + Guid.NewGuid().ToString("N"))
        );
        File.WriteAllText(Path.Combine(abandoned.FullName, "lock"), "");
        File.WriteAllText(Path.Combine(abandoned.FullName, "1.parquet"), "in the clear");
        using var next = new OpenedFolder(_folder.FullName);
        Assert.False(Directory.Exists(abandoned.FullName));
        Assert.True(Directory.Exists(living.Path));
    }

    [Fact]
    public void Duck_WhenAskedForOtherFiles_ShouldRefuse()
    {
        var settings = new ArchiveSettings { Folder = _folder.FullName, TemporaryFolder = _folder.FullName };
        using var opened = new OpenedFolder(_folder.FullName);
        using var duck = new Duck(opened, settings);
        Assert.ThrowsAny<DuckDBException>(() => duck.Execute("SELECT * FROM read_text('/etc/passwd')"));
        Assert.ThrowsAny<DuckDBException>(() => duck.Execute("SET enable_external_access = true"));
        Assert.ThrowsAny<DuckDBException>(() => duck.Execute("INSTALL httpfs"));
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
