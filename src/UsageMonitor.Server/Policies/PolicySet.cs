using System.Collections.Concurrent;

namespace UsageMonitor.Server.Policies;

/// <summary>Who has the roles and is in the groups that policies mention.</summary>
/// <param name="Roles">By role: its members, over groups too.</param>
/// <param name="Groups">By group: its members.</param>
internal sealed record PolicyMembers(ILookup<string, PolicyMember> Roles, ILookup<Guid, PolicyMember> Groups)
{
    public static readonly PolicyMembers None = Of([], []);

    public static PolicyMembers Of(
        IEnumerable<(string Role, PolicyMember Member)> roles,
        IEnumerable<(Guid Group, PolicyMember Member)> groups
    ) =>
        new(
            roles.ToLookup(row => row.Role, row => row.Member, StringComparer.Ordinal),
            groups.ToLookup(row => row.Group, row => row.Member)
        );
}

/// <summary>A member of a role or group.</summary>
/// <param name="UserId">The user.</param>
/// <param name="IsActive">False for a person who was deactivated: what roles and groups permit is no longer theirs.</param>
internal readonly record struct PolicyMember(Guid UserId, bool IsActive);

/// <summary>
/// An enterprise's policies made ready to be asked for every event: FORBID overrides PERMIT, PERMIT overrides the default.
/// A question about a feature that was asked before takes no lock and allocates nothing.
/// </summary>
/// <remarks>
/// Rules are found by feature, and each user has a bit for each rule that names them or a role or group of theirs. Of several
/// policies that match, the oldest is named. Immutable but for what it remembers of features.
/// </remarks>
internal sealed class PolicySet
{
    /// <summary>
    /// Features whose rules are remembered. Callers choose the names of features, so beyond this it starts over.
    /// </summary>
    public const int RememberedFeaturesMax = 4_096;

    private readonly TimeZoneInfo _zone;
    private readonly PolicyDecision _default;
    private readonly FeatureRules _ofAnyFeature;
    private readonly Dictionary<string, List<PolicyRule>> _byFeature = new(StringComparer.Ordinal);
    private readonly List<(string Prefix, PolicyRule Rule)> _byPrefix = [];
    private readonly List<PolicyRule> _anyFeature = [];
    private readonly Dictionary<Guid, ulong[]> _rulesOfUsers = [];
    private ConcurrentDictionary<string, FeatureRules> _remembered = new(StringComparer.Ordinal);
    private int _rememberedCount;

    /// <param name="policies">The active ones, the oldest first.</param>
    /// <param name="isForbiddenByDefault">What happens when no policy says anything.</param>
    /// <param name="zone">The enterprise's.</param>
    /// <param name="members">Of the roles and groups that the policies mention.</param>
    /// <param name="isReplay">Networks and API keys are taken as met: they are not recorded with events.</param>
    public PolicySet(
        IReadOnlyList<StoredPolicy> policies,
        bool isForbiddenByDefault,
        TimeZoneInfo zone,
        PolicyMembers members,
        bool isReplay = false
    )
    {
        _zone = zone;
        _default = isForbiddenByDefault ? PolicyDecision.ForbiddenByDefault : PolicyDecision.PermittedByDefault;
        IsOpen = !isForbiddenByDefault && policies.All(policy => policy.Effect == PolicyTerms.Permit);
        PolicyRule[] rules = [.. policies.Select((policy, index) => new PolicyRule(policy, index, isReplay))];
        foreach (PolicyRule rule in rules)
        {
            AddFeatures(rule);
        }

        _ofAnyFeature = new FeatureRules(_anyFeature);
        AddUsers(rules, members);
    }

    /// <summary>Nothing is ever refused: nobody need ask.</summary>
    public bool IsOpen { get; }

    public PolicyDecision Decide(in PolicyQuestion question)
    {
        FeatureRules rules = RulesOf(question.FeatureName);
        if (rules.IsEmpty)
        {
            return _default;
        }

        var facts = new PolicyFacts(question, _zone);
        foreach (PolicyRule rule in rules.Forbidding)
        {
            if (rule.Matches(ref facts, this))
            {
                return rule.Decision;
            }
        }

        foreach (PolicyRule rule in rules.Permitting)
        {
            if (rule.Matches(ref facts, this))
            {
                return rule.Decision;
            }
        }

        return _default;
    }

