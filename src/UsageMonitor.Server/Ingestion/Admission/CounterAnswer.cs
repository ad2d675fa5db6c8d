using System.Globalization;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>What the counters of an enterprise in Redis are worth.</summary>
/// <param name="Fence">The log's fence that they were begun under; they are good for as long as it stands.</param>
/// <param name="BuiltAt">When they were begun. A counter that is missing of a window that began later is zero.</param>
internal readonly record struct CounterState(long Fence, DateTimeOffset BuiltAt)
{
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Fence}:{BuiltAt.ToUnixTimeMilliseconds()}");

    public static CounterState? Parse(string? text) =>
        text?.Split(':') is [var fence, var builtAt]
            ? new CounterState(
                long.Parse(fence, CultureInfo.InvariantCulture),
                DateTimeOffset.FromUnixTimeMilliseconds(long.Parse(builtAt, CultureInfo.InvariantCulture))
            )
            : null;
}

/// <summary>What the script says of a request.</summary>
internal enum CounterAnswerKind
{
    /// <summary>Redis did not answer.</summary>
    Away,

    /// <summary>Redis has no counters of the enterprise, or of another fence.</summary>
    OtherState,

    /// <summary>Some counters must be loaded first; nothing was counted.</summary>
    Missing,

    /// <summary>All uses were admitted or refused.</summary>
    Done,
}

/// <param name="Kind">What follows.</param>
/// <param name="State">Of <see cref="CounterAnswerKind.OtherState"/>: what Redis has, or null for nothing.</param>
/// <param name="Places">Of <see cref="CounterAnswerKind.Missing"/>: the counters' places.</param>
/// <param name="Verdicts">Of <see cref="CounterAnswerKind.Done"/>: one a use.</param>
/// <param name="IsDoubtful">Something admitted long ago was never confirmed: the counters may be too high.</param>
internal sealed record CounterAnswer(
    CounterAnswerKind Kind,
    CounterState? State = null,
    int[]? Places = null,
    UseVerdict[]? Verdicts = null,
    bool IsDoubtful = false
)
{
    public static readonly CounterAnswer Away = new(CounterAnswerKind.Away);
}

/// <summary>What came of giving back.</summary>
internal enum ReleaseKind
{
    /// <summary>Redis did not answer.</summary>
    Away,

    /// <summary>Redis has no counters of the enterprise, or of another fence.</summary>
    OtherState,

    /// <summary>Given back, now or before.</summary>
    Done,
}

/// <summary>What became of a use.</summary>
/// <param name="RefusedBy">Which of its limits refused it, from 0; negative: admitted.</param>
/// <param name="Used">Of that limit, before the use.</param>
internal readonly record struct UseVerdict(int RefusedBy, long Used)
{
    public static readonly UseVerdict Admitted = new(-1, 0);

    public bool IsAdmitted => RefusedBy < 0;
}
