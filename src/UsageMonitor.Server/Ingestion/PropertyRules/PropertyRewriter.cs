using System.Buffers;
using System.Text.Json;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>What happened to a property.</summary>
/// <param name="Path">Names apart by dots.</param>
/// <param name="Action">Not <see cref="PropertyAction.Allow"/>.</param>
/// <param name="Because">Why: one of the constants of <see cref="PropertyRewriter"/>.</param>
internal readonly record struct PropertyChange(string Path, PropertyAction Action, string Because);

/// <summary>
/// Writes an event's properties anew without what the rules drop, and with masks for what they mask; one pass, and whatever is kept
/// is kept byte for byte. Of an object or array that is kept, what is in it is looked at in the same way: nothing gets past a rule
/// by lying deeper.
/// </summary>
/// <remarks>
/// The properties have passed <see cref="EventProperties"/>: they are JSON, at most <see cref="EventProperties.DepthMax"/> deep. What
/// this writes is not longer than an event may be: a mask that finds no room is left out like a dropped value.
/// </remarks>
internal sealed class PropertyRewriter(PropertyRuleSet rules, PropertyMask mask, List<PropertyChange>? changes = null)
{
    public const string ByRule = "RULE";
    public const string ByDefault = "DEFAULT";
    public const string AsEmail = "EMAIL";
    public const string AsCard = "CARD";
    public const string AsToken = "TOKEN";
    public const string ForWantOfRoom = "ROOM";

    private readonly List<string> _path = [];
    private string _feature = "";
    private int _room;
    private bool _isChanged;

    /// <returns>The same memory when nothing is changed; empty when no member is left.</returns>
    public ReadOnlyMemory<byte> Rewrite(ReadOnlyMemory<byte> properties, string featureName)
    {
        _feature = featureName;
        _room = EventReader.EventBytesMax - properties.Length;
        _isChanged = false;
        _path.Clear();
        var output = new ArrayBufferWriter<byte>(properties.Length + PropertyMask.Bytes);
        var json = new Utf8JsonReader(properties.Span);
        json.Read();
        int members = WriteObject(ref json, output, rules.Defaults.Default, isExempt: false);
        return !_isChanged ? properties
            : members == 0 ? default
            : output.WrittenMemory;
    }

    private int WriteObject(
        ref Utf8JsonReader json,
        ArrayBufferWriter<byte> output,
        PropertyAction otherwise,
        bool isExempt
    )
    {
        Write(output, (byte)'{');
        int members = 0;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            ReadOnlySpan<byte> rawName = json.ValueSpan;
            (PropertyAction action, bool isExact, string because) = Judge(ref json, otherwise, isExempt);
            json.Read();
            action = Judge(ref json, action, isExempt || isExact, ref because);
            if (!HasRoom(ref json, ref action, ref because))
            {
                Leave(ref json, action, because);
            }
            else
            {
                if (members++ > 0)
                {
                    Write(output, (byte)',');
                }

                Write(output, (byte)'"');
                output.Write(rawName);
                output.Write("\":"u8);
                WriteValue(ref json, output, action, because, isExempt || isExact);
            }

            if (changes is not null)
            {
                _path.RemoveAt(_path.Count - 1);
            }
        }

