using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Ingestion;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

/// <summary>The forms of a body, and what is refused as a whole.</summary>
public sealed class EventParserTests
{
    private static readonly string s_event = Parsing.Event("");

    [Theory]
    [InlineData(1, " {0} ")]
    [InlineData(1, "[{0}]")]
    [InlineData(2, "[{0},\r\n{0}]")]
    [InlineData(0, "[]")]
    [InlineData(0, """{"events":[]}""")]
    [InlineData(2, """{"events":[{0},{0}]}""")]
    [InlineData(1, """{"sentAt":{"events":5},"userId":"x","userId":5,"events":[{0}],"\ud800":"\ud800","z":[[]]}""")]
    [InlineData(1, """{"e\u0076ents":[{0}]}""")]
    public void Parse_WhenJson_ShouldTakeEveryForm(int accepted, string form)
    {
        ParsedBatch batch = Parsing.Batch(Parsing.Parse(form.Replace("{0}", s_event, StringComparison.Ordinal)));

        Assert.Equal(accepted, batch.Accepted.Count);
        Assert.Empty(batch.Rejected);
    }

    [Theory]
    [InlineData(1, "{0}")]
    [InlineData(1, "{0}\n")]
    [InlineData(2, "{0}\r\n{0}\r\n")]
    [InlineData(2, "\n\n \t\r\n{0}\n\n  {0}  \n \n")]
    public void Parse_WhenLines_ShouldIgnoreBlankOnes(int accepted, string form)
    {
        string body = form.Replace("{0}", s_event, StringComparison.Ordinal);
        ParsedBatch batch = Parsing.Batch(Parsing.Parse(body, newlineDelimited: true));

        Assert.Equal(accepted, batch.Accepted.Count);
        Assert.Empty(batch.Rejected);
    }

    [Theory]
    [InlineData(" ")]
    [InlineData("5")]
    [InlineData("null")]
    [InlineData("\"text\"")]
    [InlineData("NaN")]
    [InlineData("{")]
    [InlineData("[")]
    [InlineData("[{0}")]
    [InlineData("[{0},]")]
    [InlineData("[{0} {0}]")]
    [InlineData("{0}{0}")]
    [InlineData("{0}\n{0}")]
    [InlineData("[{0}]]")]
    [InlineData("[{0}]x")]
    [InlineData("[{0},{\"a\":NaN}]")]
    [InlineData("[{0},{\"a\":01}]")]
    [InlineData("[{0},{\"a\":\"\t\"}]")]
    [InlineData("[{0},{\"a\":\"\\x\"}]")]
    [InlineData("[{0},{'a':1}]")]
    [InlineData("[{0},/**/{0}]")]
    [InlineData("""{"events":null}""")]
    [InlineData("""{"events":{0}}""")]
    [InlineData("""{"events":"[]"}""")]
    [InlineData("""{"events":[{0}],"events":[{0}]}""")]
    [InlineData("""{"events":[{0}]""")]
    [InlineData("""{"events":[{0}],}""")]
    public void Parse_WhenItIsNotOneJsonText_ShouldRefuseAll(string form)
    {
        ParseOutcome outcome = Parsing.Parse(form.Replace("{0}", s_event, StringComparison.Ordinal));

        Assert.Null(outcome.Batch);
        Assert.Equal((400, "invalid_json"), (outcome.Problem!.Status, outcome.Problem.Code));
    }

