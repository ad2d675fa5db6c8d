using System.Globalization;
using System.Text;
using System.Text.Json;

namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>JSON as RFC 8785 writes it: one text for one value, so that its hash can be computed anywhere.</summary>
internal static class CanonicalJson
{
    private const double IntegerMax = 9_007_199_254_740_992; // 2^53

    /// <exception cref="FormatException">A number is not one of IEEE 754, or a text is no Unicode.</exception>
    public static string Of(JsonElement value)
    {
        var text = new StringBuilder();
        Write(text, value);
        return text.ToString();
    }

    /// <inheritdoc cref="Of(JsonElement)"/>
    public static string Of<T>(T value, JsonSerializerOptions options) =>
        Of(JsonSerializer.SerializeToElement(value, options));

    /// <summary>A text as it is hashed.</summary>
    public static byte[] Utf8(string text) => s_strict.GetBytes(text);

    private static readonly UTF8Encoding s_strict = new(false, throwOnInvalidBytes: true);

    private static void Write(StringBuilder text, JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                text.Append('{');
                bool isFirst = true;

                // By UTF-16 code units (RFC 8785, 3.2.3), which is .NET's ordinal order.
                foreach (JsonProperty member in value.EnumerateObject().OrderBy(m => m.Name, StringComparer.Ordinal))
                {
                    Separate(text, ref isFirst);
                    WriteText(text, member.Name);
                    text.Append(':');
                    Write(text, member.Value);
                }

                text.Append('}');
                break;
            case JsonValueKind.Array:
                text.Append('[');
                bool isFirstItem = true;
                foreach (JsonElement item in value.EnumerateArray())
                {
                    Separate(text, ref isFirstItem);
                    Write(text, item);
                }

                text.Append(']');
                break;
            case JsonValueKind.String:
                WriteText(text, value.GetString()!);
                break;
            case JsonValueKind.Number:
                WriteNumber(text, value.GetDouble());
                break;
            case JsonValueKind.True:
                text.Append("true");
                break;
            case JsonValueKind.False:
                text.Append("false");
                break;
            default:
                text.Append("null");
                break;
        }
    }

    private static void Separate(StringBuilder text, ref bool isFirst)
    {
        if (!isFirst)
        {
            text.Append(',');
        }

        isFirst = false;
    }

    private static void WriteText(StringBuilder text, string value)
    {
        text.Append('"');
        foreach (char c in value)
        {
            _ = c switch
            {
                '"' => text.Append("\\\""),
                '\\' => text.Append("\\\\"),
                '\b' => text.Append("\\b"),
                '\f' => text.Append("\\f"),
                '\n' => text.Append("\\n"),
                '\r' => text.Append("\\r"),
                '\t' => text.Append("\\t"),
                < ' ' => text.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => text.Append(c),
            };
        }

        text.Append('"');
    }

    // ECMAScript's Number::toString: .NET finds the same shortest digits and writes them differently.
    private static void WriteNumber(StringBuilder text, double value)
    {
        if (!double.IsFinite(value))
        {
            throw new FormatException("JSON has no such number.");
        }

        if (value == Math.Truncate(value) && Math.Abs(value) < IntegerMax)
        {
            text.Append(((long)value).ToString(CultureInfo.InvariantCulture));
            return;
        }

        if (value < 0)
        {
            text.Append('-');
            value = -value;
        }

        string shortest = value.ToString("R", CultureInfo.InvariantCulture);
        int end = shortest.IndexOf('E', StringComparison.Ordinal);
        string mantissa = end < 0 ? shortest : shortest[..end];
        int exponent =
            end < 0
                ? 0
                : int.Parse(shortest.AsSpan(end + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        int dot = mantissa.IndexOf('.', StringComparison.Ordinal);
        string all = mantissa.Replace(".", "", StringComparison.Ordinal);
        string digits = all.TrimStart('0');

        // Where the decimal point stands: n of ECMA-262, 6.1.6.1.20.
        int point = (dot < 0 ? mantissa.Length : dot) + exponent - (all.Length - digits.Length);
        digits = digits.TrimEnd('0');
        if (point is > 0 and <= 21)
        {
            text.Append(digits.Length <= point ? digits.PadRight(point, '0') : $"{digits[..point]}.{digits[point..]}");
        }
        else if (point is > -6 and <= 0)
        {
            text.Append("0.").Append('0', -point).Append(digits);
        }
        else
        {
            text.Append(digits[0]);
            if (digits.Length > 1)
            {
                text.Append('.').Append(digits, 1, digits.Length - 1);
            }

            text.Append('e')
                .Append(point > 0 ? '+' : '-')
                .Append(Math.Abs(point - 1).ToString(CultureInfo.InvariantCulture));
        }
    }
}
