using System.Text.Json;
using System.Text.Unicode;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Ingestion;

/// <summary>Either the request's events or why the request as a whole is refused.</summary>
internal readonly record struct ParseOutcome(ParsedBatch? Batch, IngestProblem? Problem)
{
    public static implicit operator ParseOutcome(ParsedBatch batch) => new(batch, null);

    public static implicit operator ParseOutcome(IngestProblem problem) => new(null, problem);
}

/// <summary>
/// Finds the events of a body, in any of its forms, and has each read by <see cref="EventReader"/>. A bad event spoils only
/// itself; what is not JSON spoils its line of an NDJSON body, and the whole of any other: nobody can tell what was meant.
/// </summary>
internal static class EventParser
{
    public const int EventsMax = 10_000;
    private const int EventBytesExpected = 800;

    // Depth is not the syntax's concern here: a limit of the reader's would let one deep event spoil its batch.
    private static readonly JsonReaderOptions s_options = new() { MaxDepth = int.MaxValue };

    /// <param name="body">The bytes that the events' properties will be slices of.</param>
    /// <param name="newlineDelimited">NDJSON; otherwise an event, an array of events, or <c>{"events":[…]}</c>.</param>
    /// <param name="enterpriseId">The namespace of the users' external ids.</param>
    /// <param name="now">The server's clock: what timestamps are compared with, and the timestamp of events without one.</param>
    /// <param name="mayBackfill">Events may be older than <see cref="TimestampWindow.AgeDaysMax"/>.</param>
    public static ParseOutcome Parse(
        ReadOnlyMemory<byte> body,
        bool newlineDelimited,
        Guid enterpriseId,
        DateTimeOffset now,
        bool mayBackfill
    )
    {
        var events = new EventReader(enterpriseId, now, mayBackfill);
        var batch = new ParsedBatch(
            new List<ParsedEvent>(Math.Min(body.Length / EventBytesExpected + 1, EventsMax)),
            []
        );
        bool validUtf8 = Utf8.IsValid(body.Span);
        if (newlineDelimited)
        {
            return ReadLines(body, validUtf8, events, batch) is { } refused ? refused : batch;
        }

        if (!validUtf8)
        {
            return IngestProblem.NotJson("The body is not valid UTF-8.");
        }

        try
        {
            var json = new Utf8JsonReader(body.Span, s_options);
            json.Read();
            IngestProblem? problem = ReadRoot(body, ref json, events, batch);
            if (problem is null)
            {
                json.Read(); // throws when something follows
            }

            return problem is null ? batch : problem;
        }
        catch (JsonException exception)
        {
            return IngestProblem.NotJson($"The body is not JSON: see {Position(exception, withLine: true)}.");
        }
    }

    private static IngestProblem? ReadRoot(
        ReadOnlyMemory<byte> body,
        ref Utf8JsonReader json,
        EventReader events,
        ParsedBatch batch
    )
    {
        switch (json.TokenType)
        {
            case JsonTokenType.StartArray:
                return ReadArray(body, ref json, events, batch);
            case JsonTokenType.StartObject when IsWrapper(json):
                return ReadWrapper(body, ref json, events, batch);
            case JsonTokenType.StartObject:
                batch.IsSingle = true;
                ReadEvent(body, ref json, events, batch, index: 0);
                return null;
            default:
                return IngestProblem.NotJson(
                    "The body must be an event, an array of events, or an object with \"events\"."
                );
        }
    }

    /// <summary>Looks ahead, on a copy of the reader, for a member named "events".</summary>
    private static bool IsWrapper(Utf8JsonReader json)
    {
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            if (IsEventsName(ref json))
            {
                return true;
            }

            json.Skip();
        }

