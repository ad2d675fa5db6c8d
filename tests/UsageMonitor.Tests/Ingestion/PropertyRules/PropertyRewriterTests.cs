using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Tests.Limits;
using Xunit;

namespace UsageMonitor.Tests.Ingestion.PropertyRules;

/// <summary>What is rewritten, held against rules applied the slow way.</summary>
public sealed class PropertyRewriterTests
{
    private static readonly byte[] s_key = [.. Enumerable.Range(1, 32).Select(number => (byte)number)];

    private static readonly string[] s_names =
    [
        "email",
        "Email",
        "user_name",
        "user_id",
        "user",
        "pages",
        "nested",
        "é\u0001\"",
        "",
    ];

    private static readonly Gen<StoredPropertyRule> s_rule = Gen.Select(
        LimitMaking.OneOf("email", "EMAIL", "user*", "user_*", "pages", "nested", "é\u0001\"", "n*"),
        LimitMaking.OneOf<string?>(null, "export", "search"),
        LimitMaking.OneOf(PropertyAction.Allow, PropertyAction.Mask, PropertyAction.Drop),
        Rule
    );

    private static readonly Gen<JsonNode?> s_value = Gen.Recursive<JsonNode?>(
        (depth, inner) =>
        {
            Gen<JsonNode?> scalar = Gen.OneOf(
                Gen.Int[0, 1_000].Select(number => (JsonNode?)JsonValue.Create(number)),
                Gen.String[Gen.Char[' ', '\u00ff'], 0, 12].Select(text => (JsonNode?)JsonValue.Create(text)),
                Gen.Bool.Select(truth => (JsonNode?)JsonValue.Create(truth)),
                Gen.Const((JsonNode?)null)
            );
            return depth > 3
                ? scalar
                : Gen.OneOf(
                    scalar,
                    inner.Array[0, 4].Select(items => (JsonNode?)new JsonArray([.. items.Select(Copy)])),
                    Gen.Select(LimitMaking.OneOf(s_names), inner).Array[0, 5].Select(pairs => (JsonNode?)Object(pairs))
                );
        }
    );

    private static readonly Gen<JsonObject> s_properties = Gen.Select(LimitMaking.OneOf(s_names), s_value)
        .Array[0, 6]
        .Select(Object);

    [Fact]
    public void Rewrite_WhenGivenAnything_ShouldKeepDropAndMaskAsTheRulesSay() =>
        Gen.Select(
                s_rule.Array[0, 6],
                LimitMaking.OneOf(PropertyAction.Allow, PropertyAction.Mask, PropertyAction.Drop),
                s_properties,
                LimitMaking.OneOf("export", "search", "open"),
                Gen.Bool
            )
            .Sample(
                (rules, otherwise, properties, feature, indented) =>
                {
                    byte[] sent = Encoding.UTF8.GetBytes(
                        properties.ToJsonString(new JsonSerializerOptions { WriteIndented = indented })
                    );
                    PropertyRuleSet set = Set(rules, otherwise);

                    string kept = Kept(set, sent, feature);

                    JsonObject? expected = Naive(properties, rules, otherwise, feature);
                    Assert.Equal(
                        expected is { Count: > 0 } || properties.Count == 0 ? (expected ?? []).ToJsonString() : "{}",
                        JsonNode.Parse(Shown(kept))!.ToJsonString()
                    );
                },
                iter: 20_000
            );

    [Fact]
    public void Rewrite_WhenNothingIsToBeChanged_ShouldGiveTheSameBytes() =>
        s_properties.Sample(
            properties =>
            {
                byte[] sent = Encoding.UTF8.GetBytes(properties.ToJsonString());
                Assert.Equal(
                    sent,
                    Rewritten(Set([Rule("absent", null, PropertyAction.Drop)], PropertyAction.Allow), sent, "export")
                );
            },
            iter: 2_000
        );

