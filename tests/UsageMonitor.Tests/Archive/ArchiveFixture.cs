using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Archive;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;

namespace UsageMonitor.Tests.Archive;

/// <summary>A pipeline with an archive beside it.</summary>
internal sealed class ArchiveFixture : IAsyncDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("usage-monitor-archive-tests-");

    private ArchiveFixture(PipelineFixture pipeline)
    {
        Pipeline = pipeline;
        Settings = new ArchiveSettings
        {
            Folder = Path.Combine(_folder.FullName, "archive"),
            TemporaryFolder = Path.Combine(_folder.FullName, "opened"),
            MemoryMegabytes = 256,
        };
        Directory.CreateDirectory(Settings.Folder);
        Opened = new OpenedFolder(Settings.TemporaryFolder);
        Folder = new ArchiveFolder(Settings);
    }

    public PipelineFixture Pipeline { get; }

    public ArchiveSettings Settings { get; }

    public OpenedFolder Opened { get; }

    public ArchiveFolder Folder { get; }

    /// <summary>The tests' events are of days around this one.</summary>
    public static DateTimeOffset Day { get; } = DateTimeOffset.UtcNow.AddDays(-60);

    public FakeTimeProvider Time { get; } = new(DateTimeOffset.UtcNow);

    public static async Task<ArchiveFixture> CreateAsync(Engines engines) =>
        new(await PipelineFixture.CreateAsync(engines));

    public ArchivePlan Plan => new(Pipeline.Database, Pipeline.Enterprises, Settings);

    public Archiver NewArchiver(Action<ArchiveStage>? reached = null) =>
        new(Pipeline.Database, Folder, Opened, Settings, Time) { Reached = reached };

    /// <summary>Archives all that is due.</summary>
    public async Task<int> ArchiveAsync(Action<ArchiveStage>? reached = null)
    {
        int files = 0;
        foreach (ArchivePass pass in await Plan.FindAsync(Time.GetUtcNow(), default))
        {
            files += (await NewArchiver(reached).RunAsync(pass, default)).Files;
        }

        return files;
    }

    /// <summary>Appends and processes.</summary>
    public async Task StoreAsync(EnterpriseInfo enterprise, params ParsedEvent[] events)
    {
        await Pipeline.AppendAsync(enterprise, events);
        await Pipeline.ProcessAllAsync(Pipeline.NewStep(Time));
    }

    public async Task<long> CountAsync(string table) =>
        (await Pipeline.QueryAsync($"SELECT count(*) FROM {table}", reader => reader.GetInt64(0)))[0];

    /// <summary>Everything in the files that rows name.</summary>
    public async Task<List<ArchivedEvent>> ReadArchiveAsync(EnterpriseInfo enterprise)
    {
        var all = new List<ArchivedEvent>();
        using var duck = new Duck(Opened, Settings);
        foreach (
            ArchiveFile file in await Pipeline.QueryAsync(
                $"SELECT {ArchiveFile.Columns} FROM archive_files WHERE enterprise_id = '{enterprise.EnterpriseId}' ORDER BY 1",
                reader => ArchiveFile.Read(reader)
            )
        )
        {
            string plain = Opened.NewPath(".parquet");
            using (FileStream source = Folder.OpenRead(file.Path))
            using (FileStream destination = File.Create(plain))
            {
                SealedFile.Open(
                    source,
                    destination,
                    enterprise.DataKey,
                    file.Identity(enterprise.EnterpriseId),
                    withProperties: true,
                    default
                );
            }

            using DuckDB.NET.Data.DuckDBCommand command = duck.Command(
                $"SELECT {ParquetFile.Columns} FROM {ParquetFile.From(plain)}"
            );
            all.AddRange(ParquetFile.Read(command, default));
            File.Delete(plain);
        }

        return all;
    }

    public async ValueTask DisposeAsync()
    {
        Opened.Dispose();
        await Pipeline.DisposeAsync();
        _folder.Delete(recursive: true);
    }
}
