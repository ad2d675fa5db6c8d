using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>A person's sign-ins that have not ended: listed and ended.</summary>
internal static class PersonSessions
{
    /// <summary>The newest; who has more ends all at once.</summary>
    private const int ListedMax = 200;

    private const string ReadSessions = """
        SELECT session_id, method, second_factor, client, created_at, expires_at FROM sessions
        WHERE enterprise_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
        ORDER BY created_at DESC, session_id LIMIT $4
        """;

    /// <param name="transaction">In the enterprise's scope.</param>
    /// <param name="enterprise">The enterprise.</param>
    /// <param name="userId">The person.</param>
    /// <param name="current">The caller's own session.</param>
    /// <param name="now">Those that end later are listed.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IReadOnlyList<UserSession>> ListAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        Guid? current,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        var sessions = new List<UserSession>();
        Guid enterpriseId = enterprise.EnterpriseId;
        await using NpgsqlCommand command = transaction.Command(ReadSessions, enterpriseId, userId, now, ListedMax);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            SessionClient? client = reader.IsDBNull(3)
                ? null
                : SessionClient.Open(enterprise.DataKey, enterpriseId, reader.GetFieldValue<byte[]>(3));
            Guid sessionId = reader.GetGuid(0);
            sessions.Add(
                new UserSession(
                    sessionId,
                    reader.GetString(1),
                    reader.IsDBNull(2) ? null : reader.GetString(2),
                    client?.Address,
                    client?.UserAgent,
                    reader.GetFieldValue<DateTimeOffset>(4),
                    reader.GetFieldValue<DateTimeOffset>(5),
                    sessionId == current
                )
            );
        }

        return sessions;
    }

    private const string EndSessions = """
        UPDATE sessions SET revoked_at = $3
        WHERE enterprise_id = $1 AND user_id = $2 AND revoked_at IS NULL AND session_id IS DISTINCT FROM $4::uuid
        """;

    /// <summary>Ends all of a person's sessions but the kept one; commit with <see cref="IdentityVersion.CommitAsync"/>.</summary>
    public static Task<int> EndAllAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        Guid? kept,
        DateTimeOffset now,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(EndSessions, [enterpriseId, userId, now, kept], cancellationToken);

    // Keeps the first instant, so that ending twice is answered alike and changes nothing.
    private const string EndSession = """
        UPDATE sessions SET revoked_at = coalesce(revoked_at, $4)
        WHERE enterprise_id = $1 AND user_id = $2 AND session_id = $3
        """;

    /// <summary>Ends one session. False: the person has no such.</summary>
    public static async Task<bool> EndAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        Guid sessionId,
        DateTimeOffset now,
        CancellationToken cancellationToken
    ) => await transaction.ExecuteAsync(EndSession, [enterpriseId, userId, sessionId, now], cancellationToken) == 1;
}