        Write(output, (byte)'}');
        return members;
    }

    private void WriteArray(ref Utf8JsonReader json, ArrayBufferWriter<byte> output, bool isExempt)
    {
        Write(output, (byte)'[');
        int items = 0;
        while (json.Read() && json.TokenType != JsonTokenType.EndArray)
        {
            string because = "";
            PropertyAction action = Judge(ref json, PropertyAction.Allow, isExempt, ref because);
            if (!HasRoom(ref json, ref action, ref because))
            {
                Leave(ref json, action, because);
                continue;
            }

            if (items++ > 0)
            {
                Write(output, (byte)',');
            }

            WriteValue(ref json, output, action, because, isExempt);
        }

        Write(output, (byte)']');
    }

    private void WriteValue(
        ref Utf8JsonReader json,
        ArrayBufferWriter<byte> output,
        PropertyAction action,
        string because,
        bool isExempt
    )
    {
        if (action == PropertyAction.Mask)
        {
            Note(action, because);
            mask.Write(ref json, output);
            return;
        }

        switch (json.TokenType)
        {
            // What a kept object holds is kept unless a rule is about it, whatever happens to others outside.
            case JsonTokenType.StartObject:
                WriteObject(ref json, output, PropertyAction.Allow, isExempt);
                break;
            case JsonTokenType.StartArray:
                WriteArray(ref json, output, isExempt);
                break;
            case JsonTokenType.String:
                Write(output, (byte)'"');
                output.Write(json.ValueSpan);
                Write(output, (byte)'"');
                break;
            default:
                output.Write(json.ValueSpan);
                break;
        }
    }

    /// <summary>What the rules say of a member by its name, and whether its content is exempt from being recognised.</summary>
    private (PropertyAction Action, bool IsExact, string Because) Judge(
        ref Utf8JsonReader json,
        PropertyAction otherwise,
        bool isExempt
    )
    {
        char[] rented = ArrayPool<char>.Shared.Rent(json.ValueSpan.Length);
        ReadOnlySpan<char> name = rented.AsSpan(0, json.CopyString(rented));
        NameVerdict? verdict = rules.Names.Find(name, _feature);
        if (changes is not null)
        {
            _path.Add(new string(name));
        }

        ArrayPool<char>.Shared.Return(rented);
        (PropertyAction Action, bool IsExact, string Because) judged = verdict is { } said
            ? (said.Action, said.IsExact && said.Action == PropertyAction.Allow, ByRule)
            : (otherwise, false, ByDefault);

        // A name can be an address too; a mask would leave it standing.
        return judged.Action != PropertyAction.Drop && !judged.IsExact && !isExempt && Recognise(ref json) is { } seen
            ? (PropertyAction.Drop, false, seen.Because)
            : judged;
    }

    /// <summary>What happens to a value that may be kept, by what it looks like.</summary>
    private PropertyAction Judge(ref Utf8JsonReader json, PropertyAction action, bool isExempt, ref string because)
    {
        if (action != PropertyAction.Allow || isExempt || Recognise(ref json) is not { } seen)
        {
            return action;
        }

        because = seen.Because;
        return seen.Action;
    }

    private (PropertyAction Action, string Because)? Recognise(ref Utf8JsonReader json)
    {
        StoredPropertyDefaults defaults = rules.Defaults;
        if (json.TokenType == JsonTokenType.Number)
        {
            return defaults.Cards != PropertyAction.Allow && ValueLooks.HasCard(json.ValueSpan)
                ? (defaults.Cards, AsCard)
                : null;
        }

        bool isText = json.TokenType is JsonTokenType.String or JsonTokenType.PropertyName;
        if (!isText || (defaults.Emails | defaults.Cards | defaults.Tokens) == PropertyAction.Allow)
        {
            return null;
        }

        if (!json.ValueIsEscaped)
        {
            return Recognise(json.ValueSpan, defaults);
        }

        byte[] rented = ArrayPool<byte>.Shared.Rent(json.ValueSpan.Length);
        (PropertyAction, string)? seen = Recognise(rented.AsSpan(0, json.CopyString(rented)), defaults);
        ArrayPool<byte>.Shared.Return(rented, clearArray: true);
        return seen;
    }

    // The strictest of what is seen: a text with a token to be dropped is dropped, also when its address would be masked.
    private static (PropertyAction Action, string Because)? Recognise(
        ReadOnlySpan<byte> text,
        StoredPropertyDefaults defaults
    )
    {
        (PropertyAction Action, string Because)? seen = null;
        if (defaults.Emails != PropertyAction.Allow && ValueLooks.HasEmail(text))
        {
            seen = (defaults.Emails, AsEmail);
        }

        if (defaults.Cards > (seen?.Action ?? PropertyAction.Allow) && ValueLooks.HasCard(text))
        {
            seen = (defaults.Cards, AsCard);
        }

        return defaults.Tokens > (seen?.Action ?? PropertyAction.Allow) && ValueLooks.HasToken(text)
            ? (defaults.Tokens, AsToken)
            : seen;
    }

    /// <summary>Whether the value is written at all.</summary>
    private bool HasRoom(ref Utf8JsonReader json, ref PropertyAction action, ref string because)
    {
        if (action != PropertyAction.Mask)
        {
            return action == PropertyAction.Allow;
        }

        // Only scalars can be shorter than their mask by more than the brackets; what is saved elsewhere is not counted.
        int longer = PropertyMask.Bytes - json.ValueSpan.Length;
        if (longer > _room)
        {
            (action, because) = (PropertyAction.Drop, ForWantOfRoom);
            return false;
        }

        _room -= Math.Max(0, longer);
        return true;
    }

    private void Leave(ref Utf8JsonReader json, PropertyAction action, string because)
    {
        Note(action, because);
        json.Skip();
    }

    private void Note(PropertyAction action, string because)
    {
        _isChanged = true;
        changes?.Add(new PropertyChange(string.Join('.', _path), action, because));
    }

    private static void Write(ArrayBufferWriter<byte> output, byte one)
    {
        output.GetSpan(1)[0] = one;
        output.Advance(1);
    }
}
