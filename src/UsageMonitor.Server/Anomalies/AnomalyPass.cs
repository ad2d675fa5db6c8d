using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>Takes a step of every enterprise that is due; any number of instances may, at the same time.</summary>
internal sealed partial class AnomalyPass(
    Database database,
    EnterpriseStep step,
    TimeProvider time,
    ILogger<AnomalyPass> logger
)
{
    // Those of whom nothing is known yet get a position; the platform itself has no usage.
    private const string AddPositions = """
        INSERT INTO anomaly_positions (enterprise_id, next_look_at, watched_since)
        SELECT enterprise_id, $1, $1 FROM enterprises AS e
         WHERE enterprise_id <> '00000000-0000-0000-0000-000000000000'
           AND NOT EXISTS (SELECT FROM anomaly_positions AS p WHERE p.enterprise_id = e.enterprise_id)
         LIMIT $2
            ON CONFLICT (enterprise_id) DO NOTHING
        """;

    private const string FindDue = """
        SELECT enterprise_id FROM anomaly_positions WHERE next_look_at <= $1 ORDER BY next_look_at LIMIT $2
        """;

    /// <returns>How many steps were taken.</returns>
    public async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        await using (NpgsqlCommand add = Command(AddPositions, now))
        {
            await add.ExecuteNonQueryAsync(cancellationToken);
        }

        var due = new List<Guid>();
        await using (NpgsqlCommand find = Command(FindDue, now))
        await using (NpgsqlDataReader reader = await find.ExecuteReaderAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                due.Add(reader.GetGuid(0));
            }
        }

        int taken = 0;
        foreach (Guid enterpriseId in due)
        {
            try
            {
                taken += await step.RunAsync(enterpriseId, cancellationToken) ? 1 : 0;
            }
            catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
            {
                // It was rolled back and is taken again, after the others.
                LogStepFailed(exception, enterpriseId);
                await RestAsync(enterpriseId, now, cancellationToken);
            }
        }

        return taken;
    }

    private const string Rest = """
        UPDATE anomaly_positions SET next_look_at = $2 WHERE enterprise_id = $1 AND next_look_at < $2
        """;

    private async Task RestAsync(Guid enterpriseId, DateTime now, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(Rest);
        command.Parameters.Add(new NpgsqlParameter { Value = enterpriseId });
        command.Parameters.Add(new NpgsqlParameter { Value = now + AnomalyLimits.FailureRest });
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private NpgsqlCommand Command(string sql, DateTime now)
    {
        NpgsqlCommand command = database.Pipeline.CreateCommand(sql);
        command.Parameters.Add(new NpgsqlParameter { Value = now });
        command.Parameters.Add(new NpgsqlParameter { Value = AnomalyLimits.EnterprisesPerPassMax });
        return command;
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Looking for abnormal behaviour of enterprise {EnterpriseId} failed and was rolled back; it is tried again in some minutes"
    )]
    private partial void LogStepFailed(Exception exception, Guid enterpriseId);
}
