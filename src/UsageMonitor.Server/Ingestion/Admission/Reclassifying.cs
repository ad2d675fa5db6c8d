using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>Makes a refused event count as usage after all.</summary>
/// <remarks>
/// <para>
/// The refusal's row is locked while its event is appended, and is marked, with its audit entry, in the transaction that holds the
/// lock: of many who ask at once the first does it, and the others find it done. A crash after the append leaves an event that
/// counts and a refusal that does not say so; asking again appends the same event under the same id, which processing knows
/// as a duplicate, and marks it. So it counts once, however often it is tried.
/// </para>
/// <para>
/// The attempt stays what it was, received and blocked; the usage is received anew and accepted. It is let through above its limits,
/// so the append raises the enterprise's fence: whoever counts on limits begins anew, with this use.
/// </para>
/// </remarks>
internal sealed class Reclassifying(
    Database database,
    IEventLog log,
    PropertyRuleSets propertyRules,
    LimitCounters counters,
    TimeProvider time
)
{
    /// <summary>UTF-16 code units.</summary>
    public const int ReasonCharactersMax = 500;

    /// <summary>A segment is appended soon after the decision, by the clock of the database instead of the instance's.</summary>
    private static readonly TimeSpan AppendedWithin = TimeSpan.FromHours(1);

    private const string LockDecision = """
        SELECT source, reclassified_at, event_id, user_id, external_id, feature_name, event_type, event_timestamp,
               log_partition, segment_offset, segment_slot
          FROM decisions WHERE enterprise_id = $1 AND decided_at = $2 AND receipt_id = $3
           FOR UPDATE
        """;

    private const string ReadProperties = """
        SELECT properties FROM log_segments
         WHERE log_partition = $1 AND segment_offset = $2 AND appended_at BETWEEN $3 AND $4
        """;

    private const string MarkDecision = """
        UPDATE decisions SET reclassified_at = $4, reclassified_by = $5, reclassified_reason = $6
         WHERE enterprise_id = $1 AND decided_at = $2 AND receipt_id = $3
        """;

    /// <summary>Where the properties of the attempt are.</summary>
    private readonly record struct Slot(short Partition, long Offset, int Number);

    /// <summary>An attempt that can be made to count.</summary>
    private readonly record struct Attempt(ParsedEvent Event, Slot Slot);

    /// <returns>What is in the way, or null: it counts.</returns>
    /// <exception cref="NpgsqlException">PostgreSQL is away; asking again is safe.</exception>
    public async Task<IResult?> TryAsync(
        EnterpriseInfo enterprise,
        Caller caller,
        Guid receiptId,
        string? reason,
        CancellationToken cancellationToken
    )
    {
        reason = reason?.Trim();
        if (reason is not { Length: > 0 and <= ReasonCharactersMax })
        {
            return Problems.Problem(400, "invalid_request", $"reason: must be 1 to {ReasonCharactersMax} characters.");
        }

        if (ReceiptIds.InstantOf(receiptId) is not { } decidedAt)
        {
            return NotFound();
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        (Attempt attempt, IResult? problem) = await LockAsync(own, enterprise, receiptId, decidedAt, cancellationToken);
        if (problem is not null)
        {
            return problem;
        }

        if (await PropertiesAsync(enterprise, attempt.Slot, decidedAt, cancellationToken) is not { } properties)
        {
            return Problems.Problem(
                409,
                "properties_gone",
                "What the event carried is no longer kept, so it cannot be made to count as it was sent."
            );
        }

        try
        {
            // What has been forbidden to be kept since then is not kept again.
            var batch = new ParsedBatch([attempt.Event with { Properties = properties }], []);
            (await propertyRules.FindAsync(enterprise.EnterpriseId, cancellationToken)).Apply(batch);
            await AppendAsync(enterprise, batch, cancellationToken);
        }
        catch (PropertyRulesUnavailableException exception)
        {
            return Problems.Problem(503, "property_rules_unavailable", exception.Message);
        }
        catch (EventLogUnavailableException exception)
        {
            return Problems.Problem(503, "log_unavailable", exception.Message + " Ask again: it is counted once.");
        }

        // Nothing is to keep what counts already from being marked.
        await using NpgsqlCommand command = own.Command(MarkDecision, enterprise.EnterpriseId, decidedAt, receiptId);
        command.Parameters.Add(Instant(time.GetUtcNow().UtcDateTime));
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = caller.UserId ?? caller.ApiKeyId!.Value });
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = reason });
        await command.ExecuteNonQueryAsync(CancellationToken.None);
        own.Audit(
            "decision.reclassified",
            "decision",
            receiptId,
            after: new { eventId = attempt.Event.EventId, reason }
        );
        await own.CommitAsync(CancellationToken.None);
        await counters.BeginAnewAsync(enterprise);
        return null;
    }

    private static async Task<(Attempt Attempt, IResult? Problem)> LockAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid receiptId,
        DateTimeOffset decidedAt,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(LockDecision, enterprise.EnterpriseId, decidedAt, receiptId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        if (!await reader.ReadAsync(cancellationToken))
        {
            return (default, NotFound());
        }

        if (reader.GetString(0) != "INGEST")
        {
            return (
                default,
                Problems.Problem(
                    409,
                    "nothing_to_reclassify",
                    "It was asked in advance and no event was sent, so there is nothing that could count."
                )
            );
        }

        if (!reader.IsDBNull(1))
        {
            return (default, Problems.Problem(409, "already_reclassified", "The event counts as usage already."));
        }

        var refused = new ParsedEvent(
            reader.GetGuid(2),
            reader.GetGuid(3),
            reader.IsDBNull(4) ? null : ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(4)),
            reader.GetString(5),
            reader.GetString(6),
            EventTimestamp.FromInstant(reader.GetFieldValue<DateTimeOffset>(7)),
            default
        );
        return (new Attempt(refused, new Slot(reader.GetInt16(8), reader.GetInt64(9), reader.GetInt32(10))), null);
    }

    // Segments hold events of many enterprises: the pipeline's login reads them, and the enterprise's key opens its own block alone.
    private async Task<ReadOnlyMemory<byte>?> PropertiesAsync(
        EnterpriseInfo enterprise,
        Slot slot,
        DateTimeOffset decidedAt,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(ReadProperties);
        command.Parameters.Add(new NpgsqlParameter<short> { TypedValue = slot.Partition });
        command.Parameters.Add(new NpgsqlParameter<long> { TypedValue = slot.Offset });
        command.Parameters.Add(Instant(decidedAt.UtcDateTime - AppendedWithin));
        command.Parameters.Add(Instant(decidedAt.UtcDateTime + AppendedWithin));
        return await command.ExecuteScalarAsync(cancellationToken) is byte[] sealedProperties
            ? SegmentCodec.OpenAllProperties(enterprise, sealedProperties)[slot.Number]
            : (ReadOnlyMemory<byte>?)null;
    }

    private Task AppendAsync(EnterpriseInfo enterprise, ParsedBatch batch, CancellationToken cancellationToken) =>
        log.AppendAsync(
            [
                SegmentCodec.Encode(
                    enterprise.LogPartition,
                    [new SegmentCodec.Block(enterprise, batch.Accepted, Rejected: 0)]
                ) with
                {
                    Raises = [enterprise.EnterpriseId],
                },
            ],
            cancellationToken
        );

    private static NpgsqlParameter<DateTime> Instant(DateTime utc) => new() { TypedValue = utc };

    private static IResult NotFound() =>
        Problems.Problem(404, "not_found", "Your enterprise has no refusal of this receipt.");
}
