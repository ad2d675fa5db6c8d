using System.Globalization;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>Where a person is signed in, and how they end it: within a second no instance takes the session any more.</summary>
internal sealed class OwnSessions(
    Database database,
    EnterpriseDirectory enterprises,
    IdentityVersion version,
    TimeProvider time
)
{
    public const int ListedMax = 100;
    public const int ListedDefault = 50;

    private const string ReadSessions = """
        SELECT session_id, method, second_factor, cookie_hash IS NOT NULL, client, created_at, last_seen_at, expires_at
        FROM sessions
        WHERE enterprise_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
          AND (created_at, session_id) < ($4, $5)
        ORDER BY created_at DESC, session_id DESC LIMIT $6
        """;

    /// <summary>Newest first; null when <paramref name="after"/> is not from an answer of ours.</summary>
    public async Task<SessionsResponse?> ListAsync(
        Caller caller,
        int limit,
        string? after,
        CancellationToken cancellationToken
    )
    {
        if (!TryReadPlace(after, out DateTimeOffset beforeAt, out Guid beforeId))
        {
            return null;
        }

        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        var sessions = new List<SessionSummary>();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(
            ReadSessions,
            caller.EnterpriseId,
            caller.UserId,
            time.GetUtcNow(),
            beforeAt,
            beforeId,
            limit + 1
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            SessionClient? client = reader.IsDBNull(4)
                ? null
                : SessionClient.Open(enterprise.DataKey, caller.EnterpriseId, reader.GetFieldValue<byte[]>(4));
            sessions.Add(
                new SessionSummary(
                    reader.GetGuid(0),
                    reader.GetGuid(0) == caller.SessionId,
                    reader.GetString(1),
                    reader.IsDBNull(2) ? null : reader.GetString(2),
                    reader.GetBoolean(3),
                    client?.Address,
                    client?.UserAgent,
                    reader.GetFieldValue<DateTimeOffset>(5),
                    reader.IsDBNull(6) ? null : reader.GetFieldValue<DateTimeOffset>(6),
                    reader.GetFieldValue<DateTimeOffset>(7)
                )
            );
        }

        if (sessions.Count <= limit)
        {
            return new SessionsResponse(sessions, null);
        }

        sessions.RemoveAt(limit);
        SessionSummary last = sessions[^1];
        return new SessionsResponse(
            sessions,
            string.Create(CultureInfo.InvariantCulture, $"{last.CreatedAt.UtcTicks}.{last.SessionId:N}")
        );
    }

    // Keeps the first instant, so that ending twice is answered alike and changes nothing.
    private const string EndSession = """
        UPDATE sessions SET revoked_at = coalesce(revoked_at, $4)
        WHERE enterprise_id = $1 AND user_id = $2 AND session_id = $3
        """;

    /// <summary>False: the person has no such session.</summary>
    public async Task<bool> TryEndAsync(Caller caller, Guid sessionId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        object?[] parameters = [caller.EnterpriseId, caller.UserId, sessionId, time.GetUtcNow()];
        if (await own.ExecuteAsync(EndSession, parameters, cancellationToken) == 0)
        {
            return false;
        }

        own.Audit("session.ended", "session", sessionId);
        await version.CommitAsync(own, cancellationToken);
        return true;
    }

    private const string EndOthers = """
        UPDATE sessions SET revoked_at = $4
        WHERE enterprise_id = $1 AND user_id = $2 AND session_id <> $3 AND revoked_at IS NULL AND expires_at > $4
        """;

    /// <summary>Ends all of the person's sessions but the one that asks.</summary>
    public async Task<int> EndOthersAsync(Caller caller, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        int ended = await EndOthersAsync(own, caller, time.GetUtcNow(), cancellationToken);
        own.Audit("person.sessions_ended", "user", caller.UserId, after: new { ended });
        await version.CommitAsync(own, cancellationToken);
        return ended;
    }

    /// <summary>The same as a part of another act, which must commit through <see cref="IdentityVersion"/>.</summary>
    public static Task<int> EndOthersAsync(
        ScopedTransaction transaction,
        Caller caller,
        DateTimeOffset now,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            EndOthers,
            [caller.EnterpriseId, caller.UserId, caller.SessionId, now],
            cancellationToken
        );

    // The place of the last one seen: its time in ticks and its id, which orders those of the same instant.
    private static bool TryReadPlace(string? after, out DateTimeOffset at, out Guid sessionId)
    {
        at = new DateTimeOffset(9999, 1, 1, 0, 0, 0, TimeSpan.Zero);
        sessionId = Guid.AllBitsSet;
        if (after is null)
        {
            return true;
        }

        if (
            after.Split('.') is not [var ticksText, var idText]
            || !long.TryParse(ticksText, NumberStyles.None, CultureInfo.InvariantCulture, out long ticks)
            || ticks > DateTimeOffset.MaxValue.UtcTicks
            || !Guid.TryParseExact(idText, "N", out sessionId)
        )
        {
            return false;
        }

        at = new DateTimeOffset(ticks, TimeSpan.Zero);
        return true;
    }
}
