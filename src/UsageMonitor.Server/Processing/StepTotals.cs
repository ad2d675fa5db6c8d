using System.Runtime.InteropServices;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion;

namespace UsageMonitor.Server.Processing;

/// <summary>What a step adds to one enterprise's aggregates and ledger, summed before it reaches the database.</summary>
internal sealed class StepTotals
{
    /// <summary>Counts and users of one hour or day, by feature.</summary>
    public sealed class Bucket(DateTime start, int features)
    {
        public DateTime Start { get; } = start;

        public long[] Counts { get; } = new long[features];

        public List<int>?[] Users { get; } = new List<int>?[features];

        public void Add(int feature, int ordinal)
        {
            Counts[feature]++;
            (Users[feature] ??= []).Add(ordinal);
        }
    }

    public record struct UserUsage(
        Guid UserId,
        int Feature,
        DateTime Day,
        long Count,
        DateTime FirstAt,
        DateTime LastAt
    );

    public record struct LedgerRow(long Accepted, long Rejected, long Blocked, long Stored, long Duplicate);

    /// <summary>What of a day's usage was received after the day's figure had been reported, on one local day of receipt.</summary>
    /// <param name="Feature">Null: all features together.</param>
    /// <param name="Day">The UTC instant of the local day's beginning.</param>
    /// <param name="DayEnd">That of its end.</param>
    /// <param name="RestatedOn">The local day of receipt.</param>
    /// <param name="Count">Events.</param>
    /// <param name="IsBackfill">Some of them were older than anybody may send without the permission to.</param>
    /// <param name="FirstAt">Receipt of the first.</param>
    /// <param name="LastAt">Receipt of the last.</param>
    public record struct LateUsage(
        int? Feature,
        DateTime Day,
        DateTime DayEnd,
        DateOnly RestatedOn,
        long Count,
        bool IsBackfill,
        DateTime FirstAt,
        DateTime LastAt
    );

    private readonly Dictionary<(int Ordinal, int Feature, DateTime Day), UserUsage> _users = [];
    private readonly Dictionary<(int? Feature, DateTime Day, DateOnly RestatedOn), LateUsage> _late = [];

    private StepTotals(StepEnterprise enterprise) => Enterprise = enterprise;

    public StepEnterprise Enterprise { get; }

    /// <summary>By the UTC instant of the local hour's beginning.</summary>
    public Dictionary<DateTime, Bucket> Hours { get; } = [];

    /// <summary>By the UTC instant of the local day's beginning.</summary>
    public Dictionary<DateTime, Bucket> Days { get; } = [];

    /// <summary>Which day an hour belongs to.</summary>
    public Dictionary<DateTime, DateTime> DayOfHour { get; } = [];

    public IReadOnlyCollection<UserUsage> Users => _users.Values;

    /// <summary>By local hour of receipt.</summary>
    public Dictionary<DateTime, LedgerRow> Ledger { get; } = [];

    /// <summary>What restates a day's figure, oldest receipt first.</summary>
    public IEnumerable<LateUsage> Late => _late.Values;

    public static StepTotals Of(StepEnterprise enterprise, IReadOnlyList<Segment> segments)
    {
        var totals = new StepTotals(enterprise);
        var receipt = new DateTime[segments.Count];
        foreach ((int segment, SegmentTally tally) in enterprise.Tallies)
        {
            receipt[segment] = enterprise.Local.HourStart(segments[segment].AppendedAt.UtcDateTime);
            ref LedgerRow row = ref totals.LedgerOf(receipt[segment]);
            row.Accepted += tally.Accepted;
            row.Rejected += tally.Rejected;
            row.Blocked += tally.Blocked;
        }

        totals.Count(receipt, segments);
        return totals;
    }

    private void Count(DateTime[] receipt, IReadOnlyList<Segment> segments)
    {
        DateTime dayEnd = default;
        Bucket? hour = null;
        Bucket? day = null;
        DateTime hourEnd = default;
        foreach (ref StepEvent current in Enterprise.EventSpan)
        {
            ref LedgerRow row = ref LedgerOf(receipt[current.Segment]);
            if (current.IsDuplicate)
            {
                row.Duplicate++;
                continue;
            }

            row.Stored++;
            DateTime timestamp = current.Timestamp;

            // Neighbours in the log are mostly of the same hour: the zone is asked only when it ends.
            if (hour is null || timestamp < hour.Start || timestamp >= hourEnd)
            {
                hour = BucketOf(Hours, Enterprise.Local.HourStart(timestamp));
                hourEnd = Enterprise.Local.NextHour(hour.Start);
                day = BucketOf(Days, Enterprise.Local.DayStart(timestamp));
                DayOfHour[hour.Start] = day.Start;
                dayEnd = Enterprise.Local.DayStart(Enterprise.Local.DateOf(day.Start).AddDays(1));
            }

            hour.Add(current.Feature, current.Ordinal);
            day!.Add(current.Feature, current.Ordinal);
            DateTime receivedAt = segments[current.Segment].AppendedAt.UtcDateTime;
            if (receivedAt - Restatements.ReportedAfter >= dayEnd)
            {
                AddLate(null, day.Start, dayEnd, timestamp, receivedAt);
                AddLate(current.Feature, day.Start, dayEnd, timestamp, receivedAt);
            }

            ref UserUsage usage = ref CollectionsMarshal.GetValueRefOrAddDefault(
                _users,
                (current.Ordinal, current.Feature, day.Start),
                out bool known
            );
            usage = known
                ? usage with
                {
                    Count = usage.Count + 1,
                    FirstAt = usage.FirstAt < timestamp ? usage.FirstAt : timestamp,
                    LastAt = usage.LastAt > timestamp ? usage.LastAt : timestamp,
                }
                : new UserUsage(current.UserId, current.Feature, day.Start, 1, timestamp, timestamp);
        }
    }

    private void AddLate(int? feature, DateTime day, DateTime dayEnd, DateTime timestamp, DateTime receivedAt)
    {
        DateOnly restatedOn = Enterprise.Local.DateOf(receivedAt);
        bool isBackfill = receivedAt - timestamp > TimeSpan.FromDays(TimestampWindow.AgeDaysMax);
        ref LateUsage late = ref CollectionsMarshal.GetValueRefOrAddDefault(
            _late,
            (feature, day, restatedOn),
            out bool known
        );
        late = known
            ? late with
            {
                Count = late.Count + 1,
                IsBackfill = late.IsBackfill || isBackfill,
                LastAt = receivedAt,
            }
            : new LateUsage(feature, day, dayEnd, restatedOn, 1, isBackfill, receivedAt, receivedAt);
    }

    private Bucket BucketOf(Dictionary<DateTime, Bucket> buckets, DateTime start)
    {
        ref Bucket? bucket = ref CollectionsMarshal.GetValueRefOrAddDefault(buckets, start, out _);
        return bucket ??= new Bucket(start, Enterprise.FeatureNames.Count);
    }

    private ref LedgerRow LedgerOf(DateTime hour) =>
        ref CollectionsMarshal.GetValueRefOrAddDefault(Ledger, hour, out _);
}
