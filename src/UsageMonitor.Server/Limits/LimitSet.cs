using System.Collections.Concurrent;
using System.Collections.Frozen;

namespace UsageMonitor.Server.Limits;

/// <summary>An enterprise's active limits made ready to be asked for every event. Immutable but for what it remembers of features.</summary>
/// <remarks>
/// Every meter's limit must hold. Of several limits with one action on one meter, one applies to a user: one that names
/// the user before one for each, then a temporary one (with an end) before a lasting one, then the lowest. So a higher
/// limit until Friday is a raise that ends by itself, and an exception for one user is one limit.
/// </remarks>
internal sealed class LimitSet
{
    /// <summary>Features whose meters are remembered. Callers choose the names of features, so beyond this it starts over.</summary>
    public const int RememberedFeaturesMax = 4_096;

    public static readonly LimitSet Empty = new([], FrozenDictionary<string, FrozenSet<Guid>>.Empty);

    private readonly MeterLimits[] _meters;
    private readonly FrozenDictionary<string, FrozenSet<Guid>> _members;
    private ConcurrentDictionary<string, MeterLimits[]> _remembered = new(StringComparer.Ordinal);
    private int _rememberedCount;

    /// <param name="limits">Those with status ACTIVE, whether in force yet or not.</param>
    /// <param name="members">Who holds the roles that limits name.</param>
    public LimitSet(IReadOnlyList<StoredLimit> limits, FrozenDictionary<string, FrozenSet<Guid>> members)
    {
        Limits = limits;
        _members = members;
        _meters =
        [
            .. limits
                .GroupBy(limit => limit.Meter.MeterId)
                .Select(meter => new MeterLimits(meter.First().Meter, [.. meter])),
        ];
        Meters = [.. _meters.Select(meter => meter.Meter)];
        HasBlocking = limits.Any(limit => limit.Action == LimitAction.Block);
        BlockingChangedAt = limits
            .Where(limit => limit.Action == LimitAction.Block)
            .Select(limit => limit.UpdatedAt)
            .DefaultIfEmpty(DateTime.MinValue)
            .Max();
    }

    /// <summary>The active limits, the oldest first.</summary>
    public IReadOnlyList<StoredLimit> Limits { get; }

    public IReadOnlyList<LimitMeter> Meters { get; }

    /// <summary>Whether any of them refuses anything: if not, admission need not ask.</summary>
    public bool HasBlocking { get; }

    /// <summary>When a limit with BLOCK was last made or changed.</summary>
    public DateTime BlockingChangedAt { get; }

    /// <summary>The meters that a feature's usage is on, with their limits.</summary>
    public MeterLimits[] MetersOf(string feature)
    {
        ConcurrentDictionary<string, MeterLimits[]> remembered = Volatile.Read(ref _remembered);
        if (remembered.TryGetValue(feature, out MeterLimits[]? meters))
        {
            return meters;
        }

        meters = [.. _meters.Where(meter => LimitTerms.Covers(meter.Meter.FeatureName, feature))];
        if (Interlocked.Increment(ref _rememberedCount) > RememberedFeaturesMax)
        {
            remembered = new ConcurrentDictionary<string, MeterLimits[]>(StringComparer.Ordinal);
            Volatile.Write(ref _remembered, remembered);
            Volatile.Write(ref _rememberedCount, 1);
        }

        remembered[feature] = meters;
        return meters;
    }

    /// <summary>Whether a user's usage counts on a meter: everybody's does but on a role's.</summary>
    public bool Counts(LimitMeter meter, Guid userId) =>
        meter.Scope != LimitScope.Role || HoldersOf(meter).Contains(userId);

    /// <summary>Who holds the role of a meter; nobody when it is not a role's.</summary>
    public FrozenSet<Guid> HoldersOf(LimitMeter meter) =>
        meter.RoleName is { } role && _members.TryGetValue(role, out FrozenSet<Guid>? holders) ? holders : [];
}

/// <summary>A meter with the limits that are on it.</summary>
internal sealed class MeterLimits
{
    private readonly StoredLimit[] _blocking;
    private readonly StoredLimit[] _alerting;

    public MeterLimits(LimitMeter meter, IReadOnlyList<StoredLimit> limits)
    {
        Meter = meter;
        _blocking = Ordered(limits, LimitAction.Block);
        _alerting = Ordered(limits, LimitAction.Alert);
    }

    public LimitMeter Meter { get; }

    public bool HasBlocking => _blocking.Length > 0;

    /// <summary>The limit with an action that applies to a user's usage at an instant; null when there is none.</summary>
    public StoredLimit? Find(LimitAction action, Guid userId, DateTime utc)
    {
        foreach (StoredLimit limit in action == LimitAction.Block ? _blocking : _alerting)
        {
            if ((limit.SubjectUserId is not { } one || one == userId) && limit.IsInForce(utc))
            {
                return limit;
            }
        }

        return null;
    }

    private static StoredLimit[] Ordered(IReadOnlyList<StoredLimit> limits, LimitAction action) =>
        [
            .. limits
                .Where(limit => limit.Action == action)
                .OrderByDescending(limit => limit.SubjectUserId is not null)
                .ThenByDescending(limit => limit.ExpiresAt is not null)
                .ThenBy(limit => limit.LimitValue)
                .ThenBy(limit => limit.LimitId),
        ];
}
