using System.Globalization;
using System.Net;

namespace UsageMonitor.Server.Policies;

/// <summary>What a question is about, found out once and only when a rule asks for it.</summary>
internal ref struct PolicyFacts(in PolicyQuestion question, TimeZoneInfo zone)
{
    public readonly PolicyQuestion Question = question;
    private readonly TimeZoneInfo _zone = zone;
    private bool _isLocalKnown;
    private DayOfWeek _weekday;
    private int _secondOfDay;

    /// <summary>Whether the rules that name the user were looked up; see <see cref="PolicySet"/>.</summary>
    public bool AreRulesOfUserKnown { get; set; }

    /// <summary>A bit for each rule that names the user, or a role or group of theirs; null for none.</summary>
    public ulong[]? RulesOfUser { get; set; }

    /// <summary>The enterprise's wall clock at the moment, whatever its offset is just then.</summary>
    public (DayOfWeek Weekday, int SecondOfDay) Local()
    {
        if (!_isLocalKnown)
        {
            DateTime utc = DateTime.UnixEpoch.AddTicks(Question.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond);
            DateTime local = utc + _zone.GetUtcOffset(utc);
            (_weekday, _secondOfDay) = (local.DayOfWeek, (int)local.TimeOfDay.TotalSeconds);
            _isLocalKnown = true;
        }

        return (_weekday, _secondOfDay);
    }
}

/// <summary>A policy made ready to be asked often; immutable.</summary>
internal sealed class PolicyRule
{
    private readonly bool _isForEverybody;
    private readonly Guid[] _apiKeys;
    private readonly PolicyActions _actions;
    private readonly HashSet<string>? _eventTypes;
    private readonly ClientAddress.Network[] _networks;
    private readonly TimeWindow? _time;

    /// <param name="policy">The policy.</param>
    /// <param name="index">Its bit in <see cref="PolicyFacts.RulesOfUser"/>.</param>
    /// <param name="isReplay">Networks and API keys are taken as met: they are not recorded with events.</param>
    public PolicyRule(StoredPolicy policy, int index, bool isReplay)
    {
        PolicyDocument document = policy.Document;
        Policy = policy;
        Index = index;
        Decision =
            policy.Effect == PolicyTerms.Forbid
                ? new PolicyDecision(false, Contracts.DecisionCodes.PolicyForbidden, policy.PolicyId, policy.Version)
                : new PolicyDecision(true, Contracts.DecisionCodes.PolicyPermitted, policy.PolicyId, policy.Version);
        _apiKeys = document.Principals.ApiKeys;
        _isForEverybody = document.Principals.AreEverybody || (isReplay && _apiKeys.Length > 0);
        _actions = document.Actions.Length == 0 ? PolicyActions.Both : PolicyActions.None;
        foreach (string action in document.Actions)
        {
            _actions |= action == PolicyTerms.Record ? PolicyActions.Record : PolicyActions.Check;
        }

        PolicyLimits conditions = document.Conditions;
        _eventTypes = conditions.EventTypes.Length == 0 ? null : [.. conditions.EventTypes];
        _networks = isReplay
            ? []
            : [.. conditions.Networks.Select(network => new ClientAddress.Network(IPNetwork.Parse(network)))];
        _time = TimeWindow.Of(conditions);
    }

    public StoredPolicy Policy { get; }

    public int Index { get; }

    /// <summary>What is answered when it matches.</summary>
    public PolicyDecision Decision { get; }

    public bool Forbids => !Decision.IsAllowed;

    /// <summary>Everything but the feature, the cheapest first.</summary>
    public bool Matches(ref PolicyFacts facts, PolicySet set) =>
        (_actions & facts.Question.Action) != 0
        && (_eventTypes is null || _eventTypes.Contains(facts.Question.EventType))
        && (_networks.Length == 0 || IsFromNetwork(facts.Question.Address))
        && (_isForEverybody || IsAbout(ref facts, set))
        && (_time is null || _time.Holds(ref facts));

    private bool IsAbout(ref PolicyFacts facts, PolicySet set)
    {
        if (facts.Question.ApiKeyId is { } apiKey && Array.IndexOf(_apiKeys, apiKey) >= 0)
        {
            return true;
        }

        if (!facts.AreRulesOfUserKnown)
        {
            facts.RulesOfUser = set.RulesOf(facts.Question.UserId);
            facts.AreRulesOfUserKnown = true;
        }

        return facts.RulesOfUser is { } rules && (rules[Index >> 6] & (1UL << (Index & 63))) != 0;
    }

    private bool IsFromNetwork(in ClientAddress address)
    {
        foreach (ref readonly ClientAddress.Network network in _networks.AsSpan())
        {
            if (network.Contains(address))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// A time of day on some weekdays by the wall clock, so that it follows the zone's changes: an hour that comes twice is
    /// in it twice, one that is skipped not at all. Over midnight, the weekday is that of the beginning.
    /// </summary>
    private sealed class TimeWindow
    {
        private const int SecondsOfDay = 24 * 60 * 60;
        private readonly int _weekdays; // a bit for each DayOfWeek
        private readonly int _from;
        private readonly int _to;

        private TimeWindow(int weekdays, int from, int to) => (_weekdays, _from, _to) = (weekdays, from, to);

        public static TimeWindow? Of(PolicyLimits conditions)
        {
            if (conditions.Weekdays.Length == 0 && conditions.From is null && conditions.To is null)
            {
                return null;
            }

            int weekdays = conditions.Weekdays.Aggregate(
                0,
                (bits, name) => bits | (1 << Array.IndexOf(PolicyTerms.Weekdays, name))
            );
            return new TimeWindow(
                weekdays == 0 ? 0x7F : weekdays,
                SecondOf(conditions.From ?? "00:00"),
                SecondOf(conditions.To ?? "24:00")
            );
        }

        public bool Holds(ref PolicyFacts facts)
        {
            (DayOfWeek weekday, int second) = facts.Local();
            bool today = (_weekdays & (1 << (int)weekday)) != 0;
            if (_from < _to)
            {
                return today && second >= _from && second < _to;
            }

            bool yesterday = (_weekdays & (1 << (((int)weekday + 6) % 7))) != 0;
            return (today && second >= _from) || (yesterday && second < _to);
        }

        private static int SecondOf(string time) =>
            time == "24:00"
                ? SecondsOfDay
                : (int)TimeOnly.ParseExact(time, "HH:mm", CultureInfo.InvariantCulture).ToTimeSpan().TotalSeconds;
    }
}
