using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

/// <summary>One event at a time: what is taken, and what is refused for which reason.</summary>
public sealed class EventReaderTests
{
    private const string Id = "0190F3A0-1234-7abc-8def-0123456789ab";

    [Fact]
    public void Parse_WhenEveryFieldIsGiven_ShouldTakeThemAsSent()
    {
        ParsedEvent parsed = Parsing.Accepted(
            $$"""
            {"eventId":"{{Id}}","userId":"ann@example.com","featureName":"export\u00e9 \ud83d\ude00","eventType":"click",
             "eventTimestamp":"2026-03-15T17:00:00.123456+05:30","properties":{"a" : [1, {"b":null}] },"other":{"a":1} }
            """
        );

        Guid userId = UserIds.Resolve(Parsing.Enterprise, "ann@example.com", out _);
        Assert.Equal((Guid.Parse(Id), userId, "ann@example.com"), (parsed.EventId, parsed.UserId, parsed.ExternalId));
        Assert.Equal(("exporté 😀", "click"), (parsed.FeatureName, parsed.EventType));
        var timestamp = new DateTimeOffset(2026, 3, 15, 11, 30, 0, TimeSpan.Zero);
        Assert.Equal(EventTimestamp.FromInstant(timestamp) + 123_456, parsed.TimestampMicroseconds);
        Assert.Equal("""{"a" : [1, {"b":null}] }""", Encoding.UTF8.GetString(parsed.Properties.Span));
    }

    [Theory]
    [InlineData("""{"userId":"ann","featureName":"export"}""")]
    [InlineData(
        """{"eventId":null,"userId":"ann","featureName":"export","eventType":null,"eventTimestamp":null,"properties":null}"""
    )]
    [InlineData("""{"userId":"ann","featureName":"export","properties":{}}""")]
    [InlineData("""{"userId":"ann","featureName":"export","properties":{ }}""")]
    [InlineData("""{"user\u0049d":"\u0061nn","\u0066eatureName":"export"}""")]
    public void Parse_WhenOptionalFieldsAreAbsent_ShouldUseTheDefaults(string body)
    {
        ParsedEvent parsed = Parsing.Accepted(body);

        Assert.Equal(7, parsed.EventId.Version);
        Assert.Equal(("ann", "export", "use"), (parsed.ExternalId, parsed.FeatureName, parsed.EventType));
        Assert.Equal(EventTimestamp.FromInstant(Parsing.Now), parsed.TimestampMicroseconds);
        Assert.True(parsed.Properties.IsEmpty);
    }

    [Fact]
    public void Parse_WhenTheUserIdIsAUuid_ShouldHaveNoExternalId()
    {
        ParsedEvent parsed = Parsing.Accepted($$"""{"userId":"{{Id}}","featureName":"export"}""");

        Assert.Equal((Guid.Parse(Id), null), (parsed.UserId, parsed.ExternalId));
    }

    public static TheoryData<string> Good =>
        [
            Parsing.Event("\"unknown\":" + Nested(100)),
            Parsing.Event("\"unknown\":{\"a\":1,\"a\":2,\"b\":\"\\ud800\",\"c\":1e999}"),
            Parsing.Event("\"UserId\":1,\"userid\":2"),
            Parsing.Properties(Nested(31)),
            Parsing.Properties("""{"":1,"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"A":1}"""),
            Parsing.Properties("""{"a":"\ud83d\ude00\\u0000\u0001\n","\u00e9":1,"n":[1e308,-1E-999,0.1,-0]}"""),
            Parsing.Properties("{\"n\":" + new string('9', 308) + "}"),
            Parsing.Properties("{\"n\":0." + new string('9', 400) + "}"),
            Parsing.Properties(Members(3_000)),
            Parsing.Properties("{\"a\":\"" + new string('x', EventReader.EventBytesMax - 62) + "\"}"),
            Event("userId", new string('é', 128)),
            Event("userId", Repeat("😀", 128)),
            Event("userId", Repeat("\\ud83d\\ude00", 128)),
            Event("userId", " a "),
            Event("featureName", new string('f', 100)),
            Event("eventType", "\\u00e9\\\"\\\\/"),
            Parsing.Event("\"eventTimestamp\":\"2026-03-15T12:05:00Z\""),
            Parsing.Event("\"eventTimestamp\":\"2026-03-08T12:00:00Z\""),
            Parsing.Event("\"eventTimestamp\":\"2026\\u002d03-08T12:00:00Z\""),
        ];

    [Theory]
    [MemberData(nameof(Good), DisableDiscoveryEnumeration = true)]
    public void Parse_WhenAtTheEdgeOfWhatIsAllowed_ShouldAccept(string body) => Parsing.Accepted(body);

