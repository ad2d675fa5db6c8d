using System.Data.Common;
using System.Globalization;
using DuckDB.NET.Data;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>Reads archived events for replays: see <see cref="ReadArchivedUses"/>.</summary>
internal sealed class ArchivedUsesReader(OpenedFiles files, OpenedFolder opened, ArchiveSettings settings)
{
    /// <inheritdoc cref="ReadArchivedUses"/>
    public async Task ReadAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        ArchivedUsesQuery query,
        Action<ArchivedUse> take,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        var days = new EventFilter(local.DateOf(query.From), local.DateOf(query.To).AddDays(1), null, null, null);
        Dictionary<DateOnly, ArchiveFile> found = await ArchiveReader.ReadFilesAsync(
            own,
            enterprise,
            days,
            cancellationToken
        );
        var leases = new List<OpenedFiles.Lease>();
        try
        {
            foreach (ArchiveFile file in found.Values.Where(file => file.Start < query.To && file.End > query.From))
            {
                leases.Add(await files.OpenAsync(enterprise, file, withProperties: false, cancellationToken));
            }

            if (leases.Count > 0)
            {
                string[] paths = [.. leases.Select(lease => lease.Path)];
                await Task.Run(() => Read(paths, query, take, cancellationToken), cancellationToken);
            }
        }
        finally
        {
            leases.ForEach(lease => lease.Dispose());
        }
    }

    private void Read(
        IReadOnlyList<string> paths,
        ArchivedUsesQuery query,
        Action<ArchivedUse> take,
        CancellationToken cancellationToken
    )
    {
        using var duck = new Duck(opened, settings);
        using DuckDBCommand command = duck.Command(
            string.Create(
                CultureInfo.InvariantCulture,
                $"""
                SELECT user_id, feature_name, event_type, event_timestamp FROM {ParquetFile.From(paths)}
                 WHERE event_timestamp >= $from AND event_timestamp < $to
                   AND (feature_name = $feature OR (right($feature, 1) = '*' AND starts_with(feature_name, left($feature, -1))))
                   {(query.Users is null ? "" : "AND list_contains($users::UUID[], user_id)")}
                 ORDER BY event_timestamp, event_id LIMIT {query.Limit}
                """
            )
        );
        command.Parameters.Add(new DuckDBParameter("from", new DateTimeOffset(query.From)));
        command.Parameters.Add(new DuckDBParameter("to", new DateTimeOffset(query.To)));
        command.Parameters.Add(new DuckDBParameter("feature", query.Feature));
        if (query.Users is not null)
        {
            command.Parameters.Add(new DuckDBParameter("users", query.Users.Select(user => user.ToString()).ToList()));
        }

        using CancellationTokenRegistration registration = cancellationToken.Register(command.Cancel);
        using DbDataReader reader = command.ExecuteReader();
        while (reader.Read())
        {
            cancellationToken.ThrowIfCancellationRequested();
            take(
                new ArchivedUse(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.GetString(2),
                    DateTime.SpecifyKind(reader.GetDateTime(3), DateTimeKind.Utc)
                )
            );
        }
    }
}
