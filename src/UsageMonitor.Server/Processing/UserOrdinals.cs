using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>
/// Finds the dense numbers of a step's users and creates the users that are seen for the first time. A number never
/// changes, so what was read once is remembered.
/// </summary>
internal sealed class UserOrdinals
{
    /// <summary>Remembered users of one worker; beyond, it starts over. About 60 bytes each.</summary>
    public const int RememberedUsersMax = 400_000;

    private readonly Dictionary<(Guid EnterpriseId, Guid UserId), int> _known = [];
    private readonly Dictionary<(Guid EnterpriseId, Guid UserId), int> _created = [];

    /// <summary>Sets the ordinal of every event that is to be stored, inside the step's transaction.</summary>
    public async Task ResolveAsync(
        NpgsqlConnection connection,
        StepEvents step,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        if (_known.Count > RememberedUsersMax)
        {
            _known.Clear();
        }

        // What this step creates is remembered only when it has committed: see Remember.
        _created.Clear();
        Dictionary<(Guid, Guid), (EnterpriseInfo, string?)> unknown = SetKnown(step);
        if (unknown.Count == 0)
        {
            return;
        }

        await FindAsync(connection, unknown, cancellationToken);
        if (unknown.Count > 0)
        {
            await CreateAsync(connection, unknown, now, cancellationToken);
        }

        SetKnown(step);
    }

    /// <returns>The users that are not known yet.</returns>
    private Dictionary<(Guid, Guid), (EnterpriseInfo, string?)> SetKnown(StepEvents step)
    {
        var unknown = new Dictionary<(Guid, Guid), (EnterpriseInfo, string?)>();
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            foreach (ref StepEvent current in enterprise.EventSpan)
            {
                (Guid, Guid) key = (enterprise.Id, current.UserId);
                if (current.IsDuplicate)
                {
                    continue;
                }

                if (_known.TryGetValue(key, out int ordinal) || _created.TryGetValue(key, out ordinal))
                {
                    current.Ordinal = ordinal;
                }
                else
                {
                    unknown.TryAdd(key, (enterprise.Enterprise, current.ExternalId));
                }
            }
        }

        return unknown;
    }

    /// <summary>The step has committed: the users it created exist.</summary>
    public void Remember()
    {
        foreach (((Guid, Guid) key, int ordinal) in _created)
        {
            _known[key] = ordinal;
        }

        _created.Clear();
    }

    private async Task FindAsync(
        NpgsqlConnection connection,
        Dictionary<(Guid, Guid), (EnterpriseInfo, string?)> unknown,
        CancellationToken cancellationToken
    )
    {
        const string Sql = """
            SELECT users.enterprise_id, users.user_id, users.ordinal
              FROM unnest($1, $2) AS wanted (enterprise_id, user_id)
              JOIN users ON users.enterprise_id = wanted.enterprise_id AND users.user_id = wanted.user_id
            """;
        (Guid Enterprise, Guid User)[] keys = [.. unknown.Keys.Order()];
        await using var command = new NpgsqlCommand(Sql, connection);
        command.Parameters.Add(
            new NpgsqlParameter<Guid[]> { TypedValue = Array.ConvertAll(keys, key => key.Enterprise) }
        );
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = Array.ConvertAll(keys, key => key.User) });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            (Guid, Guid) key = (reader.GetGuid(0), reader.GetGuid(1));
            _known[key] = reader.GetInt32(2);
            unknown.Remove(key);
        }
    }

    private async Task CreateAsync(
        NpgsqlConnection connection,
        Dictionary<(Guid EnterpriseId, Guid UserId), (EnterpriseInfo Enterprise, string? ExternalId)> unknown,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        // The counters are locked before the second look: whoever else creates a user of these enterprises does the same,
        // so between the look and the insert nobody can.
        Dictionary<Guid, int> next = await LockCountersAsync(
            connection,
            [.. unknown.Keys.Select(key => key.EnterpriseId).Distinct()],
            cancellationToken
        );
        await FindAsync(connection, unknown.ToDictionary(), cancellationToken);
        (Guid Enterprise, Guid User)[] keys = [.. unknown.Keys.Where(key => !_known.ContainsKey(key)).Order()];
        int[] ordinals = new int[keys.Length];
        byte[]?[] externalIds = new byte[]?[keys.Length];
        for (int i = 0; i < keys.Length; i++)
        {
            ordinals[i] = next[keys[i].Enterprise]++;
            _created[keys[i]] = ordinals[i];
            (EnterpriseInfo enterprise, string? externalId) = unknown[keys[i]];
            externalIds[i] = externalId is null ? null : ExternalIds.Seal(enterprise, externalId);
        }

        const string Sql = """
            INSERT INTO users (enterprise_id, user_id, ordinal, external_id, created_at)
            SELECT enterprise_id, user_id, ordinal, external_id, $5
              FROM unnest($1, $2, $3, $4) AS seen (enterprise_id, user_id, ordinal, external_id)
            """;
        await using var batch = new NpgsqlBatch(connection);

        // A step that creates users waits for the disk after all. Their numbers are remembered here, beyond the
        // transaction: were the step lost with PostgreSQL's last moments, the same numbers would be given to others.
        // What another worker has created can be seen only once it is durable, for the same reason.
        batch.BatchCommands.Add(new NpgsqlBatchCommand("SET LOCAL synchronous_commit = on"));
        batch.BatchCommands.Add(
            new NpgsqlBatchCommand(Sql)
            {
                Parameters =
                {
                    new NpgsqlParameter<Guid[]> { TypedValue = Array.ConvertAll(keys, key => key.Enterprise) },
                    new NpgsqlParameter<Guid[]> { TypedValue = Array.ConvertAll(keys, key => key.User) },
                    new NpgsqlParameter<int[]> { TypedValue = ordinals },
                    new NpgsqlParameter<byte[]?[]> { TypedValue = externalIds },
                    new NpgsqlParameter<DateTime> { TypedValue = now.UtcDateTime },
                },
            }
        );
        batch.BatchCommands.Add(
            new NpgsqlBatchCommand(
                """
                UPDATE user_ordinals SET next_ordinal = raised.next_ordinal
                  FROM unnest($1, $2) AS raised (enterprise_id, next_ordinal)
                 WHERE user_ordinals.enterprise_id = raised.enterprise_id
                """
            )
            {
                Parameters =
                {
                    new NpgsqlParameter<Guid[]> { TypedValue = [.. next.Keys] },
                    new NpgsqlParameter<int[]> { TypedValue = [.. next.Values] },
                },
            }
        );
        await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    private static async Task<Dictionary<Guid, int>> LockCountersAsync(
        NpgsqlConnection connection,
        Guid[] enterprises,
        CancellationToken cancellationToken
    )
    {
        const string Sql = """
            SELECT enterprise_id, next_ordinal FROM user_ordinals WHERE enterprise_id = ANY ($1) ORDER BY enterprise_id FOR UPDATE
            """;
        var next = new Dictionary<Guid, int>();
        await using var command = new NpgsqlCommand(Sql, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = enterprises });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            next[reader.GetGuid(0)] = reader.GetInt32(1);
        }

        return next;
    }
}
