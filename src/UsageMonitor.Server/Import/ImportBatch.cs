using System.Buffers;
using System.Text.Json;

namespace UsageMonitor.Server.Import;

/// <summary>A refused line and why, with a code of <see cref="Contracts.RejectionCodes"/> or of a problem the server answered.</summary>
internal sealed record RejectedLine(long Line, string Code, string Detail);

/// <summary>Consecutive lines of an input, sent as one request.</summary>
internal sealed class ImportBatch
{
    private readonly ArrayBufferWriter<byte> _body = new();
    private readonly List<(long Line, int Start)> _events = [];

    /// <summary>Lines refused here, because they are too long to be worth sending.</summary>
    public List<RejectedLine> RejectedHere { get; } = [];

    /// <summary>The last line read for this batch, blank ones counted: acknowledged, the input is done through here.</summary>
    public long LastLine { get; set; }

    /// <summary>How many bytes of the input had been read, compressed as it is.</summary>
    public long InputBytesRead { get; set; }

    /// <summary>Events that a repetition could not be recognised by.</summary>
    public int WithoutEventId { get; private set; }

    public int Events => _events.Count;

    public int BodyBytes => _body.WrittenCount;

    public void Add(long line, in ReadOnlySequence<byte> json)
    {
        int length = checked((int)json.Length);
        int start = _body.WrittenCount;
        Span<byte> target = _body.GetSpan(length + 1);
        json.CopyTo(target);
        target[length] = (byte)'\n';
        if (LacksEventId(target[..length]))
        {
            WithoutEventId++;
        }

        _body.Advance(length + 1);
        _events.Add((line, start));
    }

    public ReadOnlyMemory<byte> Body(int first, int count)
    {
        int start = _events[first].Start;
        int end = first + count == _events.Count ? _body.WrittenCount : _events[first + count].Start;
        return _body.WrittenMemory[start..end];
    }

    public long LineOf(int index) => _events[index].Line;

    /// <summary>True of an object whose own <c>eventId</c> is absent or null; what is not an object is the server's to refuse.</summary>
    private static bool LacksEventId(ReadOnlySpan<byte> json)
    {
        var reader = new Utf8JsonReader(json);
        try
        {
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            {
                return false;
            }

            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                bool isEventId = reader.ValueTextEquals("eventId"u8);
                reader.Read();
                if (isEventId)
                {
                    return reader.TokenType == JsonTokenType.Null;
                }

                reader.Skip();
            }

            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }
}
