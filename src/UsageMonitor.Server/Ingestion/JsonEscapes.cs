using System.Buffers.Text;

namespace UsageMonitor.Server.Ingestion;

internal enum EscapeFault
{
    None,
    LoneSurrogate,
    Null,
}

/// <summary>
/// Escapes that JSON's grammar allows but that are no text: half of a surrogate pair, and U+0000, which PostgreSQL's
/// <c>jsonb</c> and <c>text</c> refuse. <see cref="System.Text.Json.Utf8JsonReader"/> throws on the former when asked for the text.
/// </summary>
internal static class JsonEscapes
{
    private const int UnicodeEscapeBytes = 6; // \u0000

    /// <param name="raw">A string token's bytes as sent, which the reader has found to be well-formed escapes.</param>
    public static EscapeFault Find(ReadOnlySpan<byte> raw)
    {
        while (true)
        {
            int at = raw.IndexOf((byte)'\\');
            if (at < 0)
            {
                return EscapeFault.None;
            }

            raw = raw[at..];
            if (!TryReadUnit(raw, out int unit))
            {
                raw = raw[2..];
                continue;
            }

            raw = raw[UnicodeEscapeBytes..];
            if (unit == 0)
            {
                return EscapeFault.Null;
            }

            if (!char.IsSurrogate((char)unit))
            {
                continue;
            }

            if (!char.IsHighSurrogate((char)unit) || !TryReadUnit(raw, out int low) || !char.IsLowSurrogate((char)low))
            {
                return EscapeFault.LoneSurrogate;
            }

            raw = raw[UnicodeEscapeBytes..];
        }
    }

    private static bool TryReadUnit(ReadOnlySpan<byte> raw, out int unit)
    {
        unit = 0;
        return raw.Length >= UnicodeEscapeBytes
            && raw[0] == '\\'
            && raw[1] == 'u'
            && Utf8Parser.TryParse(raw[2..UnicodeEscapeBytes], out unit, out int consumed, 'x')
            && consumed == UnicodeEscapeBytes - 2;
    }
}
