using System.Buffers;
using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary>Why an event's properties are refused; the code is one of <see cref="RejectionCodes"/>.</summary>
internal sealed record PropertiesFault(string Code, string Detail);

/// <summary>
/// Checks that an event's properties, kept as they were sent, will be understood by whoever reads them later in the same way:
/// PostgreSQL, DuckDB, the SDKs. The tokens are walked, not skipped, because the reader itself looks into no string.
/// </summary>
internal sealed class EventProperties
{
    /// <summary>Nesting counted from the event itself, which is 1; properties are 2.</summary>
    public const int DepthMax = 32;

    // A finite double has at most 309 digits before its point; with an exponent the digits say nothing.
    private const int FiniteDigitsMax = 308;
    private const int StackBytesMax = 256;

    private readonly int[] _objectNumbers = new int[DepthMax];
    private int _objects;

    /// <param name="json">Stands on the opening brace, and afterwards on the closing one unless there is a fault.</param>
    /// <param name="eventDepth">The reader's depth at the event's opening brace.</param>
    /// <param name="bytesEnd">Where the event has become too large: nothing is checked from there on.</param>
    /// <param name="names">The event's names.</param>
    /// <param name="empty">There is no member.</param>
    /// <returns>The first fault, after which the reader stands on the closing brace all the same.</returns>
    public PropertiesFault? Check(
        ref Utf8JsonReader json,
        int eventDepth,
        long bytesEnd,
        MemberNames names,
        out bool empty
    )
    {
        int depth = json.CurrentDepth;
        _objects = 0;
        _objectNumbers[depth - eventDepth] = ++_objects;
        empty = true;
        PropertiesFault? fault = null;
        while (json.Read() && (json.CurrentDepth > depth || json.TokenType != JsonTokenType.EndObject))
        {
            empty = false;
            if (fault is null && json.BytesConsumed <= bytesEnd)
            {
                fault = CheckToken(ref json, eventDepth, names);
            }
        }

        return fault;
    }

    private PropertiesFault? CheckToken(ref Utf8JsonReader json, int eventDepth, MemberNames names)
    {
        switch (json.TokenType)
        {
            case JsonTokenType.PropertyName:
                return CheckName(ref json, _objectNumbers[json.CurrentDepth - eventDepth - 1], names);
            case JsonTokenType.String:
                return json.ValueIsEscaped ? CheckEscapes(json.ValueSpan) : null;
            case JsonTokenType.Number:
                return CheckNumber(ref json);
            case JsonTokenType.StartObject or JsonTokenType.StartArray:
                int level = json.CurrentDepth - eventDepth;
                if (level >= DepthMax)
                {
                    return Invalid($"are nested more than {DepthMax} levels deep, the event being the first");
                }

                _objectNumbers[level] = ++_objects;
                return null;
            default:
                return null;
        }
    }

    private static PropertiesFault? CheckName(ref Utf8JsonReader json, int objectNumber, MemberNames names)
    {
        ReadOnlySpan<byte> name = json.ValueSpan;
        if (!json.ValueIsEscaped)
        {
            return names.Add(objectNumber, name) ? null : Duplicate(name);
        }

        if (CheckEscapes(name) is { } fault)
        {
            return fault;
        }

        byte[]? rented = null;
        Span<byte> unescaped =
            name.Length <= StackBytesMax
                ? stackalloc byte[StackBytesMax]
                : rented = ArrayPool<byte>.Shared.Rent(name.Length);
        unescaped = unescaped[..json.CopyString(unescaped)];
        fault = names.Add(objectNumber, unescaped) ? null : Duplicate(unescaped);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }

        return fault;
    }

    private static PropertiesFault? CheckNumber(ref Utf8JsonReader json)
    {
        ReadOnlySpan<byte> number = json.ValueSpan;
        bool finite =
            (number.Length <= FiniteDigitsMax && number.IndexOfAny((byte)'e', (byte)'E') < 0)
            || (json.TryGetDouble(out double value) && double.IsFinite(value));
        return finite ? null : Invalid("have a number that is out of the range of a double");
    }

    private static PropertiesFault? CheckEscapes(ReadOnlySpan<byte> raw) =>
        JsonEscapes.Find(raw) switch
        {
            EscapeFault.LoneSurrogate => Invalid("have half of a surrogate pair in a name or string"),
            EscapeFault.Null => Invalid("have U+0000 in a name or string"),
            _ => null,
        };

    private static PropertiesFault Duplicate(ReadOnlySpan<byte> name) =>
        new(
            RejectionCodes.InvalidJson,
            $"The properties have the member \"{EventText.Echo(name)}\" twice in one object."
        );

    private static PropertiesFault Invalid(string what) => new(RejectionCodes.InvalidField, $"The properties {what}.");
}
