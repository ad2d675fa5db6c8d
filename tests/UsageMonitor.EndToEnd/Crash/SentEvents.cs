using System.Collections.Concurrent;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>What the clients of one enterprise have sent, and what they were told of it.</summary>
internal sealed class SentEvents(Tenant tenant)
{
    private readonly Lock _gate = new();

    /// <summary>Events, as an answer counts them.</summary>
    public readonly record struct Counts(long Received, long Accepted, long Rejected, long Blocked)
    {
        public static Counts operator +(Counts one, Counts other) =>
            new(
                one.Received + other.Received,
                one.Accepted + other.Accepted,
                one.Rejected + other.Rejected,
                one.Blocked + other.Blocked
            );
    }

    public Tenant Tenant { get; } = tenant;

    /// <summary>Every valid event of which at least one attempt was begun.</summary>
    public ConcurrentDictionary<Guid, CrashEvent> Sent { get; } = new();

    /// <summary>Those that a 202 has promised.</summary>
    public ConcurrentDictionary<Guid, bool> Acknowledged { get; } = new();

    /// <summary>Receipts of refused attempts, which an answer has promised to keep.</summary>
    public ConcurrentDictionary<Guid, bool> Receipts { get; } = new();

    /// <summary>Sums of the answers.</summary>
    public Counts Told { get; private set; }

    /// <summary>Sums of the attempts, which the server cannot have more of.</summary>
    public Counts Attempted { get; private set; }

    public void Begin(CrashBatch batch)
    {
        foreach (CrashEvent valid in batch.Valid)
        {
            Sent[valid.EventId] = valid;
        }

        lock (_gate)
        {
            Attempted += new Counts(batch.Count, batch.Valid.Count, batch.Invalid, batch.Blocked);
        }
    }

    public void Answered(CrashBatch batch, IngestResponse answer)
    {
        foreach (CrashEvent valid in batch.Valid)
        {
            Acknowledged[valid.EventId] = true;
        }

        foreach (BlockedEvent blocked in answer.Blocked ?? [])
        {
            Receipts[blocked.ReceiptId] = true;
        }

        lock (_gate)
        {
            Told += new Counts(answer.Received, answer.Accepted, answer.Rejected.Count, answer.Blocked?.Count ?? 0);
        }
    }
}
