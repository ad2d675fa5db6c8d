using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission.Reservations;

/// <summary>A use that is held, or was.</summary>
/// <param name="ReservationId">The reservation, and the event that it becomes.</param>
/// <param name="UserId">Whose use.</param>
/// <param name="ExternalId">The caller's own id for the user, or null when that is a UUID.</param>
/// <param name="FeatureName">Of what.</param>
/// <param name="EventType">Of the event that it becomes.</param>
/// <param name="State"><c>HELD</c>, <c>COMMITTED</c> or <c>RELEASED</c>.</param>
/// <param name="CreatedAt">Its own time, to the microsecond: the windows it was counted in, and its event's time.</param>
/// <param name="ExpiresAt">Until when it can be committed; its own time again once it is being given up.</param>
/// <param name="EndedAt">When it was committed or released.</param>
internal sealed record Reservation(
    Guid ReservationId,
    Guid UserId,
    string? ExternalId,
    string FeatureName,
    string EventType,
    string State,
    DateTime CreatedAt,
    DateTime ExpiresAt,
    DateTime? EndedAt
)
{
    public const string Held = "HELD";
    public const string Committed = "COMMITTED";

    public long TimestampMicroseconds => EventTimestamp.FromInstant(new DateTimeOffset(CreatedAt, TimeSpan.Zero));

    /// <summary>Somebody gave it up, rather than that its time ran out.</summary>
    public bool IsGivenUp => ExpiresAt == CreatedAt;
}

/// <summary>The rows of reservations, as the API changes them.</summary>
internal static class ReservationStore
{
    // Held until the transaction ends: whoever raises the fence waits for the row, and sees it.
    private const string LockFence = "SELECT fence FROM log_fences WHERE enterprise_id = $1 FOR SHARE";

    private const string Insert = """
        INSERT INTO usage_reservations
            (enterprise_id, reservation_id, user_id, external_id, feature_name, event_type, api_key_id, state, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 'HELD', $8, $9)
        """;

    /// <summary>Makes the row, unless the fence under which the use was counted was raised since.</summary>
    /// <param name="transaction">In the enterprise's scope; the caller commits it when the answer is true.</param>
    /// <param name="enterprise">Whose.</param>
    /// <param name="reservation">Held.</param>
    /// <param name="apiKeyId">Who reserved; null for a person.</param>
    /// <param name="fence">Of the admission, or null: no counter is concerned.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<bool> TryInsertAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Reservation reservation,
        Guid? apiKeyId,
        long? fence,
        CancellationToken cancellationToken
    )
    {
        if (fence is { } counted)
        {
            await using NpgsqlCommand command = transaction.Command(LockFence, enterprise.EnterpriseId);
            if (await command.ExecuteScalarAsync(cancellationToken) as long? != counted)
            {
                return false;
            }
        }

        await using NpgsqlCommand insert = transaction.Command(
            Insert,
            enterprise.EnterpriseId,
            reservation.ReservationId,
            reservation.UserId
        );
        insert.Parameters.Add(
            new NpgsqlParameter
            {
                Value = reservation.ExternalId is { } externalId
                    ? ExternalIds.Seal(enterprise, externalId)
                    : DBNull.Value,
                NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Bytea,
            }
        );
        insert.Parameters.Add(new NpgsqlParameter<string> { TypedValue = reservation.FeatureName });
        insert.Parameters.Add(new NpgsqlParameter<string> { TypedValue = reservation.EventType });
        insert.Parameters.Add(
            new NpgsqlParameter
            {
                Value = (object?)apiKeyId ?? DBNull.Value,
                NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Uuid,
            }
        );
        insert.Parameters.Add(new NpgsqlParameter<DateTime> { TypedValue = reservation.CreatedAt });
        insert.Parameters.Add(new NpgsqlParameter<DateTime> { TypedValue = reservation.ExpiresAt });
        await insert.ExecuteNonQueryAsync(cancellationToken);
        return true;
    }

    private const string Find = """
        SELECT reservation_id, user_id, external_id, feature_name, event_type, state, created_at, expires_at, ended_at
          FROM usage_reservations WHERE enterprise_id = $1 AND reservation_id = $2 FOR UPDATE
        """;

    /// <summary>The reservation, locked until the transaction ends; null when the enterprise has none of this id.</summary>
    public static async Task<Reservation?> LockAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid reservationId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = transaction.Command(Find, enterprise.EnterpriseId, reservationId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? new Reservation(
                reader.GetGuid(0),
                reader.GetGuid(1),
                reader.IsDBNull(2) ? null : ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(2)),
                reader.GetString(3),
                reader.GetString(4),
                reader.GetString(5),
                reader.GetFieldValue<DateTime>(6),
                reader.GetFieldValue<DateTime>(7),
                reader.GetFieldValue<DateTime?>(8)
            )
            : null;
    }

    private const string Commit = """
        UPDATE usage_reservations SET state = 'COMMITTED', ended_at = $3 WHERE enterprise_id = $1 AND reservation_id = $2
        """;

    /// <summary>From now on its event may reach the log: see <see cref="CounterBase.CommitTimeMax"/>.</summary>
    public static Task CommitAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid reservationId,
        DateTime now,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(Commit, [enterpriseId, reservationId, now], cancellationToken);

    private const string GiveUp = """
        UPDATE usage_reservations SET expires_at = created_at WHERE enterprise_id = $1 AND reservation_id = $2 AND state = 'HELD'
        """;

    /// <summary>From now on it cannot be committed; what it holds is given back next.</summary>
    public static Task GiveUpAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid reservationId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(GiveUp, [enterpriseId, reservationId], cancellationToken);

    private const string Release = """
        UPDATE usage_reservations SET state = 'RELEASED', ended_at = $3
         WHERE enterprise_id = $1 AND reservation_id = $2 AND state = 'HELD' AND expires_at = created_at
        """;

    /// <summary>What it held has been given back.</summary>
    public static Task ReleaseAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid reservationId,
        DateTime now,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(Release, [enterpriseId, reservationId, now], cancellationToken);
}
