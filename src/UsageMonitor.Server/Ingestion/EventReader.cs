using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// Reads and checks one event after the other, each in one pass over its tokens and without recursion. The bytes must be
/// valid UTF-8.
/// </summary>
/// <remarks>
/// Of several faults the first in this order is reported: the event's size; a malformed or duplicate name of its members;
/// then by field: eventId, userId, featureName, eventType, eventTimestamp, properties (and within these, the first fault).
/// </remarks>
internal sealed class EventReader(Guid enterpriseId, DateTimeOffset now, bool mayBackfill)
{
    /// <summary>From the event's opening brace to its closing one.</summary>
    public const int EventBytesMax = 32 * 1024;
    public const int UserIdCharactersMax = EventText.UserIdCharactersMax;
    public const int NameCharactersMax = EventText.NameCharactersMax;
    private const int EscapedCharacterBytesMax = 12; // a surrogate pair, \ud83d\ude00

    private readonly TimestampWindow _window = new(now, mayBackfill);
    private readonly MemberNames _names = new();
    private readonly EventProperties _properties = new();
    private readonly byte[] _unescaped = new byte[UserIdCharactersMax * EscapedCharacterBytesMax];

    private int _seen;
    private Field _faultField;
    private string _faultCode = "";
    private string _faultDetail = "";
    private Guid _userId;
    private string? _externalId;
    private string? _featureName;
    private string? _eventType;
    private long _timestamp;
    private ReadOnlyMemory<byte> _propertiesText;

    /// <summary>In the order in which faults are reported; <see cref="Event"/> is the event as a whole.</summary>
    private enum Field
    {
        Event,
        EventId,
        UserId,
        FeatureName,
        EventType,
        EventTimestamp,
        Properties,
        Unknown,
    }

    /// <summary>The current event's id, as far as it has been read.</summary>
    public Guid? EventId { get; private set; }

    /// <param name="text">The bytes that <paramref name="json"/> reads.</param>
    /// <param name="json">Stands on the event's opening brace, and afterwards on its closing one.</param>
    /// <param name="index">The event's place in the request.</param>
    /// <param name="parsed">The event, when null is returned.</param>
    /// <exception cref="JsonException">The text is not JSON.</exception>
    public RejectedEvent? Read(ReadOnlyMemory<byte> text, ref Utf8JsonReader json, int index, out ParsedEvent parsed)
    {
        Reset();
        parsed = default;
        long bytesEnd = json.TokenStartIndex + EventBytesMax;
        int depth = json.CurrentDepth;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            if (json.BytesConsumed <= bytesEnd)
            {
                ReadMember(text, ref json, depth, bytesEnd);
            }
            else
            {
                json.Skip();
            }
        }

        if (json.BytesConsumed > bytesEnd)
        {
            return TooLarge(index, EventId);
        }

        if (!Seen(Field.UserId))
        {
            Missing(Field.UserId);
        }

        if (!Seen(Field.FeatureName))
        {
            Missing(Field.FeatureName);
        }

        if (_faultCode.Length > 0)
        {
            return new RejectedEvent(index, EventId, _faultCode, _faultDetail);
        }

