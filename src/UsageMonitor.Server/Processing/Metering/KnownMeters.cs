using Npgsql;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>The rows of <c>limit_meters</c>, as a worker remembers them by partition.</summary>
/// <remarks>
/// Rows of a partition's enterprises are made and dropped only by steps of that partition, which hold its position's lock
/// and raise <c>log_positions.meters_version</c>. So what was read at a version is what there is as long as the locked
/// position says the same version, and a step that changes no meter asks for nothing.
/// </remarks>
internal sealed class KnownMeters
{
    private static readonly IReadOnlyDictionary<Guid, DateTime> s_none = new Dictionary<Guid, DateTime>();

    private readonly Dictionary<short, (long Version, Dictionary<Guid, Dictionary<Guid, DateTime>> Meters)> _known = [];

    private const string ReadMeters = """
        SELECT m.enterprise_id, m.meter_id, m.counted_since
          FROM limit_meters AS m JOIN enterprises AS e ON e.enterprise_id = m.enterprise_id
         WHERE e.log_partition = $1
        """;

    /// <summary>Makes what is remembered of a partition be of a version.</summary>
    public async Task FollowAsync(
        NpgsqlConnection connection,
        short partition,
        long version,
        CancellationToken cancellationToken
    )
    {
        if (_known.TryGetValue(partition, out var known) && known.Version == version)
        {
            return;
        }

        Dictionary<Guid, Dictionary<Guid, DateTime>> meters = [];
        if (version > 0)
        {
            await using var command = new NpgsqlCommand(ReadMeters, connection);
            command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = partition });
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                if (!meters.TryGetValue(reader.GetGuid(0), out Dictionary<Guid, DateTime>? own))
                {
                    meters[reader.GetGuid(0)] = own = [];
                }

                own[reader.GetGuid(1)] = reader.GetDateTime(2);
            }
        }

        _known[partition] = (version, meters);
    }

    /// <summary>An enterprise's meters, with the instant since which each counts.</summary>
    public IReadOnlyDictionary<Guid, DateTime> Of(short partition, Guid enterpriseId) =>
        _known[partition].Meters.TryGetValue(enterpriseId, out Dictionary<Guid, DateTime>? own) ? own : s_none;
}
