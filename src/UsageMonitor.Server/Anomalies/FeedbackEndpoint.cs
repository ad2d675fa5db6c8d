using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>What an admin says of an anomaly. The last word stands; one that was expected is resolved by it.</summary>
internal static class FeedbackEndpoint
{
    private const string Answer = """
        UPDATE anomalies
           SET is_expected = $3, note = $4, answered_by = $5, answered_at = $6,
               status = CASE WHEN $3 THEN 'RESOLVED' ELSE status END,
               resolved_at = CASE WHEN $3 THEN coalesce(resolved_at, $6) ELSE resolved_at END
         WHERE enterprise_id = $1 AND anomaly_id = $2
        """;

    public static async Task<IResult> HandleAsync(
        Guid anomalyId,
        JsonBody<AnomalyFeedbackRequest> body,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        return await AnswerAsync(
            anomalyId,
            body.Value,
            context.GetCaller(),
            await enterprises.OfCallerAsync(context, cancellationToken),
            database,
            time,
            cancellationToken
        );
    }

    public static async Task<IResult> AnswerAsync(
        Guid anomalyId,
        AnomalyFeedbackRequest request,
        Caller caller,
        EnterpriseInfo enterprise,
        Database database,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (request.IsExpected is not { } isExpected)
        {
            return Problems.Problem(400, "invalid_request", "isExpected: must be true or false.");
        }

        string? note = string.IsNullOrWhiteSpace(request.Note) ? null : request.Note.Trim();
        if (note?.Length > AnomalyLimits.NoteCharactersMax)
        {
            return Problems.Problem(
                400,
                "invalid_request",
                $"note: may have {AnomalyLimits.NoteCharactersMax} characters at most."
            );
        }

        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await using (NpgsqlCommand command = own.Command(Answer, enterprise.EnterpriseId, anomalyId, isExpected))
        {
            command.Parameters.Add(
                new NpgsqlParameter
                {
                    Value = note is null ? DBNull.Value : AnomalyReader.SealNote(enterprise, anomalyId, note),
                    NpgsqlDbType = NpgsqlDbType.Bytea,
                }
            );
            command.Parameters.Add(
                new NpgsqlParameter { Value = caller.UserId ?? (object)DBNull.Value, NpgsqlDbType = NpgsqlDbType.Uuid }
            );
            command.Parameters.Add(new NpgsqlParameter { Value = time.GetUtcNow().UtcDateTime });
            if (await command.ExecuteNonQueryAsync(cancellationToken) == 0)
            {
                return AnomalyEndpoints.NotFound();
            }
        }

        AnomalyResponse? answered = await AnomalyReader.FindAsync(own, enterprise, anomalyId, cancellationToken);
        own.Audit("anomaly.answered", "anomaly", anomalyId, after: new { isExpected });
        await own.CommitAsync(cancellationToken);
        return Results.Ok(answered);
    }
}
