using System.Runtime.InteropServices;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>What a step adds to the aggregates and to the ledger, summed before it reaches the database.</summary>
internal sealed class StepTotals
{
    public readonly record struct AggregateKey(Guid EnterpriseId, bool Daily, string FeatureName, DateTime TimeBucket);

    public readonly record struct UserKey(Guid EnterpriseId, Guid UserId, string FeatureName, DateTime Day);

    public record struct UserUsage(long Count, DateTime FirstAt, DateTime LastAt);

    public readonly record struct DayKey(Guid EnterpriseId, DateTime Day);

    public record struct LedgerRow(long Accepted, long Rejected, long Stored, long Duplicate);

    public Dictionary<AggregateKey, long> Aggregates { get; } = [];

    public Dictionary<UserKey, UserUsage> Users { get; } = [];

    public Dictionary<DayKey, ActiveUsers> ActiveUsers { get; } = [];

    /// <summary>Per enterprise and local hour of receipt.</summary>
    public Dictionary<(Guid EnterpriseId, DateTime Hour), LedgerRow> Ledger { get; } = [];

    public static StepTotals Of(StepEvents step, Func<EnterpriseInfo, LocalTime> localTimeOf)
    {
        var totals = new StepTotals();
        foreach ((EnterpriseInfo enterprise, DateTime receivedAt, EventLog.SegmentTally tally) in step.Tallies)
        {
            ref LedgerRow row = ref totals.LedgerOf(enterprise, localTimeOf(enterprise).HourStart(receivedAt));
            row.Accepted += tally.Accepted;
            row.Rejected += tally.Rejected;
        }

        foreach (ref StepEvent current in CollectionsMarshal.AsSpan(step.Events))
        {
            LocalTime local = localTimeOf(current.Enterprise);
            ref LedgerRow row = ref totals.LedgerOf(current.Enterprise, local.HourStart(current.ReceivedAt));
            if (current.Duplicate)
            {
                row.Duplicate++;
                continue;
            }

            row.Stored++;
            totals.Count(current, local);
        }

        return totals;
    }

    private void Count(in StepEvent stored, LocalTime local)
    {
        Guid enterpriseId = stored.Enterprise.EnterpriseId;
        string feature = stored.Header.FeatureName;
        DateTime hour = local.HourStart(stored.Timestamp);
        DateTime day = local.DayStart(stored.Timestamp);
        Aggregate(new AggregateKey(enterpriseId, Daily: false, feature, hour))++;
        Aggregate(new AggregateKey(enterpriseId, Daily: false, "", hour))++;
        Aggregate(new AggregateKey(enterpriseId, Daily: true, feature, day))++;
        Aggregate(new AggregateKey(enterpriseId, Daily: true, "", day))++;

        ref UserUsage usage = ref CollectionsMarshal.GetValueRefOrAddDefault(
            Users,
            new UserKey(enterpriseId, stored.Header.UserId, feature, day),
            out bool known
        );
        usage = known
            ? new UserUsage(
                usage.Count + 1,
                usage.FirstAt < stored.Timestamp ? usage.FirstAt : stored.Timestamp,
                usage.LastAt > stored.Timestamp ? usage.LastAt : stored.Timestamp
            )
            : new UserUsage(1, stored.Timestamp, stored.Timestamp);

        ref ActiveUsers? active = ref CollectionsMarshal.GetValueRefOrAddDefault(ActiveUsers, new DayKey(enterpriseId, day), out _);
        active ??= new ActiveUsers();
        active.Add(feature, (int)(hour - day).TotalMinutes, stored.Ordinal);
    }

    private ref long Aggregate(AggregateKey key) => ref CollectionsMarshal.GetValueRefOrAddDefault(Aggregates, key, out _);

    private ref LedgerRow LedgerOf(EnterpriseInfo enterprise, DateTime hour) =>
        ref CollectionsMarshal.GetValueRefOrAddDefault(Ledger, (enterprise.EnterpriseId, hour), out _);
}
