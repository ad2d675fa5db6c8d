using Npgsql;
using UsageMonitor.EventLog;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Up to when an enterprise's numbers are complete. The head of its partition is read before the position, and the position
/// before the numbers: if processing had reached that head, everything received before the question is in them.
/// </summary>
internal static class Watermark
{
    public static async Task<long> HeadAsync(
        IEventLog log,
        EnterpriseInfo enterprise,
        CancellationToken cancellationToken
    )
    {
        IReadOnlyList<PartitionHead> heads = await log.ReadHeadsAsync(cancellationToken);
        return heads.First(head => head.Partition == enterprise.LogPartition).Offset;
    }

    /// <param name="scope">The transaction that will read the numbers.</param>
    /// <param name="enterprise">Whose numbers.</param>
    /// <param name="asked">An instant before <paramref name="head"/> was read.</param>
    /// <param name="head">The newest offset of the enterprise's partition.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<DateTimeOffset> ReadAsync(
        ScopedTransaction scope,
        EnterpriseInfo enterprise,
        DateTime asked,
        long head,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = scope.Command(
            "SELECT segment_offset, processed_through FROM log_positions WHERE log_partition = $1",
            enterprise.LogPartition
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        await reader.ReadAsync(cancellationToken);
        DateTime through = reader.GetInt64(0) >= head ? asked : reader.GetDateTime(1);
        return new LocalTime(enterprise.TimeZone).Show(through);
    }
}
