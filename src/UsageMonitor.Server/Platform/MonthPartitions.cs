using System.Collections.Concurrent;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>Makes the monthly partitions of the time-series tables before rows need them, back to the year 2000.</summary>
internal sealed class MonthPartitions(Database database)
{
    public static readonly string[] Tables =
    [
        "log_segments",
        "usage_events",
        "usage_aggregates",
        "user_usage_aggregates",
        "active_user_sets",
        "usage_ledger",
        "decisions",
        "anomaly_expectations",
        Auditing.AuditTrail.Table,
    ];

    private readonly ConcurrentDictionary<(string Table, int Month), bool> _known = new();

    /// <summary>The month of an instant as a number that orders like time.</summary>
    public static int MonthOf(DateTimeOffset instant) => MonthOf(instant.UtcDateTime);

    /// <inheritdoc cref="MonthOf(DateTimeOffset)"/>
    public static int MonthOf(DateTime utc) => (utc.Year * 12) + utc.Month - 1;

    /// <summary>The first instant of a month.</summary>
    public static DateTimeOffset StartOf(int month) => new(month / 12, (month % 12) + 1, 1, 0, 0, 0, TimeSpan.Zero);

    /// <inheritdoc cref="EnsureAsync(string, int, CancellationToken)"/>
    public async ValueTask EnsureAsync(string table, IEnumerable<int> months, CancellationToken cancellationToken)
    {
        foreach (int month in months)
        {
            await EnsureAsync(table, month, cancellationToken);
        }
    }

    /// <summary>Makes the partition of a table for a month when it is missing; costs nothing when it was seen before.</summary>
    public async ValueTask EnsureAsync(string table, int month, CancellationToken cancellationToken)
    {
        if (_known.ContainsKey((table, month)))
        {
            return;
        }

        // Its own transaction: the lock must not wait for the step that needs the partition.
        await using NpgsqlCommand command = database.Pipeline.CreateCommand("SELECT ensure_month_partition($1, $2)");
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = table });
        command.Parameters.Add(
            new NpgsqlParameter<DateOnly> { TypedValue = DateOnly.FromDateTime(StartOf(month).UtcDateTime) }
        );
        await command.ExecuteNonQueryAsync(cancellationToken);
        _known[(table, month)] = true;
    }
}