    /// <summary>A bit for each rule that names the user, or a role or group of theirs; null for none.</summary>
    public ulong[]? RulesOf(Guid userId) => _rulesOfUsers.GetValueOrDefault(userId);

    private FeatureRules RulesOf(string feature)
    {
        if (_byPrefix.Count == 0 && _byFeature.Count == 0)
        {
            return _ofAnyFeature;
        }

        ConcurrentDictionary<string, FeatureRules> remembered = Volatile.Read(ref _remembered);
        if (remembered.TryGetValue(feature, out FeatureRules? rules))
        {
            return rules;
        }

        rules = FindRules(feature);
        if (Interlocked.Increment(ref _rememberedCount) > RememberedFeaturesMax)
        {
            remembered = new ConcurrentDictionary<string, FeatureRules>(StringComparer.Ordinal);
            Volatile.Write(ref _remembered, remembered);
            Volatile.Write(ref _rememberedCount, 1);
        }

        remembered[feature] = rules;
        return rules;
    }

    private FeatureRules FindRules(string feature)
    {
        List<PolicyRule> found =
        [
            .. _anyFeature,
            .. _byFeature.GetValueOrDefault(feature, []),
            .. _byPrefix
                .Where(entry => feature.StartsWith(entry.Prefix, StringComparison.Ordinal))
                .Select(entry => entry.Rule),
        ];
        return found.Count == _anyFeature.Count ? _ofAnyFeature : new FeatureRules(found);
    }

    private void AddFeatures(PolicyRule rule)
    {
        string[] features = rule.Policy.Document.Features;
        if (features.Length == 0)
        {
            _anyFeature.Add(rule);
        }

        foreach (string feature in features)
        {
            if (feature[^1] == '*')
            {
                _byPrefix.Add((feature[..^1], rule));
                continue;
            }

            if (!_byFeature.TryGetValue(feature, out List<PolicyRule>? rules))
            {
                _byFeature[feature] = rules = [];
            }

            rules.Add(rule);
        }
    }

    // By role and group, not by rule: a role of ten thousand users may be in every policy.
    private void AddUsers(PolicyRule[] rules, PolicyMembers members)
    {
        int words = (rules.Length + 63) / 64;
        var named = new Dictionary<(string? Role, Guid Id, bool ActiveOnly), ulong[]>();
        foreach (PolicyRule rule in rules)
        {
            PolicySubjects principals = rule.Policy.Document.Principals;
            foreach (PolicyUser user in principals.Users)
            {
                Add(BitsOf(_rulesOfUsers, user.UserId, words), rule.Index);
            }

            foreach (string role in principals.Roles)
            {
                Add(BitsOf(named, (role, Guid.Empty, !rule.Forbids), words), rule.Index);
            }

            foreach (Guid group in principals.Groups)
            {
                Add(BitsOf(named, (null, group, !rule.Forbids), words), rule.Index);
            }
        }

        foreach (((string? role, Guid group, bool activeOnly), ulong[] bits) in named)
        {
            foreach (PolicyMember member in role is null ? members.Groups[group] : members.Roles[role])
            {
                if (!activeOnly || member.IsActive)
                {
                    ulong[] all = BitsOf(_rulesOfUsers, member.UserId, words);
                    for (int i = 0; i < words; i++)
                    {
                        all[i] |= bits[i];
                    }
                }
            }
        }
    }

    private static ulong[] BitsOf<TKey>(Dictionary<TKey, ulong[]> all, TKey key, int words)
        where TKey : notnull
    {
        if (!all.TryGetValue(key, out ulong[]? bits))
        {
            all[key] = bits = new ulong[words];
        }

        return bits;
    }

    private static void Add(ulong[] bits, int index) => bits[index >> 6] |= 1UL << (index & 63);

    /// <summary>The rules that may say something of a feature, the oldest first.</summary>
    private sealed class FeatureRules
    {
        public FeatureRules(IEnumerable<PolicyRule> rules)
        {
            PolicyRule[] ordered = [.. rules.DistinctBy(rule => rule.Index).OrderBy(rule => rule.Index)];
            Forbidding = [.. ordered.Where(rule => rule.Forbids)];
            Permitting = [.. ordered.Where(rule => !rule.Forbids)];
        }

        public PolicyRule[] Forbidding { get; }

        public PolicyRule[] Permitting { get; }

        public bool IsEmpty => Forbidding.Length + Permitting.Length == 0;
    }
}
