using System.Collections.Concurrent;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>What the clients of one enterprise have sent, and what they were told of it.</summary>
internal sealed class SentEvents(Tenant tenant)
{
    private readonly Lock _gate = new();

    public Tenant Tenant { get; } = tenant;

    /// <summary>Every valid event of which at least one attempt was begun.</summary>
    public ConcurrentDictionary<Guid, CrashEvent> Sent { get; } = new();

    /// <summary>Those that a 202 has promised.</summary>
    public ConcurrentDictionary<Guid, bool> Acknowledged { get; } = new();

    /// <summary>Sums of the answers.</summary>
    public (long Received, long Accepted, long Rejected) Told { get; private set; }

    /// <summary>Sums of the attempts, which the server cannot have more of.</summary>
    public (long Received, long Accepted, long Rejected) Attempted { get; private set; }

    public void Begin(CrashBatch batch)
    {
        foreach (CrashEvent valid in batch.Valid)
        {
            Sent[valid.EventId] = valid;
        }

        lock (_gate)
        {
            (long received, long accepted, long rejected) = Attempted;
            Attempted = (
                received + batch.Count,
                accepted + batch.Valid.Count,
                rejected + batch.Count - batch.Valid.Count
            );
        }
    }

    public void Answered(CrashBatch batch, IngestResponse answer)
    {
        foreach (CrashEvent valid in batch.Valid)
        {
            Acknowledged[valid.EventId] = true;
        }

        lock (_gate)
        {
            (long received, long accepted, long rejected) = Told;
            Told = (received + answer.Received, accepted + answer.Accepted, rejected + answer.Rejected.Count);
        }
    }
}
