using Npgsql;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>What may happen to a property before its event is durable.</summary>
internal enum PropertyAction
{
    /// <summary>It is kept as it was sent.</summary>
    Allow,

    /// <summary>Its value is replaced by a mask: see <see cref="PropertyMask"/>.</summary>
    Mask,

    /// <summary>It is left out, name and value.</summary>
    Drop,
}

/// <summary>The words and limits of property rules.</summary>
internal static class PropertyRuleTerms
{
    /// <summary>Rules of one enterprise.</summary>
    public const int RulesMax = 200;

    /// <summary>UTF-16 code units of a rule's property.</summary>
    public const int PropertyCharactersMax = 100;

    public const string Allow = "ALLOW";
    public const string Mask = "MASK";
    public const string Drop = "DROP";

    public static string Text(PropertyAction action) =>
        action switch
        {
            PropertyAction.Allow => Allow,
            PropertyAction.Mask => Mask,
            _ => Drop,
        };

    /// <summary>Null: no such action.</summary>
    public static PropertyAction? Read(string? text) =>
        text switch
        {
            Allow => PropertyAction.Allow,
            Mask => PropertyAction.Mask,
            Drop => PropertyAction.Drop,
            _ => null,
        };
}

/// <summary>A rule as it is kept.</summary>
/// <param name="RuleId">UUIDv7.</param>
/// <param name="Version">From 1, raised by every change.</param>
/// <param name="Property">A name, or the beginning of names with a star at its end.</param>
/// <param name="FeatureName">The only feature it is about, or null: all.</param>
/// <param name="Action">What happens.</param>
/// <param name="CreatedBy">Who made it.</param>
/// <param name="CreatedAt">When.</param>
/// <param name="UpdatedAt">When it changed last.</param>
internal sealed record StoredPropertyRule(
    Guid RuleId,
    int Version,
    string Property,
    string? FeatureName,
    PropertyAction Action,
    Guid CreatedBy,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
)
{
    public const string Columns =
        "rule_id, version, property, nullif(feature_name, ''), action, created_by, created_at, updated_at";

    public static StoredPropertyRule Read(NpgsqlDataReader reader) =>
        new(
            reader.GetGuid(0),
            reader.GetInt32(1),
            reader.GetString(2),
            reader.IsDBNull(3) ? null : reader.GetString(3),
            PropertyRuleTerms.Read(reader.GetString(4))!.Value,
            reader.GetGuid(5),
            reader.GetFieldValue<DateTimeOffset>(6),
            reader.GetFieldValue<DateTimeOffset>(7)
        );
}

/// <summary>What happens to properties that no rule is about, and to values that look like something.</summary>
/// <param name="Version">0 as long as nobody has set anything.</param>
/// <param name="Default">Of properties that no rule is about.</param>
/// <param name="Emails">Of values with an e-mail address in them; <see cref="PropertyAction.Allow"/>: nobody looks.</param>
/// <param name="Cards">… with a payment card's number.</param>
/// <param name="Tokens">… with a secret token.</param>
internal sealed record StoredPropertyDefaults(
    int Version,
    PropertyAction Default,
    PropertyAction Emails,
    PropertyAction Cards,
    PropertyAction Tokens
)
{
    public static readonly StoredPropertyDefaults Open = new(
        0,
        PropertyAction.Allow,
        PropertyAction.Allow,
        PropertyAction.Allow,
        PropertyAction.Allow
    );

    public bool IsOpen => this with { Version = 0 } == Open;
}
