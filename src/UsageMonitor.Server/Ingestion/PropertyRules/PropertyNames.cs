namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>What a rule says of a name.</summary>
/// <param name="Action">What happens.</param>
/// <param name="IsExact">The rule has the name itself, not its beginning.</param>
internal readonly record struct NameVerdict(PropertyAction Action, bool IsExact);

/// <summary>
/// The rules' names as a tree of characters, so that a name is looked up in one walk over it, however many rules there are. An exact
/// rule goes before a prefix, a longer prefix before a shorter one, and of the same name the one for the feature before that for all.
/// </summary>
/// <remarks>Upper and lower case are the same: a rule on <c>email</c> must not be passed by with <c>Email</c>.</remarks>
internal sealed class PropertyNames
{
    private readonly Node _root = new();

    public PropertyNames(IEnumerable<StoredPropertyRule> rules)
    {
        foreach (StoredPropertyRule rule in rules)
        {
            bool isPrefix = rule.Property.EndsWith('*');
            Node node = _root;
            foreach (char c in isPrefix ? rule.Property.AsSpan(0, rule.Property.Length - 1) : rule.Property)
            {
                char upper = char.ToUpperInvariant(c);
                node = node.Next.TryGetValue(upper, out Node? next) ? next : node.Next[upper] = new Node();
            }

            Actions actions = isPrefix ? node.Prefix ??= new Actions() : node.Exact ??= new Actions();
            actions.Add(rule);
        }
    }

    /// <summary>What the rules say of a name, or null: nothing.</summary>
    public NameVerdict? Find(ReadOnlySpan<char> name, string featureName)
    {
        NameVerdict? found = null;
        Node node = _root;
        for (int i = 0; ; i++)
        {
            if (node.Prefix?.Of(featureName) is { } prefix)
            {
                found = new NameVerdict(prefix, IsExact: false);
            }

            if (i == name.Length)
            {
                return node.Exact?.Of(featureName) is { } exact ? new NameVerdict(exact, IsExact: true) : found;
            }

            if (!node.Next.TryGetValue(char.ToUpperInvariant(name[i]), out Node? next))
            {
                return found;
            }

            node = next;
        }
    }

    private sealed class Node
    {
        public Dictionary<char, Node> Next { get; } = [];

        public Actions? Exact { get; set; }

        public Actions? Prefix { get; set; }
    }

    private sealed class Actions
    {
        private readonly Dictionary<string, PropertyAction> _byFeature = new(StringComparer.Ordinal);
        private PropertyAction? _ofAll;

        public void Add(StoredPropertyRule rule)
        {
            if (rule.FeatureName is { } feature)
            {
                _byFeature[feature] = Strictest(rule, _byFeature.GetValueOrDefault(feature));
            }
            else
            {
                _ofAll = Strictest(rule, _ofAll ?? PropertyAction.Allow);
            }
        }

        // Names that are one to us and two to the database's index: then the stricter rule holds.
        private static PropertyAction Strictest(StoredPropertyRule rule, PropertyAction known) =>
            rule.Action > known ? rule.Action : known;

        public PropertyAction? Of(string featureName) =>
            _byFeature.TryGetValue(featureName, out PropertyAction action) ? action : _ofAll;
    }
}
