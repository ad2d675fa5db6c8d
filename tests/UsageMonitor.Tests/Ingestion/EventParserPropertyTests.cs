using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using CsCheck;
using UsageMonitor.Server.Ingestion;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

/// <summary>What holds for all bodies.</summary>
public sealed class EventParserPropertyTests
{
    private const string Newline = "\n";
    private static readonly string[] s_encodings = ["identity", "gzip", "br"];

    // One writer escapes whatever is not ASCII, the other nothing that it need not.
    private static readonly JsonSerializerOptions[] s_writers =
    [
        new(),
        new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping },
    ];

    private static readonly Gen<string> s_text = Gen.Char[" !az09éß漢€\"\\/\u00a0"]
        .Array[1, 40]
        .Select(characters => "x" + new string(characters));

    private static readonly Gen<object?> s_scalar = Gen.OneOf(
        s_text.Select(text => (object?)text),
        Gen.Int.Select(number => (object?)number),
        Gen.Double[-1e300, 1e300].Select(number => (object?)number),
        Gen.Bool.Select(flag => (object?)flag),
        Gen.Const((object?)null)
    );

    private static readonly Gen<Dictionary<string, object?>> s_properties = Gen.Dictionary(
        s_text,
        Gen.OneOf(
            s_scalar,
            s_scalar.Array[0, 3].Select(items => (object?)items),
            Gen.Dictionary(s_text, s_scalar)[0, 3].Select(members => (object?)members)
        )
    )[0, 40];

    /// <summary>An event's JSON; it has an id, so that two parses of it give the same.</summary>
    private static readonly Gen<string> s_good = Gen.Select(
            Gen.Guid,
            Gen.OneOf(s_text, Gen.Guid.Select(uuid => uuid.ToString())),
            s_text,
            Gen.Int[-6 * 24 * 60, 5],
            s_properties,
            Gen.Int[0, 15]
        )
        .Select(
            (eventId, userId, featureName, minutes, properties, optional) =>
            {
                var members = new Dictionary<string, object?>
                {
                    ["properties"] = (optional & 1) == 0 ? properties : null,
                    ["featureName"] = featureName,
                    ["userId"] = userId,
                    ["ignored"] = properties,
                    ["eventId"] = eventId,
                };
                if ((optional & 2) == 0)
                {
                    members["eventTimestamp"] = Parsing.Now.AddMinutes(minutes);
                }

                if ((optional & 4) == 0)
                {
                    members["eventType"] = featureName;
                }

                return JsonSerializer.Serialize(members, s_writers[optional >> 3]);
            }
        );

    private static readonly string[] s_bad =
    [
        "{}",
        "5",
        "null",
        "[]",
        """{"userId":"ann"}""",
        """{"userId":"ann","featureName":""}""",
        """{"userId":"ann","featureName":"f","a":1,"a":1}""",
        """{"userId":"ann","featureName":"f","properties":{"b":{"a":1,"a":2}}}""",
        """{"userId":"ann","featureName":"f","properties":{"n":1e999}}""",
        """{"userId":"ann","featureName":"f","eventTimestamp":"2026-03-15"}""",
        """{"userId":"\ud800","featureName":"f"}""",
        Parsing.Event("\"x\":\"" + new string('x', EventReader.EventBytesMax) + "\""),
        Parsing.Event("\"x\":" + new string('[', 40_000) + new string(']', 40_000)),
    ];

    [Fact]
    public async Task Parse_WhenEventsAreValid_ShouldGiveTheSameInEveryFormAndEncoding() =>
        await s_good
            .Array[1, 30]
            .SampleAsync(
                async events =>
                {
                    ParsedEvent[]? expected = null;
                    foreach ((string body, bool newlineDelimited) in Forms(events))
                    {
                        foreach (string encoding in s_encodings)
                        {
                            byte[] plain = Encoding.UTF8.GetBytes(body);
                            byte[] sent = encoding switch
                            {
                                "gzip" => Parsing.Gzip(plain),
                                "br" => Parsing.Brotli(plain),
                                _ => plain,
                            };
                            string type = newlineDelimited ? "application/x-ndjson" : "application/json";
                            BodyResult result = await Parsing.ReadAsync(sent, type, encoding);
                            using RequestBody read = result.Body!;
                            ParsedBatch batch = Parsing.Batch(
                                EventParser.Parse(
                                    read.Bytes,
                                    read.NewlineDelimited,
                                    Parsing.Enterprise,
                                    Parsing.Now,
                                    mayBackfill: false
                                )
                            );

                            Assert.Empty(batch.Rejected);
                            ParsedEvent[] parsed = [.. batch.Accepted];
                            expected ??= [.. parsed.Select(Detached)];
                            Assert.Equal(events.Length, parsed.Length);
                            Assert.All(parsed.Zip(expected), pair => AssertSame(pair.Second, pair.First));
                        }
                    }
                },
                iter: 50
            );

    [Fact]
    public void Parse_WhenBytesAreAltered_ShouldNeverThrowAndAccountForEveryEvent() =>
        Gen.Select(
                s_good.Array[1, 5],
                Gen.Int[0, 3],
                Gen.Select(Gen.Int[0, 1_000_000], Gen.Byte).Array[0, 8],
                Gen.Int[0, 99]
            )
            .Sample(
                (events, form, changes, cut) =>
                {
                    (string text, bool newlineDelimited) = Forms(events).ElementAt(form % Forms(events).Count());
                    byte[] body = Encoding.UTF8.GetBytes(text);
                    foreach ((int at, byte value) in changes)
                    {
                        // Half of the changes are characters that mean something to JSON.
                        body[at % body.Length] = value < 128 ? value : "{}[]\",:\\u0d8e-\n"u8[value % 15];
                    }

                    body = cut < 20 ? body[..(body.Length * cut / 20)] : body;
                    ParseOutcome outcome = Parsing.Parse(body, newlineDelimited);

                    Assert.True(outcome.Batch is null ^ outcome.Problem is null);
                    if (outcome.Problem is { } problem)
                    {
                        Assert.Equal((400, "invalid_json"), (problem.Status, problem.Code));
                    }
                    else if (newlineDelimited)
                    {
                        int lines = Encoding
                            .Latin1.GetString(body)
                            .Split('\n')
                            .Count(line => line.Trim(' ', '\t', '\r').Length > 0);
                        Assert.Equal(lines, outcome.Batch!.Accepted.Count + outcome.Batch.Rejected.Count);
                    }
                    else
                    {
                        Assert.Equal(CountEvents(body), outcome.Batch!.Accepted.Count + outcome.Batch.Rejected.Count);
                    }
                },
                iter: 3_000
            );

    [Fact]
    public void Parse_WhenGoodAndBadAreMixed_ShouldAcceptExactlyTheGood() =>
        Gen.Select(s_good, Gen.Int[0, 2 * s_bad.Length])
            .Select((good, pick) => pick < s_bad.Length ? (Json: s_bad[pick], Good: false) : (Json: good, Good: true))
            .Array[2, 40]
            .Sample(
                events =>
                {
                    foreach ((string body, bool newlineDelimited) in Forms([.. events.Select(pair => pair.Json)]))
                    {
                        ParsedBatch batch = Parsing.Batch(Parsing.Parse(body, newlineDelimited));

                        Guid[] ids = [.. events.Where(pair => pair.Good).Select(pair => EventId(pair.Json))];
                        int[] bad = [.. events.Index().Where(pair => !pair.Item.Good).Select(pair => pair.Index)];
                        Assert.Equal(ids, batch.Accepted.Select(parsed => parsed.EventId));
                        Assert.Equal(bad, batch.Rejected.Select(rejected => rejected.Index));
                    }
                },
                iter: 100
            );

    [Fact]
    public void Add_WhenNamesAreMany_ShouldFindExactlyTheDuplicates() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, 2_000])
            .Array[0, 3_000]
            .Sample(
                names =>
                {
                    var expected = new HashSet<(int, int)>();
                    var actual = new MemberNames();
                    for (int round = 0; round < 2; round++)
                    {
                        expected.Clear();
                        actual.Clear();
                        foreach ((int objectNumber, int name) in names)
                        {
                            bool added = actual.Add(objectNumber, Encoding.UTF8.GetBytes($"name{name}"));
                            Assert.Equal(expected.Add((objectNumber, name)), added);
                        }
                    }
                },
                iter: 100
            );

    private static IEnumerable<(string Body, bool NewlineDelimited)> Forms(string[] events)
    {
        yield return ("[" + string.Join(",", events) + "]", false);
        yield return ("{\"source\":[1],\"events\": [" + string.Join(" , ", events) + "] }", false);
        yield return (string.Join(Newline, events), true);
        if (events.Length == 1)
        {
            yield return (events[0], false);
        }
    }

    private static int CountEvents(byte[] body)
    {
        using JsonDocument document = JsonDocument.Parse(body, new JsonDocumentOptions { MaxDepth = 1_000 });
        JsonElement root = document.RootElement;
        if (root.ValueKind == JsonValueKind.Array)
        {
            return root.GetArrayLength();
        }

        return root.TryGetProperty("events", out JsonElement events) ? events.GetArrayLength() : 1;
    }

    private static Guid EventId(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return document.RootElement.GetProperty("eventId").GetGuid();
    }

    // The properties of an event are gone when its body is disposed.
    private static ParsedEvent Detached(ParsedEvent parsed) => parsed with { Properties = parsed.Properties.ToArray() };

    private static void AssertSame(ParsedEvent expected, ParsedEvent actual)
    {
        Assert.True(expected.Properties.Span.SequenceEqual(actual.Properties.Span));
        Assert.Equal(expected with { Properties = default }, actual with { Properties = default });
    }
}