    [Theory]
    [InlineData("""{"a":"ana@example.com","b":1}""", """{"b":1}""")]
    [InlineData("""{"a":"mail to Ana <ana@example.com> please","b":1}""", """{"b":1}""")]
    [InlineData("""{"a":"ana\u0040example.com","b":1}""", """{"b":1}""")]
    [InlineData(
        """{"a":["x","ana@example.com"],"b":{"c":"https://e.org/?m=ana%40example.com"}}""",
        """{"a":["x"],"b":{}}"""
    )]
    [InlineData(
        """{"ana@example.com":1,"b":"@home","c":"a@b","d":"user@localhost"}""",
        """{"b":"@home","c":"a@b","d":"user@localhost"}"""
    )]
    [InlineData(
        """{"a":"4111 1111 1111 1111","b":4111111111111111,"c":"4111-1111-1111-1112","d":1774000000123}""",
        """{"c":"4111-1111-1111-1112","d":1774000000123}"""
    )]
    [InlineData(
        """{"a":"ghp_0123456789abcdefABCDEF0123456789abcd","b":"ghp_short","c":"-----BEGIN PRIVATE KEY-----"}""",
        """{"b":"ghp_short"}"""
    )]
    [InlineData("""{"a":"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl"}""", "")]
    public void Rewrite_WhenValuesLookLikeSecrets_ShouldDropThem(string sent, string expected)
    {
        var set = new PropertyRuleSet(
            [],
            new StoredPropertyDefaults(
                1,
                PropertyAction.Allow,
                PropertyAction.Drop,
                PropertyAction.Drop,
                PropertyAction.Drop
            ),
            s_key
        );

        Assert.Equal(expected, Kept(set, Encoding.UTF8.GetBytes(sent), "export"));
    }

    [Fact]
    public void Rewrite_WhenAnExactRuleAllows_ShouldNotLookAtTheValue()
    {
        var set = new PropertyRuleSet(
            [Rule("owner", null, PropertyAction.Allow)],
            new StoredPropertyDefaults(
                1,
                PropertyAction.Drop,
                PropertyAction.Drop,
                PropertyAction.Allow,
                PropertyAction.Allow
            ),
            s_key
        );

        Assert.Equal(
            """{"owner":"ana@example.com"}""",
            Kept(set, """{"owner":"ana@example.com","other":1}"""u8.ToArray(), "export")
        );
    }

    [Fact]
    public void Mask_WhenValuesAreEqual_ShouldBeEqualWithinTheEnterpriseAndNowhereElse()
    {
        PropertyRuleSet own = Set([Rule("email", null, PropertyAction.Mask)], PropertyAction.Allow);
        var others = new PropertyRuleSet(
            [Rule("email", null, PropertyAction.Mask)],
            StoredPropertyDefaults.Open,
            [.. s_key.Reverse()]
        );
        string one = Kept(own, """{"email":"ana@example.com"}"""u8.ToArray(), "export");

        Assert.Matches("""^\{"email":"masked:[0-9a-f]{16}"\}$""", one);
        Assert.Equal(one, Kept(own, """{ "email" : "ana\u0040example.com" }"""u8.ToArray(), "search"));
        Assert.NotEqual(one, Kept(own, """{"email":"bob@example.com"}"""u8.ToArray(), "export"));
        Assert.NotEqual(one, Kept(own, """{"email":["ana@example.com"]}"""u8.ToArray(), "export"));
        Assert.NotEqual(one, Kept(others, """{"email":"ana@example.com"}"""u8.ToArray(), "export"));
    }

    [Fact]
    public void Rewrite_WhenMasksAreLongerThanTheEventMayBe_ShouldDropInstead()
    {
        int members = (EventReader.EventBytesMax - 10) / 4;
        string sent =
            "{"
            + string.Join(",", Enumerable.Repeat("\"\":0", members)).Replace("\"\"", "\"a\"", StringComparison.Ordinal);
        sent = sent[..(sent.LastIndexOf(',', EventReader.EventBytesMax - 2))] + "}";
        PropertyRuleSet set = Set([Rule("a", null, PropertyAction.Mask)], PropertyAction.Allow);

        byte[] kept = Rewritten(set, Encoding.UTF8.GetBytes(sent), "export");

        Assert.InRange(kept.Length, 0, EventReader.EventBytesMax);
        Assert.DoesNotContain("\"a\":0", Encoding.UTF8.GetString(kept), StringComparison.Ordinal);
    }