        return false;
    }

    private static bool IsEventsName(ref Utf8JsonReader json) =>
        (!json.ValueIsEscaped || JsonEscapes.Find(json.ValueSpan) == EscapeFault.None)
        && json.ValueTextEquals("events"u8);

    private static IngestProblem? ReadWrapper(
        ReadOnlyMemory<byte> body,
        ref Utf8JsonReader json,
        EventReader events,
        ParsedBatch batch
    )
    {
        bool seen = false;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            if (!IsEventsName(ref json))
            {
                json.Skip();
                continue;
            }

            if (seen)
            {
                return IngestProblem.NotJson("The member \"events\" appears twice.");
            }

            seen = true;
            json.Read();
            if (json.TokenType != JsonTokenType.StartArray)
            {
                return IngestProblem.NotJson("The member \"events\" must be an array of events.");
            }

            if (ReadArray(body, ref json, events, batch) is { } problem)
            {
                return problem;
            }
        }

        return null;
    }

    private static IngestProblem? ReadArray(
        ReadOnlyMemory<byte> body,
        ref Utf8JsonReader json,
        EventReader events,
        ParsedBatch batch
    )
    {
        for (int index = 0; json.Read() && json.TokenType != JsonTokenType.EndArray; index++)
        {
            if (index == EventsMax)
            {
                return TooMany();
            }

            if (json.TokenType == JsonTokenType.StartObject)
            {
                ReadEvent(body, ref json, events, batch, index);
            }
            else
            {
                json.Skip();
                batch.Rejected.Add(NotAnObject(index));
            }
        }

        return null;
    }

    private static void ReadEvent(
        ReadOnlyMemory<byte> text,
        ref Utf8JsonReader json,
        EventReader events,
        ParsedBatch batch,
        int index
    )
    {
        if (events.Read(text, ref json, index, out ParsedEvent parsed) is { } rejected)
        {
            batch.Rejected.Add(rejected);
        }
        else
        {
            batch.Accepted.Add(parsed);
        }
    }

    private static IngestProblem? ReadLines(
        ReadOnlyMemory<byte> body,
        bool validUtf8,
        EventReader events,
        ParsedBatch batch
    )
    {
        int index = 0;
        for (ReadOnlyMemory<byte> rest = body; !rest.IsEmpty; )
        {
            int end = rest.Span.IndexOf((byte)'\n');
            ReadOnlyMemory<byte> line = (end < 0 ? rest : rest[..end]).Trim(" \t\r"u8);
            rest = end < 0 ? default : rest[(end + 1)..];
            if (line.IsEmpty)
            {
                continue;
            }

            if (index == EventsMax)
            {
                return TooMany();
            }

            if (line.Span[0] != '{')
            {
                batch.Rejected.Add(NotAnObject(index));
            }
            else if (!validUtf8 && !Utf8.IsValid(line.Span))
            {
                batch.Rejected.Add(
                    new RejectedEvent(index, null, RejectionCodes.InvalidJson, "The line is not valid UTF-8.")
                );
            }
            else
            {
                ReadLine(line, events, batch, index);
            }

            index++;
        }

        return index == 0 ? IngestProblem.NotJson("The body has no events.") : null;
    }

    private static void ReadLine(ReadOnlyMemory<byte> line, EventReader events, ParsedBatch batch, int index)
    {
        try
        {
            var json = new Utf8JsonReader(line.Span, s_options);
            json.Read();
            RejectedEvent? rejected = events.Read(line, ref json, index, out ParsedEvent parsed);
            json.Read(); // throws when something follows
            if (rejected is not null)
            {
                batch.Rejected.Add(rejected);
            }
            else
            {
                batch.Accepted.Add(parsed);
            }
        }
        catch (JsonException exception)
        {
            batch.Rejected.Add(
                line.Length > EventReader.EventBytesMax
                    ? EventReader.TooLarge(index, events.EventId)
                    : new RejectedEvent(
                        index,
                        events.EventId,
                        RejectionCodes.InvalidJson,
                        $"The line is not JSON: see {Position(exception, withLine: false)}."
                    )
            );
        }
    }

    // The exception's own message is kept back: it can quote the body at any length.
    private static string Position(JsonException exception, bool withLine) =>
        withLine
            ? $"line {exception.LineNumber + 1}, byte {exception.BytePositionInLine + 1}"
            : $"byte {exception.BytePositionInLine + 1}";

    private static RejectedEvent NotAnObject(int index) =>
        new(index, null, RejectionCodes.InvalidJson, "An event must be a JSON object.");

    private static IngestProblem TooMany() =>
        new(
            StatusCodes.Status413PayloadTooLarge,
            IngestProblem.TooManyEvents,
            $"A request may carry at most {EventsMax} events."
        );
}
