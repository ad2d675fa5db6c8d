using System.Buffers.Binary;
using System.Security.Cryptography;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>Makes enterprises: an id, a place in the event log, and a data key that only the master key opens.</summary>
internal sealed class Enterprises(MasterKey masterKey, TimeProvider time)
{
    private const string CountPartitions = "SELECT count(*) FROM log_partitions";

    private const string InsertEnterprise = """
        INSERT INTO enterprises (enterprise_id, name, time_zone, log_partition, data_key, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """;

    /// <param name="transaction">In the scope of the enterprise to be.</param>
    /// <param name="enterpriseId">New.</param>
    /// <param name="name">For people.</param>
    /// <param name="timeZone">An IANA name.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The data key, unwrapped.</returns>
    public async Task<byte[]> InsertAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string name,
        string timeZone,
        CancellationToken cancellationToken
    )
    {
        byte[] dataKey = RandomNumberGenerator.GetBytes(MasterKey.KeyBytes);
        await using NpgsqlCommand count = transaction.Command(CountPartitions);
        long partitions = (long)(await count.ExecuteScalarAsync(cancellationToken))!;
        await transaction.ExecuteAsync(
            InsertEnterprise,
            [
                enterpriseId,
                name,
                timeZone,
                LogPartitionOf(enterpriseId, partitions),
                masterKey.Wrap(dataKey, enterpriseId),
                time.GetUtcNow(),
            ],
            cancellationToken
        );
        return dataKey;
    }

    /// <summary>Stable and even: any id a caller could make ends up anywhere.</summary>
    private static short LogPartitionOf(Guid enterpriseId, long partitions) =>
        (short)(
            BinaryPrimitives.ReadUInt32BigEndian(SHA256.HashData(enterpriseId.ToByteArray(bigEndian: true)))
            % partitions
        );
}
