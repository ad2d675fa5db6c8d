using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>
/// Holds a request's events against the enterprise's BLOCK limits. What finds no room is moved from the accepted to the blocked,
/// as <see cref="PolicyGate"/> does. The same request can be held against them again: it begins with what it first was.
/// </summary>
internal sealed class LimitGate
{
    private readonly ParsedBatch _batch;
    private readonly ParsedEvent[] _events;
    private readonly BlockedAttempt[] _blocked;
    private readonly int[] _indexes;

    /// <param name="enterprise">Whose events they are.</param>
    /// <param name="limits">The enterprise's.</param>
    /// <param name="batch">What policies permit of a request.</param>
    /// <param name="now">Limits judge the event's own time; what is history is told, not done, and not held back.</param>
    public LimitGate(EnterpriseInfo enterprise, LimitSet limits, ParsedBatch batch, DateTimeOffset now)
    {
        _batch = batch;
        Plan = new AdmissionPlan(enterprise, limits);
        long oldest = EventTimestamp.FromInstant(now.AddDays(-TimestampWindow.AgeDaysMax));
        for (int i = 0; i < batch.Accepted.Count; i++)
        {
            ParsedEvent parsed = batch.Accepted[i];
            if (parsed.TimestampMicroseconds >= oldest)
            {
                Plan.Add(i, parsed.EventId, parsed.UserId, parsed.FeatureName, parsed.TimestampMicroseconds);
            }
        }

        if (Plan.Uses.Count > 0)
        {
            _events = [.. batch.Accepted];
            _blocked = [.. batch.Blocked];
            _indexes = IndexesOf(batch);
        }
        else
        {
            (_events, _blocked, _indexes) = ([], [], []);
        }
    }

    /// <summary>What must find room; without uses nobody need be asked.</summary>
    public AdmissionPlan Plan { get; }

    /// <summary>The ids of the uses that were let in.</summary>
    public IEnumerable<Guid> AdmittedIds(AdmissionResult result) =>
        Plan.Uses.Where((_, i) => result.Verdicts[i].IsAdmitted).Select(use => use.UseId);

    /// <summary>Sorts the request's events by what became of them.</summary>
    /// <param name="result">Of the plan.</param>
    /// <param name="sender">Who sends.</param>
    /// <param name="now">The receipts' instant.</param>
    public void Apply(AdmissionResult result, EventSender sender, DateTimeOffset now)
    {
        bool isCounted = result.State is not null;
        bool isRefusedUncounted = !isCounted && Plan.Enterprise.IsClosedWhenUncounted;
        var refused = new Dictionary<int, BlockedAttempt>();
        for (int i = 0; i < Plan.Uses.Count; i++)
        {
            PlannedUse use = Plan.Uses[i];
            if (isRefusedUncounted)
            {
                refused[use.Index] = Attempt(use, DecisionCodes.LimitUncounted, sender, now);
            }
            else if (isCounted && !result.Verdicts[i].IsAdmitted)
            {
                UseVerdict verdict = result.Verdicts[i];
                refused[use.Index] = Attempt(use, DecisionCodes.LimitReached, sender, now) with
                {
                    Limit = Plan.RefusalOf(use, verdict),
                };
            }
        }

        _batch.Fence = result.State?.Fence;
        _batch.IsUncounted = !isCounted && !isRefusedUncounted;
        _batch.Accepted.Clear();
        _batch.Accepted.AddRange(_events.Where((_, i) => !refused.ContainsKey(i)));
        _batch.Blocked = [.. _blocked.Concat(refused.Values).OrderBy(attempt => attempt.Index)];
    }

    private BlockedAttempt Attempt(PlannedUse use, string code, EventSender sender, DateTimeOffset now) =>
        new(
            _events[use.Index],
            _indexes[use.Index],
            ReceiptIds.Create(now),
            code,
            sender.ApiKeyId,
            PolicyId: null,
            PolicyVersion: null
        );

    /// <summary>Where the accepted events are in the request: wherever no rejected or blocked one is.</summary>
    private static int[] IndexesOf(ParsedBatch batch)
    {
        HashSet<int> others =
        [
            .. batch.Rejected.Select(rejected => rejected.Index),
            .. batch.Blocked.Select(attempt => attempt.Index),
        ];
        return
        [
            .. Enumerable.Range(0, batch.Received).Where(index => !others.Contains(index)).Take(batch.Accepted.Count),
        ];
    }
}
