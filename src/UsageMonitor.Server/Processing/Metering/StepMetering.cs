using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>What a worker's metering is told by, and whom it tells.</summary>
/// <param name="Limits">The enterprises' limits, at most a second old.</param>
/// <param name="Rules">The enterprises' alert rules, at most a second old.</param>
/// <param name="Deliveries">Woken when deliveries were committed.</param>
internal sealed record MeteringSources(LimitSets Limits, AlertRuleSets Rules, DeliverySignal Deliveries);

/// <summary>
/// What a step means for limits and alerts: it counts usage on the enterprises' meters, records violations and opens alerts,
/// in the step's transaction. One object per worker.
/// </summary>
/// <remarks>
/// A step of enterprises without limits and alert rules asks the database nothing. Limits and rules are as they are when
/// the step runs; one that is deleted meanwhile did count until now.
/// </remarks>
internal sealed class StepMetering(MeteringSources sources, TimeProvider time)
{
    /// <summary>Plans remembered by one worker; beyond, it starts over.</summary>
    public const int RememberedPlansMax = 10_000;

    private readonly KnownMeters _known = new();
    private readonly StepAlerts _alerts = new();
    private readonly Dictionary<Guid, MeterPlan> _plans = [];
    private readonly Dictionary<Guid, (StepEnterprise Enterprise, MeterPlan Plan)> _ofStep = [];
    private readonly Dictionary<UsageKey, UsageTally> _tallies = [];
    private DateTime _now;
    private bool _hasDeliveries;

    /// <summary>
    /// Sums what the step will store, and begins the meters that do not count yet. To be called before the step's events
    /// are stored: a meter begins with what was stored before, and the step's events are added to it as to every other.
    /// </summary>
    /// <param name="connection">The step's.</param>
    /// <param name="partition">The step's.</param>
    /// <param name="metersVersion">Of the locked position.</param>
    /// <param name="step">With its duplicates marked.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task CountAsync(
        NpgsqlConnection connection,
        short partition,
        long metersVersion,
        StepEvents step,
        CancellationToken cancellationToken
    )
    {
        _now = time.GetUtcNow().UtcDateTime;
        _ofStep.Clear();
        _tallies.Clear();
        _hasDeliveries = false;
        _alerts.Begin();
        await _known.FollowAsync(connection, partition, metersVersion, cancellationToken);
        var dropped = new List<(Guid EnterpriseId, Guid MeterId)>();
        var started = new List<NewMeter>();
        foreach (StepEnterprise enterprise in step.Enterprises)
        {
            IReadOnlyDictionary<Guid, DateTime> counting = _known.Of(partition, enterprise.Id);
            MeterPlan? plan = await PlanAsync(enterprise, cancellationToken);
            if (plan is null)
            {
                dropped.AddRange(counting.Keys.Select(meterId => (enterprise.Id, meterId)));
                continue;
            }

            _ofStep[enterprise.Id] = (enterprise, plan);
            List<NewMeter> own =
            [
                .. plan
                    .Meters.Where(planned => !counting.ContainsKey(planned.Meter.MeterId))
                    .Select(planned => MeterStarts.Of(enterprise, planned.Meter, plan, _now)),
            ];
            dropped.AddRange(
                counting
                    .Keys.Where(meterId => !plan.MetersById.ContainsKey(meterId))
                    .Select(meterId => (enterprise.Id, meterId))
            );
            started.AddRange(own);
            IReadOnlyDictionary<Guid, DateTime> countedSince =
                own.Count == 0
                    ? counting
                    : counting
                        .Concat(own.Select(meter => KeyValuePair.Create(meter.Meter.MeterId, meter.CountedSince)))
                        .ToDictionary();
            MeterTallies.Add(enterprise, plan, countedSince, _now, _tallies);
        }

        if (dropped.Count > 0 || started.Count > 0)
        {
            await MeterStarts.WriteAsync(connection, partition, dropped, started, cancellationToken);
        }
    }

    /// <summary>Writes the counts and what follows from them.</summary>
    public async Task WriteAsync(NpgsqlConnection connection, StepEvents step, CancellationToken cancellationToken)
    {
        List<CountedUsage> counted =
            _tallies.Count == 0 ? [] : await UsageCounts.AddAsync(connection, _ofStep, _tallies, cancellationToken);
        List<RefusedUsage> refused = await LimitRefusals.SumAsync(connection, step, _ofStep, cancellationToken);
        if (counted.Count == 0 && refused.Count == 0)
        {
            return;
        }

        var names = new SubjectNames();
        List<DueAlert> due = DueAlerts.Find(counted, refused, _ofStep, _now);
        due.RemoveAll(_alerts.IsTold);
        await using var batch = new NpgsqlBatch(connection);
        foreach (NpgsqlBatchCommand command in _alerts.Statements(due, _now))
        {
            batch.BatchCommands.Add(command);
        }

        if (Violations.Of(counted, refused, names, _now) is { } violations)
        {
            batch.BatchCommands.Add(violations);
        }

        if (batch.BatchCommands.Count == 0)
        {
            return;
        }

        List<NewDelivery> deliveries = [];
        await using (NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken))
        {
            if (due.Count > 0)
            {
                deliveries = await _alerts.ReadAsync(reader, names, _now, cancellationToken);
            }
        }

        await DeliverAsync(connection, deliveries, cancellationToken);
    }

    /// <summary>The step has committed.</summary>
    public void Committed()
    {
        _alerts.Remember();
        if (_hasDeliveries)
        {
            sources.Deliveries.Wake();
        }
    }

    private async Task DeliverAsync(
        NpgsqlConnection connection,
        List<NewDelivery> deliveries,
        CancellationToken cancellationToken
    )
    {
        if (deliveries.Count == 0)
        {
            return;
        }

        _hasDeliveries = true;
        await using var batch = new NpgsqlBatch(connection);
        foreach (NewDelivery[] chunk in deliveries.Chunk(StepAlerts.StatementDeliveriesMax))
        {
            batch.BatchCommands.Add(AlertOutbox.Insert(chunk));
        }

        await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    /// <returns>Null when nothing of the enterprise's is metered.</returns>
    private async ValueTask<MeterPlan?> PlanAsync(StepEnterprise enterprise, CancellationToken cancellationToken)
    {
        LimitSet limits = await sources.Limits.FindAsync(enterprise.Id, cancellationToken);
        AlertRuleSet rules = await sources.Rules.FindAsync(enterprise.Enterprise, cancellationToken);
        if (limits.Limits.Count == 0 && rules.Rules.Count == 0)
        {
            _plans.Remove(enterprise.Id);
            return null;
        }

        if (!_plans.TryGetValue(enterprise.Id, out MeterPlan? plan) || !plan.IsOf(limits, rules))
        {
            if (_plans.Count >= RememberedPlansMax)
            {
                _plans.Clear();
            }

            _plans[enterprise.Id] = plan = MeterPlan.Of(enterprise.Id, limits, rules);
        }

        return plan;
    }
}
