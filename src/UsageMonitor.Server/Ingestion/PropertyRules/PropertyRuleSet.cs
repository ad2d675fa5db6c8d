using System.Runtime.InteropServices;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>An enterprise's property rules, compiled once a change. Immutable.</summary>
internal sealed class PropertyRuleSet
{
    /// <summary>Keeps everything as it was sent.</summary>
    public static readonly PropertyRuleSet Open = new([], StoredPropertyDefaults.Open, []);

    private readonly byte[] _maskKey;

    /// <param name="rules">No two of them about the same name and feature.</param>
    /// <param name="defaults">For what no rule is about.</param>
    /// <param name="dataKey">The enterprise's; masks derive from it.</param>
    public PropertyRuleSet(
        IReadOnlyCollection<StoredPropertyRule> rules,
        StoredPropertyDefaults defaults,
        byte[] dataKey
    )
    {
        Names = new PropertyNames(rules);
        Defaults = defaults;
        IsOpen = defaults.IsOpen && rules.All(rule => rule.Action == PropertyAction.Allow);
        _maskKey = IsOpen ? [] : PropertyMask.KeyOf(dataKey);
    }

    /// <summary>Nothing would be changed: nobody need look.</summary>
    public bool IsOpen { get; }

    public PropertyNames Names { get; }

    public StoredPropertyDefaults Defaults { get; }

    /// <summary>Rewrites the properties of a request's events, before anybody copies them. Once is enough.</summary>
    public void Apply(ParsedBatch batch)
    {
        if (!IsOpen)
        {
            using var mask = new PropertyMask(_maskKey);
            var rewriter = new PropertyRewriter(this, mask);
            foreach (ref ParsedEvent parsed in CollectionsMarshal.AsSpan(batch.Accepted))
            {
                if (!parsed.Properties.IsEmpty)
                {
                    parsed = parsed with { Properties = rewriter.Rewrite(parsed.Properties, parsed.FeatureName) };
                }
            }
        }

        batch.IsRuled = true;
    }

    /// <summary>What would be kept of properties, with what happened to which.</summary>
    public ReadOnlyMemory<byte> Preview(
        ReadOnlyMemory<byte> properties,
        string featureName,
        List<PropertyChange> changes
    )
    {
        if (IsOpen || properties.IsEmpty)
        {
            return properties;
        }

        using var mask = new PropertyMask(_maskKey);
        return new PropertyRewriter(this, mask, changes).Rewrite(properties, featureName);
    }
}
