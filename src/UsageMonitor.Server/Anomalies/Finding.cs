namespace UsageMonitor.Server.Anomalies;

/// <summary>An anomaly as the pass that finds it, or goes on finding it, has it in hand: a row of <c>anomalies</c>.</summary>
internal sealed class Finding
{
    public required Guid AnomalyId { get; init; }

    public required string Kind { get; init; }

    public required string Series { get; init; }

    /// <summary>Empty: all features together.</summary>
    public required string FeatureName { get; init; }

    /// <summary><see cref="Guid.Empty"/>: nobody in particular.</summary>
    public Guid UserId { get; init; }

    public required DateTime StartsAt { get; init; }

    public required DateTime OpenedAt { get; init; }

    public DateTime EndsAt { get; set; }

    public double Observed { get; set; }

    public double Expected { get; set; }

    public double Low { get; set; }

    public double High { get; set; }

    public double Score { get; set; }

    public string Status { get; set; } = AnomalyTerms.Open;

    public string Detail { get; set; } = "";

    public DateTime? ResolvedAt { get; set; }

    /// <summary>A person has said that it was expected: it goes on without being told again.</summary>
    public bool IsMuted { get; init; }

    /// <summary>Not stored yet.</summary>
    public bool IsNew { get; init; }

    public bool IsChanged { get; set; }

    public bool IsOpen => Status == AnomalyTerms.Open || IsMuted;
}
