using Npgsql;

namespace UsageMonitor.Server.Limits;

/// <summary>A limit as it is kept: a row of <c>usage_limits</c>.</summary>
/// <param name="LimitId">The limit.</param>
/// <param name="Version">Raised by every change.</param>
/// <param name="Meter">What it counts.</param>
/// <param name="SubjectUserId">Of scope USER: the one user, or null for each.</param>
/// <param name="SubjectExternalId">That user's external id, sealed; null when the user is named by a UUID.</param>
/// <param name="LimitValue">How much is within the limit; 0: nothing.</param>
/// <param name="Action">What happens beyond.</param>
/// <param name="Status"><c>ACTIVE</c> or <c>INACTIVE</c>.</param>
/// <param name="StartsAt">Inclusive; null: always.</param>
/// <param name="ExpiresAt">Exclusive; null: never.</param>
/// <param name="CreatedBy">Who made it.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="UpdatedAt">When this version was made.</param>
internal sealed record StoredLimit(
    Guid LimitId,
    int Version,
    LimitMeter Meter,
    Guid? SubjectUserId,
    byte[]? SubjectExternalId,
    long LimitValue,
    LimitAction Action,
    string Status,
    DateTime? StartsAt,
    DateTime? ExpiresAt,
    Guid CreatedBy,
    DateTime CreatedAt,
    DateTime UpdatedAt
)
{
    /// <summary>The columns that <see cref="Read"/> reads, of a table or alias <c>l</c>.</summary>
    public const string Columns = """
        l.limit_id, l.version, l.feature_name, l.scope, l.subject_role, l.window_type, l.subject_user_id, l.subject_external_id,
        l.limit_value, l.action, l.status, l.starts_at, l.expires_at, l.created_by, l.created_at, l.updated_at
        """;

    /// <summary>Whether it is in force at an instant, its status aside.</summary>
    public bool IsInForce(DateTime utc) =>
        (StartsAt is not { } starts || utc >= starts) && (ExpiresAt is not { } expires || utc < expires);

    public static StoredLimit Read(NpgsqlDataReader reader, Guid enterpriseId, int first = 0) =>
        new(
            reader.GetGuid(first),
            reader.GetInt32(first + 1),
            LimitMeter.Of(
                enterpriseId,
                reader.GetString(first + 2),
                LimitTerms.Scope(reader.GetString(first + 3))!.Value,
                reader.IsDBNull(first + 4) ? null : reader.GetString(first + 4),
                LimitTerms.Window(reader.GetString(first + 5))!.Value
            ),
            reader.GetFieldValue<Guid?>(first + 6),
            reader.IsDBNull(first + 7) ? null : reader.GetFieldValue<byte[]>(first + 7),
            reader.GetInt64(first + 8),
            LimitTerms.Action(reader.GetString(first + 9))!.Value,
            reader.GetString(first + 10),
            reader.GetFieldValue<DateTime?>(first + 11),
            reader.GetFieldValue<DateTime?>(first + 12),
            reader.GetGuid(first + 13),
            reader.GetFieldValue<DateTime>(first + 14),
            reader.GetFieldValue<DateTime>(first + 15)
        );
}