    [Fact]
    public void Parse_WhenItIsNotJson_ShouldSayWhere()
    {
        ParseOutcome outcome = Parsing.Parse($"[{s_event},\n  ?]");

        Assert.Contains("line 2, byte 3", outcome.Problem!.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_WhenUtf8IsInvalid_ShouldRefuseJsonButOnlyTheLine()
    {
        byte[] good = Encoding.UTF8.GetBytes(s_event);
        byte[] bad = [.. "{\"userId\":\""u8, 0xC3, 0x28, .. "\",\"featureName\":\"f\"}"u8];

        ParsedBatch lines = Parsing.Batch(Parsing.Parse([.. good, 10, .. bad, 10, .. good], newlineDelimited: true));
        ParseOutcome array = Parsing.Parse([(byte)'[', .. good, (byte)',', .. bad, (byte)']']);

        Assert.Equal(2, lines.Accepted.Count);
        Assert.Equal((1, "invalid_json"), (lines.Rejected.Single().Index, lines.Rejected.Single().Code));
        Assert.Equal("invalid_json", array.Problem!.Code);
    }

    [Fact]
    public void Parse_WhenElementsAreNotObjects_ShouldRejectEachAlone()
    {
        ParsedBatch batch = Parsing.Batch(Parsing.Parse($"[1,{s_event},null,\"x\",[{s_event}],{s_event},true]"));

        Assert.Equal(2, batch.Accepted.Count);
        Assert.Equal([0, 2, 3, 4, 6], batch.Rejected.Select(rejected => rejected.Index));
        Assert.All(batch.Rejected, rejected => Assert.Equal(RejectionCodes.InvalidJson, rejected.Code));
    }

    [Fact]
    public void Parse_WhenLinesAreBad_ShouldRejectEachByItsPlaceAmongTheNonBlank()
    {
        string eventId = "0190f3a0-1234-7abc-8def-0123456789ab";
        string large = Parsing.Event("\"x\":\"" + new string('x', EventReader.EventBytesMax));
        string[] lines =
        [
            s_event,
            "",
            "{",
            "  ",
            $"[{s_event}]",
            "null",
            s_event,
            s_event + s_event,
            s_event + "\r" + s_event,
            $$"""{"eventId":"{{eventId}}","a":?}""",
            large,
            """{"events":[]}""",
            s_event,
        ];

        ParsedBatch batch = Parsing.Batch(Parsing.Parse(string.Join('\n', lines), newlineDelimited: true));

        Assert.Equal(3, batch.Accepted.Count);
        Assert.Equal(
            [
                (1, "invalid_json"),
                (2, "invalid_json"),
                (3, "invalid_json"),
                (5, "invalid_json"),
                (6, "invalid_json"),
                (7, "invalid_json"),
                (8, "event_too_large"),
                (9, "missing_field"),
            ],
            batch.Rejected.Select(rejected => (rejected.Index, rejected.Code))
        );
        Assert.Equal(Guid.Parse(eventId), batch.Rejected[5].EventId);
    }

    [Theory]
    [InlineData("[", "]", ",", false)]
    [InlineData("{\"events\":[", "]}", ",", false)]
    [InlineData("", "", "\n", true)]
    public void Parse_WhenThereAreTooManyEvents_ShouldRefuseAll(
        string before,
        string after,
        string between,
        bool newlineDelimited
    )
    {
        string most = string.Join(between, Enumerable.Repeat("{}", EventParser.EventsMax));

        ParsedBatch batch = Parsing.Batch(Parsing.Parse(before + most + after, newlineDelimited));
        ParseOutcome outcome = Parsing.Parse(before + most + between + "{}" + after, newlineDelimited);

        Assert.Equal(EventParser.EventsMax, batch.Rejected.Count);
        Assert.Null(outcome.Batch);
        Assert.Equal((413, "too_many_events"), (outcome.Problem!.Status, outcome.Problem.Code));
    }

    [Fact]
    public void Parse_WhenOneEventIsVeryDeep_ShouldRejectIt()
    {
        const int levels = 100_000;
        string deep = new string('[', levels) + new string(']', levels);
        string objects = string.Concat(Enumerable.Repeat("{\"a\":", levels)) + "1" + new string('}', levels);

        ParsedBatch batch = Parsing.Batch(
            Parsing.Parse($"[{s_event},{Parsing.Properties("{\"a\":" + deep + "}")},{objects},{deep},{s_event}]")
        );

        Assert.Equal(2, batch.Accepted.Count);
        Assert.Equal(
            ["event_too_large", "event_too_large", "invalid_json"],
            batch.Rejected.Select(rejected => rejected.Code)
        );
    }

    [Fact]
    public void Parse_WhenPropertiesAreSent_ShouldPointIntoTheBody()
    {
        byte[] body = Encoding.UTF8.GetBytes($"[{s_event},{Parsing.Properties("{\"a\":1}")}]");

        ReadOnlyMemory<byte> properties = Parsing.Batch(Parsing.Parse(body)).Accepted[1].Properties;

        Assert.True(properties.Span.Overlaps(body));
    }

    [Fact]
    public void Parse_WhenAnEventHasLess_ShouldTakeNothingFromTheOneBefore()
    {
        const string eventId = "0190f3a0-1234-7abc-8def-0123456789ab";
        string full = Parsing.Event(
            $$"""
            "eventId":"{{eventId}}","eventType":"click","eventTimestamp":"2026-03-14T00:00:00Z","properties":{"a":1}
            """
        );

        ParsedBatch batch = Parsing.Batch(Parsing.Parse($$"""[{{full}},{"featureName":"f"},{{full}},{{s_event}}]"""));

        RejectedEvent rejected = Assert.Single(batch.Rejected);
        Assert.Equal((null, RejectionCodes.MissingField), (rejected.EventId, rejected.Code));
        ParsedEvent last = batch.Accepted[2];
        Assert.NotEqual(Guid.Parse(eventId), last.EventId);
        Assert.Equal("use", last.EventType);
        Assert.Equal(EventTimestamp.FromInstant(Parsing.Now), last.TimestampMicroseconds);
        Assert.True(last.Properties.IsEmpty);
    }
}