        parsed = new ParsedEvent(
            EventId ?? Guid.CreateVersion7(now),
            _userId,
            _externalId,
            _featureName!,
            _eventType!,
            _timestamp,
            _propertiesText
        );
        return null;
    }

    public static RejectedEvent TooLarge(int index, Guid? eventId) =>
        new(
            index,
            eventId,
            RejectionCodes.EventTooLarge,
            $"The event is larger than {EventBytesMax / 1024} KB of JSON text."
        );

    private void Reset()
    {
        _seen = 0;
        _faultField = Field.Unknown;
        _faultCode = "";
        _faultDetail = "";
        _eventType = EventText.EventTypeDefault;
        _timestamp = _window.Now;
        _propertiesText = default;
        EventId = null;
        _names.Clear();
    }

    private void ReadMember(ReadOnlyMemory<byte> text, ref Utf8JsonReader json, int depth, long bytesEnd)
    {
        Field field = ReadName(ref json);
        json.Read();
        if (field == Field.Unknown || json.BytesConsumed > bytesEnd)
        {
            // Ignored; of an event that is too large already, every field is.
        }
        else if (json.TokenType == JsonTokenType.Null)
        {
            if (field is Field.UserId or Field.FeatureName)
            {
                Missing(field);
            }
        }
        else if (field == Field.Properties)
        {
            ReadProperties(text, ref json, depth, bytesEnd);
        }
        else if (json.TokenType != JsonTokenType.String)
        {
            Invalid(field, "must be a string");
        }
        else
        {
            ReadText(field, ref json);
        }

        json.Skip(); // what has not been walked through; nothing for a scalar or a closing brace
    }

    /// <returns><see cref="Field.Unknown"/> also for a name that is malformed or has been seen: its value is not read.</returns>
    private Field ReadName(ref Utf8JsonReader json)
    {
        ReadOnlySpan<byte> name = json.ValueSpan;
        if (json.ValueIsEscaped)
        {
            if (JsonEscapes.Find(name) != EscapeFault.None)
            {
                Fault(
                    Field.Event,
                    RejectionCodes.InvalidJson,
                    "A member's name has half of a surrogate pair or U+0000."
                );
                return Field.Unknown;
            }

            byte[] unescaped = name.Length <= _unescaped.Length ? _unescaped : new byte[name.Length];
            name = unescaped.AsSpan(0, json.CopyString(unescaped));
        }

        Field field = name.Length switch
        {
            7 when name.SequenceEqual("eventId"u8) => Field.EventId,
            6 when name.SequenceEqual("userId"u8) => Field.UserId,
            11 when name.SequenceEqual("featureName"u8) => Field.FeatureName,
            9 when name.SequenceEqual("eventType"u8) => Field.EventType,
            14 when name.SequenceEqual("eventTimestamp"u8) => Field.EventTimestamp,
            10 when name.SequenceEqual("properties"u8) => Field.Properties,
            _ => Field.Unknown,
        };
        if (field == Field.Unknown ? _names.Add(0, name) : !Seen(field))
        {
            _seen |= 1 << (int)field;
            return field;
        }

        Fault(Field.Event, RejectionCodes.InvalidJson, $"The member \"{EventText.Echo(name)}\" appears twice.");
        return Field.Unknown;
    }

    private void ReadProperties(ReadOnlyMemory<byte> text, ref Utf8JsonReader json, int depth, long bytesEnd)
    {
        if (json.TokenType != JsonTokenType.StartObject)
        {
            Invalid(Field.Properties, "must be an object");
            return;
        }

        long start = json.TokenStartIndex;
        switch (_properties.Check(ref json, depth, bytesEnd, _names, out bool empty))
        {
            case null:
                _propertiesText = empty ? default : text[(int)start..(int)json.BytesConsumed];
                break;
            case { } fault:
                Fault(Field.Properties, fault.Code, fault.Detail);
                break;
        }
    }

    private void ReadText(Field field, ref Utf8JsonReader json)
    {
        ReadOnlySpan<byte> value = json.ValueSpan;
        int charactersMax = field is Field.UserId ? UserIdCharactersMax : NameCharactersMax;
        if (value.Length > charactersMax * EscapedCharacterBytesMax)
        {
            Invalid(field, $"has more than {charactersMax} characters");
            return;
        }

        if (json.ValueIsEscaped)
        {
            if (JsonEscapes.Find(value) is var fault and not EscapeFault.None)
            {
                Invalid(field, fault == EscapeFault.Null ? EventText.Control : "has half of a surrogate pair");
                return;
            }

            value = _unescaped.AsSpan(0, json.CopyString(_unescaped));
        }

        switch (field)
        {
            case Field.EventId when UserIds.TryParseUuid(value, out Guid eventId):
                EventId = eventId;
                if (eventId == Guid.Empty)
                {
                    Invalid(field, "is the nil UUID, which stands for no event at all");
                }

                break;
            case Field.EventId:
                Invalid(field, "is not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
                break;
            case Field.EventTimestamp:
                ReadTimestamp(value);
                break;
            case var _ when EventText.Fault(value, charactersMax) is { } problem:
                Invalid(field, problem);
                break;
            case Field.UserId:
                _userId = UserIds.Resolve(enterpriseId, value, out _externalId);
                break;
            case Field.FeatureName:
                _featureName = NameCache.Get(value);
                break;
            case Field.EventType:
                _eventType = NameCache.Get(value);
                break;
        }
    }

    private void ReadTimestamp(ReadOnlySpan<byte> value)
    {
        if (!EventTimestamp.TryParse(value, out _timestamp))
        {
            Invalid(Field.EventTimestamp, "is not an ISO 8601 date and time with an offset, like 2026-01-31T09:30:00Z");
        }
        else if (_window.Check(_timestamp) is { } code)
        {
            Fault(Field.EventTimestamp, code, TimestampWindow.Describe(code));
        }
    }

    private bool Seen(Field field) => (_seen & (1 << (int)field)) != 0;

    private void Missing(Field field) => Fault(field, RejectionCodes.MissingField, $"{Name(field)} is missing.");

    private void Invalid(Field field, string what) =>
        Fault(field, RejectionCodes.InvalidField, $"{Name(field)} {what}.");

    private void Fault(Field field, string code, string detail)
    {
        if (_faultCode.Length == 0 || field < _faultField)
        {
            (_faultField, _faultCode, _faultDetail) = (field, code, detail);
        }
    }

    private static string Name(Field field) => JsonNamingPolicy.CamelCase.ConvertName(field.ToString());
}