    public static TheoryData<string, string, string> Bad =>
        new()
        {
            { "{}", "missing_field", "userId" },
            { """{"userId":"ann"}""", "missing_field", "featureName" },
            { """{"userId":null,"featureName":"f"}""", "missing_field", "userId" },
            { """{"userId":"ann","featureName":null}""", "missing_field", "featureName" },
            { """{"userId":5,"featureName":"f"}""", "invalid_field", "userId" },
            { """{"userId":["a"],"featureName":"f"}""", "invalid_field", "userId" },
            { """{"userId":{"userId":"a"},"featureName":"f"}""", "invalid_field", "userId" },
            { Event("userId", ""), "invalid_field", "userId is empty" },
            { Event("userId", new string('é', 129)), "invalid_field", "userId has more than 128" },
            { Event("userId", new string('x', 20_000)), "invalid_field", "userId has more than 128" },
            { Event("userId", " \\t"), "invalid_field", "userId has control" },
            { Event("userId", " \u3000\u00a0"), "invalid_field", "userId is blank" },
            { Event("userId", "a\u007f"), "invalid_field", "userId has control" },
            { Event("userId", "a\\u0000\\ud800"), "invalid_field", "userId has control" },
            { Event("userId", "\\ud800"), "invalid_field", "surrogate" },
            { Event("userId", "\\ude00\\ud83d"), "invalid_field", "surrogate" },
            { Event("userId", "\\ud83d\\ud83d\\ude00"), "invalid_field", "surrogate" },
            { Event("userId", "\\ud83dx\\ude00"), "invalid_field", "surrogate" },
            { Event("featureName", new string('f', 101)), "invalid_field", "featureName has more than 100" },
            { Event("featureName", " "), "invalid_field", "featureName is blank" },
            { Event("eventType", ""), "invalid_field", "eventType is empty" },
            { Event("eventType", "a\\nb"), "invalid_field", "eventType has control" },
            { Parsing.Event("\"eventType\":true"), "invalid_field", "eventType must be a string" },
            { Parsing.Event("\"eventId\":\"\""), "invalid_field", "eventId" },
            { Parsing.Event("\"eventId\":7"), "invalid_field", "eventId must be a string" },
            { Parsing.Event($"\"eventId\":\"{{{Id}}}\""), "invalid_field", "eventId" },
            { Parsing.Event("\"eventId\":\"0x90f3a0-1234-7abc-8def-0123456789ab\""), "invalid_field", "eventId" },
            { Parsing.Event("\"eventTimestamp\":1767225600"), "invalid_field", "eventTimestamp must be a string" },
            { Parsing.Event("\"eventTimestamp\":\"2026-03-15T12:00:00\""), "invalid_field", "eventTimestamp" },
            { Parsing.Event("\"eventTimestamp\":\"2026-02-30T12:00:00Z\""), "invalid_field", "eventTimestamp" },
            { Parsing.Event("\"eventTimestamp\":\"\\ud800\""), "invalid_field", "eventTimestamp" },
            { Parsing.Event("\"eventTimestamp\":\"2026-03-15T12:05:00.000001Z\""), "timestamp_in_future", "5 minutes" },
            { Parsing.Event("\"eventTimestamp\":\"9999-12-31T23:59:59-23:59\""), "timestamp_in_future", "5 minutes" },
            { Parsing.Event("\"eventTimestamp\":\"2026-03-08T11:59:59.999999Z\""), "timestamp_too_old", "7 days" },
            { Parsing.Event("\"eventTimestamp\":\"0001-01-01T00:00:00+23:59\""), "timestamp_too_old", "7 days" },
            { Parsing.Event($"\"eventId\":\"{Guid.Empty}\""), "invalid_field", "nil UUID" },
            { Parsing.Properties("[]"), "invalid_field", "properties must be an object" },
            { Parsing.Properties("\"{}\""), "invalid_field", "properties must be an object" },
            { Parsing.Properties(Nested(32)), "invalid_field", "32 levels" },
            { Parsing.Properties("{\"a\":" + new string('[', 31) + new string(']', 31) + "}"), "invalid_field", "32" },
            { Parsing.Properties("{\"n\":1e400}"), "invalid_field", "double" },
            { Parsing.Properties("{\"n\":[-1E+309]}"), "invalid_field", "double" },
            { Parsing.Properties("{\"n\":" + new string('9', 400) + "}"), "invalid_field", "double" },
            { Parsing.Properties("{\"a\":\"\\u0000\"}"), "invalid_field", "U+0000" },
            { Parsing.Properties("{\"a\\u0000\":1}"), "invalid_field", "U+0000" },
            { Parsing.Properties("{\"a\":[\"\\uD800\"]}"), "invalid_field", "surrogate" },
            { Parsing.Properties("{\"\\udc00\":1}"), "invalid_field", "surrogate" },
            { Parsing.Properties("""{"a":1,"a":1}"""), "invalid_json", "\"a\" twice" },
            { Parsing.Properties("""{"a":1,"\u0061":1}"""), "invalid_json", "\"a\" twice" },
            { Parsing.Properties("""{"":1,"":1}"""), "invalid_json", "\"\" twice" },
            { Parsing.Properties("""{"x":[{"y":{"a":1,"b":{"a":1},"a":1}}]}"""), "invalid_json", "\"a\" twice" },
            { Parsing.Properties(Members(3_000, "\"7\":0")), "invalid_json", "\"7\" twice" },
            { Parsing.Event("\"x\":1,\"x\":1"), "invalid_json", "\"x\" appears twice" },
            { Parsing.Event("\"user\\u0049d\":\"bob\""), "invalid_json", "\"userId\" appears twice" },
            { Parsing.Event("\"\\ud800\":1"), "invalid_json", "surrogate" },
            { Parsing.Event($"\"{new string('x', 99)}\":1,\"{new string('x', 99)}\":1"), "invalid_json", "xxx…\"" },
            { Parsing.Event("\"deep\":" + Nested(100_000)), "event_too_large", "32 KB" },
            { Parsing.Properties(Nested(100_000)), "event_too_large", "32 KB" },
            {
                Parsing.Event("\"x\":\"" + new string('x', EventReader.EventBytesMax) + "\",\"x\":1"),
                "event_too_large",
                "32 KB"
            },
            {
                Parsing.Event("\"x\":1,\"x\":1")[..^1] + new string(' ', EventReader.EventBytesMax) + "}",
                "event_too_large",
                "32 KB"
            },
            // Several faults: the first in the documented order, whatever their order in the text.
            { """{"eventType":5,"featureName":"","eventId":"?"}""", "invalid_field", "eventId" },
            { """{"eventType":5,"featureName":""}""", "missing_field", "userId" },
            {
                """{"properties":5,"eventTimestamp":"1999-01-01T00:00:00Z","userId":"a","featureName":"f"}""",
                "timestamp_too_old",
                ""
            },
            { """{"properties":{"n":1e999},"x":1,"x":1}""", "invalid_json", "\"x\"" },
        };

