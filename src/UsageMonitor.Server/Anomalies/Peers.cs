using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Who is like a user: who has a role or group in common with them, and when there are too few, who uses similar features.</summary>
internal sealed class Peers(Database database, Guid enterpriseId)
{
    /// <summary>Fewer say nothing.</summary>
    public const int PeersMin = 3;

    /// <summary>Users that are looked at as peers.</summary>
    public const int PeersMax = 500;

    /// <summary>Recently active users among whom similar ones are looked for.</summary>
    public const int SampleMax = 2_000;

    private const double LikenessMin = 0.5;
    private List<(Guid UserId, UserProfile Profile)>? _sample;

    /// <summary>What users like this one have in common with them, in words, when none of them has used a feature; null when some have, or too few are known.</summary>
    public async Task<string?> NoneHasUsedAsync(
        Guid userId,
        UserProfile user,
        int feature,
        CancellationToken cancellationToken
    )
    {
        List<(Guid UserId, UserProfile Profile)> peers = await ReadAsync(OfRolesAndGroups, userId, cancellationToken);
        string words = "share a role or group with them";
        if (peers.Count < PeersMin)
        {
            _sample ??= await ReadAsync(Recent, null, cancellationToken);
            peers = _sample.FindAll(other => other.UserId != userId && user.Likeness(other.Profile) >= LikenessMin);
            words = "use similar features";
        }

        return peers.Count >= PeersMin && !peers.Exists(peer => peer.Profile.HasUsed(feature))
            ? $"none of the {peers.Count} users known to us who {words}"
            : null;
    }

    private const string OfRolesAndGroups = """
        WITH peers AS (
            SELECT other.user_id FROM user_roles AS mine JOIN user_roles AS other USING (enterprise_id, role_name)
             WHERE mine.enterprise_id = $1 AND mine.user_id = $2 AND other.user_id <> $2
            UNION
            SELECT other.user_id FROM group_members AS mine JOIN group_members AS other USING (enterprise_id, group_id)
             WHERE mine.enterprise_id = $1 AND mine.user_id = $2 AND other.user_id <> $2
             LIMIT $3)
        SELECT known.user_id, known.state FROM peers JOIN anomaly_users AS known ON known.enterprise_id = $1 AND known.user_id = peers.user_id
        """;

    private const string Recent = """
        SELECT user_id, state FROM anomaly_users WHERE enterprise_id = $1 ORDER BY last_day DESC LIMIT $2
        """;

    // With the login that answers people: roles and groups are not the pipeline's to see.
    private async Task<List<(Guid UserId, UserProfile Profile)>> ReadAsync(
        string sql,
        Guid? userId,
        CancellationToken cancellationToken
    )
    {
        var found = new List<(Guid, UserProfile)>();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await using NpgsqlCommand command = userId is { } user
            ? own.Command(sql, enterpriseId, user, PeersMax)
            : own.Command(sql, enterpriseId, SampleMax);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add((reader.GetGuid(0), UserProfile.Read(reader.GetFieldValue<byte[]>(1))));
        }

        return found;
    }
}
