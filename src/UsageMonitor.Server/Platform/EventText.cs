using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>What the texts of an event may be: ids, names and types. Checks and policies are held to the same.</summary>
internal static class EventText
{
    public const int UserIdCharactersMax = 128;
    public const int NameCharactersMax = 100;

    /// <summary>The type of an event that names none.</summary>
    public const string EventTypeDefault = "use";

    public const string Control = "has control characters";
    private const int EchoedCharactersMax = 40;

    /// <param name="value">Valid UTF-8.</param>
    /// <param name="charactersMax">Unicode code points.</param>
    /// <returns>What is wrong, to follow the field's name; null when nothing is.</returns>
    public static string? Fault(ReadOnlySpan<byte> value, int charactersMax)
    {
        // Nearly all names are plain ASCII, which needs no decoding.
        if (
            value.Length > 0
            && value.Length <= charactersMax
            && value[0] != ' '
            && value.IndexOfAnyExceptInRange((byte)' ', (byte)'~') < 0
        )
        {
            return null;
        }

        int characters = 0;
        bool blank = true;
        for (; !value.IsEmpty; characters++)
        {
            Rune.DecodeFromUtf8(value, out Rune rune, out int bytes);
            if (rune.Value is < 0x20 or 0x7F)
            {
                return Control;
            }

            blank = blank && Rune.IsWhiteSpace(rune);
            value = value[bytes..];
        }

        return characters == 0 ? "is empty"
            : characters > charactersMax ? $"has more than {charactersMax} characters"
            : blank ? "is blank"
            : null;
    }

    /// <inheritdoc cref="Fault(ReadOnlySpan{byte}, int)"/>
    public static string? Fault(string value, int charactersMax) => Fault(Encoding.UTF8.GetBytes(value), charactersMax);

    /// <summary>The beginning of a caller's text, for a message.</summary>
    public static string Echo(ReadOnlySpan<byte> utf8)
    {
        var echoed = new StringBuilder();
        foreach (Rune rune in Encoding.UTF8.GetString(utf8).EnumerateRunes())
        {
            if (echoed.Length + rune.Utf16SequenceLength > EchoedCharactersMax)
            {
                return echoed.Append('…').ToString();
            }

            echoed.Append(rune.ToString());
        }

        return echoed.ToString();
    }
}
