using System.Runtime.InteropServices;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>
/// Holds a request's events against the enterprise's policies. What is refused is moved from the accepted to the blocked: it is
/// appended with them, so that an attempt is as durable as a use, and as lost when the caller is told that nothing is known.
/// </summary>
internal static class PolicyGate
{
    /// <param name="batch">As parsed; its events are changed in place.</param>
    /// <param name="policies">The enterprise's.</param>
    /// <param name="sender">Who sends, and from where.</param>
    /// <param name="now">The receipts' instant. Policies judge the event's own time.</param>
    public static void Apply(ParsedBatch batch, PolicySet policies, EventSender sender, DateTimeOffset now)
    {
        // Older events need usage:backfill: they are history that is being told, not acts that could still be stopped.
        long oldest = EventTimestamp.FromInstant(now.AddDays(-TimestampWindow.AgeDaysMax));
        var from = ClientAddress.Of(sender.Address);
        Span<ParsedEvent> events = CollectionsMarshal.AsSpan(batch.Accepted);
        List<BlockedAttempt>? blocked = null;
        int kept = 0;
        int rejected = 0;
        for (int i = 0; i < events.Length; i++)
        {
            // An event's place in the request: so many rejected ones came before it.
            while (rejected < batch.Rejected.Count && batch.Rejected[rejected].Index <= i + rejected)
            {
                rejected++;
            }

            ref readonly ParsedEvent parsed = ref events[i];
            PolicyDecision decision =
                parsed.TimestampMicroseconds < oldest
                    ? PolicyDecision.PermittedByDefault
                    : policies.Decide(
                        new PolicyQuestion(
                            parsed.UserId,
                            sender.ApiKeyId,
                            parsed.FeatureName,
                            PolicyActions.Record,
                            parsed.EventType,
                            parsed.TimestampMicroseconds,
                            from
                        )
                    );
            if (decision.IsAllowed)
            {
                events[kept++] = parsed;
                continue;
            }

            (blocked ??= []).Add(
                new BlockedAttempt(
                    parsed,
                    i + rejected,
                    ReceiptIds.Create(now),
                    decision.Code,
                    sender.ApiKeyId,
                    decision.PolicyId,
                    decision.PolicyVersion
                )
            );
        }

        if (blocked is not null)
        {
            batch.Accepted.RemoveRange(kept, batch.Accepted.Count - kept);
            batch.Blocked = blocked;
        }
    }
}