    [Theory]
    [MemberData(nameof(Bad), DisableDiscoveryEnumeration = true)]
    public void Parse_WhenOneFieldIsBad_ShouldSayWhichAndWhy(string body, string code, string detail)
    {
        RejectedEvent rejected = Parsing.Rejected(body);

        Assert.Equal((0, code), (rejected.Index, rejected.Code));
        Assert.Contains(detail, rejected.Detail, StringComparison.Ordinal);
        Assert.InRange(rejected.Detail.Length, 10, 200);
    }

    [Theory]
    [InlineData("2000-01-01T00:00:00Z", null)]
    [InlineData("2020-06-01T00:00:00+02:00", null)]
    [InlineData("1999-12-31T23:59:59.999999Z", "timestamp_too_old")]
    [InlineData("2000-01-01T00:00:00+00:01", "timestamp_too_old")]
    [InlineData("2026-03-15T12:06:00Z", "timestamp_in_future")]
    public void Parse_WhenTheCallerMayBackfill_ShouldTakeWhatIsSince2000(string timestamp, string? code)
    {
        string body = Parsing.Event($"\"eventTimestamp\":\"{timestamp}\"");

        ParsedBatch batch = Parsing.Batch(Parsing.Parse(body, mayBackfill: true));

        Assert.Equal(code, batch.Rejected.SingleOrDefault()?.Code);
    }

    [Theory]
    [InlineData($$"""{"eventId":"{{Id}}"}""", true)]
    [InlineData($$"""{"userId":5,"properties":7,"eventId":"{{Id}}"}""", true)]
    [InlineData("""{"eventId":"x"}""", false)]
    public void Parse_WhenRejected_ShouldNameTheEventIdIfReadable(string body, bool readable) =>
        Assert.Equal(readable ? Guid.Parse(Id) : null, Parsing.Rejected(body).EventId);

    [Fact]
    public void Parse_WhenTheSizeIsExactlyTheLimit_ShouldAcceptItAndRefuseOneMore()
    {
        string body = Parsing.Event("");
        body = body[..^1] + new string(' ', EventReader.EventBytesMax - body.Length) + "}";

        Parsing.Accepted(body);
        Assert.Equal(
            RejectionCodes.EventTooLarge,
            Parsing.Rejected(body.Replace("}", " }", StringComparison.Ordinal)).Code
        );
    }

    [Fact]
    public void Parse_WhenAFeatureNameRecurs_ShouldShareTheString() =>
        Assert.Same(Parsing.Accepted(Parsing.Event("")).FeatureName, Parsing.Accepted(Parsing.Event("")).FeatureName);

    private static string Event(string field, string value) =>
        field switch
        {
            "userId" => $$"""{"featureName":"f","userId":"{{value}}"}""",
            "featureName" => $$"""{"featureName":"{{value}}","userId":"u"}""",
            _ => Parsing.Event($"\"{field}\":\"{value}\""),
        };

    private static string Nested(int levels) => Repeat("{\"a\":", levels - 1) + "{}" + new string('}', levels - 1);

    private static string Members(int count, string last = "\"last\":0") =>
        "{" + string.Concat(Enumerable.Range(0, count).Select(number => $"\"{number}\":1,")) + last + "}";

    private static string Repeat(string text, int times) => string.Concat(Enumerable.Repeat(text, times));
}
