using UsageMonitor.Server.Backup;
using Xunit;

namespace UsageMonitor.Tests.Backup;

/// <summary>What reaches the backup folder, and what is never written over. The drill is in the end-to-end tests.</summary>
public sealed class BackupFolderTests : IDisposable
{
    private const string Segment = "000000010000000000000007";
    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("usage-monitor-backup-tests-");
    private readonly BackupFolder _folder;
    private readonly WalRoute _route;

    public BackupFolderTests()
    {
        _folder = new BackupFolder(Path.Combine(_root.FullName, "backup"));
        _folder.Create();
        _route = new WalRoute(
            Directory.CreateDirectory(Path.Combine(_root.FullName, "spool")).FullName,
            Directory.CreateDirectory(Path.Combine(_root.FullName, "archive")).FullName,
            _folder
        );
    }

    [Fact]
    public void Ship_WhenSegmentsAreFinished_ShouldTakeThemAndTheArchiveOnce()
    {
        byte[] content = [.. Enumerable.Range(0, 200_000).Select(number => (byte)number)];
        File.WriteAllBytes(Path.Combine(_route.Spool, Segment), content);
        File.WriteAllBytes(Path.Combine(_route.Spool, "archtemp.file"), content); // still being written
        string day = Directory.CreateDirectory(Path.Combine(_route.Archive, "enterprise=x", "day=2026-01-01")).FullName;
        File.WriteAllText(Path.Combine(day, "1.parquet.sealed"), "sealed");
        File.WriteAllText(Path.Combine(day, "2.parquet.sealed"), ""); // a name that is reserved
        File.WriteAllText(Path.Combine(day, "3.parquet.sealed.writing"), "half");

        Assert.Equal(1, WalShipping.Ship(_route));
        Assert.Equal(0, WalShipping.Ship(_route));

        Assert.Equal(content, _folder.ReadWal(Segment));
        Assert.Equal([Segment], _folder.WalNames());
        Assert.Equal(["archtemp.file"], Directory.EnumerateFiles(_route.Spool).Select(Path.GetFileName));
        Assert.Equal(
            ["enterprise=x/day=2026-01-01/1.parquet.sealed"],
            Directory
                .EnumerateFiles(_folder.Archive, "*", SearchOption.AllDirectories)
                .Select(file => Path.GetRelativePath(_folder.Archive, file))
        );
    }

    [Fact]
    public void Ship_WhenItWasStoppedBeforeTheSpoolWasEmptied_ShouldFindTheSame()
    {
        File.WriteAllText(Path.Combine(_route.Spool, Segment), "one");
        WalShipping.Ship(_route);
        File.WriteAllText(Path.Combine(_route.Spool, Segment), "one");

        Assert.Equal(1, WalShipping.Ship(_route));
        Assert.Empty(Directory.EnumerateFiles(_route.Spool));
    }

    [Fact]
    public void Ship_WhenAnotherSegmentOfTheNameIsThere_ShouldKeepBoth()
    {
        File.WriteAllText(Path.Combine(_route.Spool, Segment), "one");
        WalShipping.Ship(_route);
        File.WriteAllText(Path.Combine(_route.Spool, Segment), "another");

        Assert.Throws<BackupException>(() => WalShipping.Ship(_route));

        Assert.Equal("one"u8.ToArray(), _folder.ReadWal(Segment));
        Assert.True(File.Exists(Path.Combine(_route.Spool, Segment)));
    }

    [Fact]
    public void Claim_WhenTheFolderIsAnotherClusters_ShouldRefuse()
    {
        _folder.Claim("7000000000000000001");
        _folder.Claim("7000000000000000001");

        Assert.Throws<BackupException>(() => _folder.Claim("7000000000000000002"));
    }

    [Fact]
    public void Prune_WhenThereAreMoreThanAreKept_ShouldRemoveTheOldestAndWalThatOnlyTheyNeed()
    {
        for (int number = 1; number <= 3; number++)
        {
            Make(number);
        }

        foreach (int segment in Enumerable.Range(1, 8))
        {
            File.WriteAllText(Path.Combine(_route.Spool, Name(segment)), "wal");
        }

        WalShipping.Ship(_route);

        Assert.Equal(1, BackupPruning.Run(_folder, 2));

        Assert.Equal(["backup-2", "backup-3"], _folder.Backups().Select(backup => backup.Id));
        Assert.Equal([4, 5, 6, 7, 8], _folder.WalNames().Select(name => Convert.ToInt32(name[^2..], 16)));
        Assert.Equal(0, BackupPruning.Run(_folder, 2));
    }

    [Fact]
    public void Begin_WhenAnotherWasInterrupted_ShouldRemoveItAndCountItForNothing()
    {
        string left = _folder.Begin("interrupted");
        File.WriteAllText(Path.Combine(left, BackupManifest.FileName), "{}");
        Assert.Empty(_folder.Backups());

        _folder.Begin("next");

        Assert.False(Directory.Exists(left));
    }

    public void Dispose() => _root.Delete(recursive: true);

    private static string Name(int segment) => $"0000000100000000000000{segment:X2}";

    private void Make(int number)
    {
        string id = $"backup-{number}";
        string folder = _folder.Begin(id);
        var manifest = new BackupManifest(
            id,
            DateTimeOffset.UnixEpoch.AddDays(number),
            DateTimeOffset.UnixEpoch.AddDays(number),
            Name(2 * number),
            Name(2 * number),
            18,
            "7000000000000000001",
            "id",
            [],
            []
        );
        BackupFolder.Write(Path.Combine(folder, BackupManifest.FileName), manifest.ToJson());
        _folder.Complete(id);
    }
}