    private static StoredPropertyRule Rule(string property, string? feature, PropertyAction action) =>
        new(Guid.NewGuid(), 1, property, feature, action, Guid.Empty, default, default);

    private static PropertyRuleSet Set(IReadOnlyCollection<StoredPropertyRule> rules, PropertyAction otherwise) =>
        new(
            rules,
            new StoredPropertyDefaults(1, otherwise, PropertyAction.Allow, PropertyAction.Allow, PropertyAction.Allow),
            s_key
        );

    private static byte[] Rewritten(PropertyRuleSet set, byte[] sent, string feature)
    {
        var batch = new ParsedBatch(
            [new ParsedEvent(Guid.NewGuid(), Guid.NewGuid(), null, feature, "use", 0, sent)],
            []
        );
        set.Apply(batch);
        Assert.True(batch.IsRuled);
        return batch.Accepted[0].Properties.ToArray();
    }

    private static string Kept(PropertyRuleSet set, byte[] sent, string feature) =>
        Encoding.UTF8.GetString(Rewritten(set, sent, feature));

    // A mask is what it is by its key: here it counts only that it stands there.
    private static string Shown(string kept)
    {
        string text = kept.Length == 0 ? "{}" : kept;
        return System.Text.RegularExpressions.Regex.Replace(text, "\"masked:[0-9a-f]{16}\"", "\"masked\"");
    }

    private static JsonObject? Naive(
        JsonObject properties,
        StoredPropertyRule[] rules,
        PropertyAction otherwise,
        string feature
    )
    {
        var kept = new JsonObject();
        foreach ((string name, JsonNode? value) in properties)
        {
            switch (NaiveAction(name, rules, feature) ?? otherwise)
            {
                case PropertyAction.Mask:
                    kept[name] = "masked";
                    break;
                case PropertyAction.Allow:
                    kept[name] = NaiveValue(value, rules, feature);
                    break;
            }
        }

        return kept;
    }

    private static JsonNode? NaiveValue(JsonNode? value, StoredPropertyRule[] rules, string feature) =>
        value switch
        {
            JsonObject inner => Naive(inner, rules, PropertyAction.Allow, feature),
            JsonArray items => new JsonArray([.. items.Select(item => NaiveValue(item, rules, feature))]),
            _ => Copy(value),
        };

    // Exact before prefix, longer before shorter, the feature's before all's, the strictest of the same.
    private static PropertyAction? NaiveAction(string name, StoredPropertyRule[] rules, string feature) =>
        rules
            .Where(rule => rule.FeatureName is null || rule.FeatureName == feature)
            .Where(rule =>
                rule.Property.EndsWith('*')
                    ? name.StartsWith(rule.Property[..^1], StringComparison.OrdinalIgnoreCase)
                    : string.Equals(name, rule.Property, StringComparison.OrdinalIgnoreCase)
            )
            .OrderBy(rule => rule.Property.EndsWith('*'))
            .ThenByDescending(rule => rule.Property.Length)
            .ThenBy(rule => rule.FeatureName is null)
            .ThenByDescending(rule => rule.Action)
            .Select(rule => (PropertyAction?)rule.Action)
            .FirstOrDefault();

    private static JsonNode? Copy(JsonNode? node) => node?.DeepClone();

    private static JsonObject Object((string Name, JsonNode? Value)[] pairs)
    {
        var made = new JsonObject();
        foreach ((string name, JsonNode? value) in pairs)
        {
            made[name] = Copy(value);
        }

        return made;
    }
}
