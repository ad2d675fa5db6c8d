using System.Runtime.InteropServices;
using Npgsql;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>A limit's refusals of one subject in one window, of a step.</summary>
/// <param name="Enterprise">Whose.</param>
/// <param name="Meter">The limit's, as it was.</param>
/// <param name="SubjectId">The user, or the nil UUID.</param>
/// <param name="Last">What the latest refusal says.</param>
/// <param name="Count">How many.</param>
/// <param name="LastAt">When the latest was.</param>
internal sealed record RefusedUsage(
    StepEnterprise Enterprise,
    LimitMeter Meter,
    Guid SubjectId,
    LimitRefusal Last,
    long Count,
    DateTime LastAt
);

/// <summary>Sums a step's attempts that limits have refused.</summary>
internal static class LimitRefusals
{
    private const string ReadVersions = """
        SELECT v.enterprise_id, v.limit_id, v.version, v.feature_name, v.scope, v.subject_role, v.window_type
          FROM unnest($1, $2, $3) AS wanted (enterprise_id, limit_id, version)
          JOIN usage_limit_versions AS v
            ON v.enterprise_id = wanted.enterprise_id AND v.limit_id = wanted.limit_id AND v.version = wanted.version
        """;

    /// <returns>Empty when no limit refused anything; then nothing was asked.</returns>
    public static async Task<List<RefusedUsage>> SumAsync(
        NpgsqlConnection connection,
        StepEvents step,
        IReadOnlyDictionary<Guid, (StepEnterprise Enterprise, MeterPlan Plan)> plans,
        CancellationToken cancellationToken
    )
    {
        List<(StepEnterprise Enterprise, StepAttempt Attempt, LimitRefusal Refusal)> refused =
        [
            .. step.Enterprises.SelectMany(enterprise =>
                enterprise
                    .Attempts.Where(attempt => attempt.Limit is not null)
                    .Select(attempt => (enterprise, attempt, attempt.Limit!))
            ),
        ];
        if (refused.Count == 0)
        {
            return [];
        }

        Dictionary<(Guid EnterpriseId, Guid LimitId, int Version), LimitMeter> meters = [];
        var missing = new HashSet<(Guid EnterpriseId, Guid LimitId, int Version)>();
        foreach ((StepEnterprise enterprise, _, LimitRefusal refusal) in refused)
        {
            if (
                plans.GetValueOrDefault(enterprise.Id).Plan?.FindLimit(refusal.LimitId) is { } limit
                && limit.Version == refusal.LimitVersion
            )
            {
                meters[(enterprise.Id, refusal.LimitId, refusal.LimitVersion)] = limit.Meter;
            }
            else
            {
                missing.Add((enterprise.Id, refusal.LimitId, refusal.LimitVersion));
            }
        }

        if (missing.Count > 0)
        {
            await ReadAsync(connection, [.. missing], meters, cancellationToken);
        }

        var sums = new Dictionary<(Guid, Guid, Guid, DateTime), RefusedUsage>();
        foreach ((StepEnterprise enterprise, StepAttempt attempt, LimitRefusal refusal) in refused)
        {
            if (!meters.TryGetValue((enterprise.Id, refusal.LimitId, refusal.LimitVersion), out LimitMeter? meter))
            {
                continue; // of an enterprise's limit that never was: the decision keeps what the attempt says
            }

            Guid subject = meter.SubjectOf(attempt.Header.Event.UserId);
            ref RefusedUsage? sum = ref CollectionsMarshal.GetValueRefOrAddDefault(
                sums,
                (enterprise.Id, refusal.LimitId, subject, refusal.Window.Start),
                out _
            );
            DateTime at = attempt.DecidedAt;
            sum = sum is null
                ? new RefusedUsage(enterprise, meter, subject, refusal, 1, at)
                : sum with
                {
                    Last = at >= sum.LastAt ? refusal : sum.Last,
                    Count = sum.Count + 1,
                    LastAt = at >= sum.LastAt ? at : sum.LastAt,
                };
        }

        return [.. sums.Values];
    }

    private static async Task ReadAsync(
        NpgsqlConnection connection,
        List<(Guid EnterpriseId, Guid LimitId, int Version)> missing,
        Dictionary<(Guid, Guid, int), LimitMeter> meters,
        CancellationToken cancellationToken
    )
    {
        await using var command = new NpgsqlCommand(ReadVersions, connection)
        {
            Parameters =
            {
                Columns.Of(missing, row => row.EnterpriseId),
                Columns.Of(missing, row => row.LimitId),
                Columns.Of(missing, row => row.Version),
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            meters[(reader.GetGuid(0), reader.GetGuid(1), reader.GetInt32(2))] = LimitMeter.Of(
                reader.GetGuid(0),
                reader.GetString(3),
                LimitTerms.Scope(reader.GetString(4))!.Value,
                reader.IsDBNull(5) ? null : reader.GetString(5),
                LimitTerms.Window(reader.GetString(6))!.Value
            );
        }
    }
}
