using System.Buffers;
using System.Globalization;
using DuckDB.NET.Data;

namespace UsageMonitor.Server.Archive;

/// <summary>
/// The live events of a pass on their way into files: first in a table of DuckDB's, and whenever that is full, as a part a day in
/// the private folder. So a pass needs the same memory however many events it has.
/// </summary>
internal sealed class StagedEvents : IDisposable
{
    /// <summary>Rows that are put in order at once. A day with more is ordered in stretches of as many.</summary>
    public const int RowsMax = 1_000_000;

    private readonly Duck _duck;
    private readonly OpenedFolder _folder;
    private readonly long _bytesMax;
    private readonly ArrayBufferWriter<byte> _scratch = new(4_096);
    private readonly Content[] _contents;
    private readonly List<string>[] _parts;
    private readonly int[] _inTable;
    private DuckDBAppender? _appender;
    private long _bytes;
    private long _rows;

    public StagedEvents(Duck duck, OpenedFolder folder, int places, long bytesMax)
    {
        (_duck, _folder, _bytesMax) = (duck, folder, bytesMax);
        _contents = new Content[places];
        _inTable = new int[places];
        _parts = [.. Enumerable.Range(0, places).Select(_ => new List<string>())];
        _duck.Execute($"CREATE TABLE staged (place INTEGER NOT NULL, {ParquetFile.Schema})");
    }

    /// <summary>What was added of a day.</summary>
    public Content ContentOf(int place) => _contents[place];

    public void Add(int place, in ArchivedEvent added, CancellationToken cancellationToken)
    {
        _contents[place] = _contents[place].With(added.Hash(_scratch));
        _inTable[place]++;
        _appender ??= _duck.Connection.CreateAppender("staged");
        IDuckDBAppenderRow row = _appender.CreateRow();
        row.AppendValue(place)
            .AppendValue(added.EventId)
            .AppendValue(added.UserId)
            .AppendValue(added.FeatureName)
            .AppendValue(added.EventType)
            .AppendValue(added.Timestamp)
            .AppendValue(added.ReceivedAt);
        _ = added.Properties is null ? row.AppendNullValue() : row.AppendValue(added.Properties);
        row.EndRow();
        _bytes += _scratch.WrittenCount;
        if (_bytes >= _bytesMax || ++_rows >= RowsMax)
        {
            Spill(cancellationToken);
        }
    }

    /// <summary>Writes a day's file.</summary>
    /// <param name="place">The day.</param>
    /// <param name="before">The file as it is now, opened, or null.</param>
    /// <param name="total">All events of the new file.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The file's path in the private folder.</returns>
    public string Write(int place, string? before, long total, CancellationToken cancellationToken)
    {
        Flush();
        string table = string.Create(
            CultureInfo.InvariantCulture,
            $"SELECT {ParquetFile.Columns} FROM staged WHERE place = {place}"
        );
        List<string> sources = [.. _parts[place].Select(part => $"SELECT * FROM {ParquetFile.From(part)}")];
        if (_inTable[place] > 0)
        {
            sources.Add(table);
        }

        // Too many to be put in order at once: each stretch is, and the file there was is already.
        if (total > RowsMax)
        {
            sources = sources.ConvertAll(source => $"(SELECT * FROM ({source}) ORDER BY {ParquetFile.Order})");
        }

        if (before is not null)
        {
            sources.Add($"SELECT * FROM {ParquetFile.From(before)}");
        }

        string path = _folder.NewPath(".parquet");
        string all = string.Join(" UNION ALL ", sources);
        ParquetFile.Write(
            _duck,
            total > RowsMax ? all : $"SELECT * FROM ({all}) ORDER BY {ParquetFile.Order}",
            path,
            cancellationToken
        );
        _parts[place].ForEach(OpenedFolder.Remove);
        return path;
    }

    public void Dispose()
    {
        _appender?.Dispose();
        foreach (string part in _parts.SelectMany(parts => parts))
        {
            OpenedFolder.Remove(part);
        }
    }

    private void Spill(CancellationToken cancellationToken)
    {
        Flush();
        for (int place = 0; place < _inTable.Length; place++)
        {
            if (_inTable[place] == 0)
            {
                continue;
            }

            string part = _folder.NewPath(".part");
            _parts[place].Add(part);
            ParquetFile.Write(
                _duck,
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"SELECT {ParquetFile.Columns} FROM staged WHERE place = {place}"
                ),
                part,
                cancellationToken,
                ParquetFile.PartCompressionLevel
            );
            _inTable[place] = 0;
        }

        _duck.Execute("TRUNCATE staged", cancellationToken);
        (_bytes, _rows) = (0, 0);
    }

    private void Flush()
    {
        _appender?.Dispose();
        _appender = null;
    }
}
