using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>The counters of all subjects of a meter in a window.</summary>
internal readonly record struct CounterGroup(LimitMeter Meter, WindowSpan Window);

/// <summary>A count that a limit is held against: of a meter, for a subject, in a window.</summary>
/// <param name="Group">Its group's place in <see cref="AdmissionPlan.Groups"/>.</param>
/// <param name="Meter">What is counted.</param>
/// <param name="SubjectId">The user, or the nil UUID.</param>
/// <param name="Window">When.</param>
internal readonly record struct Counter(int Group, LimitMeter Meter, Guid SubjectId, WindowSpan Window);

/// <summary>One use that must find room.</summary>
/// <param name="Index">Its place in what was asked.</param>
/// <param name="UseId">The event's id, or the reservation's: a use that was admitted is not counted again.</param>
/// <param name="TimestampMicroseconds">The use's own time.</param>
/// <param name="First">The first of its limits in <see cref="AdmissionPlan.Limits"/>.</param>
/// <param name="Count">How many limits it has.</param>
internal readonly record struct PlannedUse(int Index, Guid UseId, long TimestampMicroseconds, int First, int Count);

/// <summary>A limit of a use, with the counter that it looks at.</summary>
internal readonly record struct PlannedLimit(int Counter, StoredLimit Limit);

/// <summary>Which counters some uses must find room on. Uses that no BLOCK limit is about are not in it.</summary>
internal sealed class AdmissionPlan(EnterpriseInfo enterprise, LimitSet limits)
{
    private readonly Dictionary<(int Group, Guid Subject), int> _places = [];
    private readonly Dictionary<(Guid Meter, DateTime Window), int> _groups = [];
    private readonly WindowSpan[] _lastWindows = new WindowSpan[3];
    private LocalTime? _local;

    public EnterpriseInfo Enterprise { get; } = enterprise;

    /// <summary>The limits it was made from.</summary>
    public LimitSet Set { get; } = limits;

    public List<PlannedUse> Uses { get; } = [];

    public List<PlannedLimit> Limits { get; } = [];

    public List<Counter> Counters { get; } = [];

    public List<CounterGroup> Groups { get; } = [];

    /// <summary>Plans a use; one without BLOCK limits costs a look into a dictionary.</summary>
    public void Add(int index, Guid useId, Guid userId, string feature, long timestampMicroseconds)
    {
        int first = Limits.Count;
        DateTime at = default;
        foreach (MeterLimits meter in Set.MetersOf(feature))
        {
            if (!meter.HasBlocking || !Set.Counts(meter.Meter, userId))
            {
                continue;
            }

            at = at == default ? DateTime.UnixEpoch.AddTicks(timestampMicroseconds * TimeSpan.TicksPerMicrosecond) : at;
            if (meter.Find(LimitAction.Block, userId, at) is { } limit)
            {
                Limits.Add(new PlannedLimit(CounterOf(meter.Meter, meter.Meter.SubjectOf(userId), at), limit));
            }
        }

        if (Limits.Count > first)
        {
            Uses.Add(new PlannedUse(index, useId, timestampMicroseconds, first, Limits.Count - first));
        }
    }

    /// <summary>The limit that refused a use.</summary>
    public LimitRefusal RefusalOf(PlannedUse use, UseVerdict verdict)
    {
        PlannedLimit refusing = Limits[use.First + verdict.RefusedBy];
        return new LimitRefusal(
            refusing.Limit.LimitId,
            refusing.Limit.Version,
            refusing.Limit.LimitValue,
            verdict.Used,
            Counters[refusing.Counter].Window
        );
    }

    private int CounterOf(LimitMeter meter, Guid subjectId, DateTime at)
    {
        ref WindowSpan window = ref _lastWindows[(int)meter.Window];
        if (!window.Contains(at))
        {
            window = WindowSpan.Of(meter.Window, _local ??= new LocalTime(Enterprise.TimeZone), at);
        }

        if (!_groups.TryGetValue((meter.MeterId, window.Start), out int group))
        {
            _groups[(meter.MeterId, window.Start)] = group = Groups.Count;
            Groups.Add(new CounterGroup(meter, window));
        }

        if (!_places.TryGetValue((group, subjectId), out int place))
        {
            _places[(group, subjectId)] = place = Counters.Count;
            Counters.Add(new Counter(group, meter, subjectId, window));
        }

        return place;
    }
}
