namespace UsageMonitor.Server.Limits;

/// <summary>The limit that refused an attempt, as it was.</summary>
/// <param name="LimitId">The limit.</param>
/// <param name="LimitVersion">Its version that was applied.</param>
/// <param name="LimitValue">How much is within it.</param>
/// <param name="Used">How much of it was used, the attempt not included.</param>
/// <param name="Window">The window that the attempt fell into.</param>
internal sealed record LimitRefusal(Guid LimitId, int LimitVersion, long LimitValue, long Used, WindowSpan Window);
