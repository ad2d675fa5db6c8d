namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary>Tells whether a text has in it what looks like an e-mail address, a payment card's number or a secret token. One pass each.</summary>
internal static class ValueLooks
{
    private const int CardDigitsMin = 13;
    private const int CardDigitsMax = 19;
    private const int TokenTailMin = 16;

    public static bool HasEmail(ReadOnlySpan<byte> text)
    {
        for (int i = 1; i < text.Length; i++)
        {
            // %40 is an @ in an address line.
            int sign =
                text[i] == '@' ? 1
                : text[i..].StartsWith("%40"u8) ? 3
                : 0;
            if (sign > 0 && IsLocal(text[i - 1]) && BeginsWithDomain(text[(i + sign)..]))
            {
                return true;
            }
        }

        return false;
    }

    private static bool BeginsWithDomain(ReadOnlySpan<byte> text)
    {
        int afterDot = -1;
        for (int i = 0; i < text.Length; i++)
        {
            byte c = text[i];
            if (c == '.')
            {
                if (i == 0)
                {
                    return false;
                }

                afterDot = 0;
            }
            else if (IsWord(c) || c == '-')
            {
                if (afterDot >= 0 && ++afterDot == 2)
                {
                    return true;
                }
            }
            else
            {
                return false;
            }
        }

        return false;
    }

    /// <summary>
    /// 13 to 19 digits in groups, apart by one space or dash at most, that begin as an issuer's numbers do and pass Luhn's check
    /// (ISO/IEC 7812-1, annex B). So a time in milliseconds is none.
    /// </summary>
    public static bool HasCard(ReadOnlySpan<byte> text)
    {
        // The digits of the present run of groups, as many as a number may have at most, and which of them begin a group.
        Span<byte> digits = stackalloc byte[CardDigitsMax];
        Span<bool> begins = stackalloc bool[CardDigitsMax];
        int count = 0;
        for (int i = 0; i < text.Length; i++)
        {
            if (!char.IsAsciiDigit((char)text[i]))
            {
                bool joins =
                    text[i] is (byte)' ' or (byte)'-'
                    && i > 0
                    && char.IsAsciiDigit((char)text[i - 1])
                    && i + 1 < text.Length
                    && char.IsAsciiDigit((char)text[i + 1]);
                count = joins ? count : 0;
                continue;
            }

            if (count == CardDigitsMax)
            {
                digits[1..].CopyTo(digits);
                begins[1..].CopyTo(begins);
                count--;
            }

            digits[count] = (byte)(text[i] - '0');
            begins[count] = i == 0 || !char.IsAsciiDigit((char)text[i - 1]);
            count++;
            bool endsGroup = i + 1 == text.Length || !char.IsAsciiDigit((char)text[i + 1]);
            for (int start = 0; endsGroup && count - start >= CardDigitsMin; start++)
            {
                if (begins[start] && IsCard(digits[start..count]))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private static bool IsCard(ReadOnlySpan<byte> digits)
    {
        int two = digits[0] * 10 + digits[1];
        int four = two * 100 + digits[2] * 10 + digits[3];
        bool isIssued = digits.Length switch
        {
            13 => digits[0] == 4,
            14 => two is 30 or 36 or 38 or 39,
            15 => two is 34 or 37,
            16 => digits[0] == 4
                || two is (>= 50 and <= 58) or 35 or (>= 60 and <= 69) or 81 or 82
                || four is >= 2221 and <= 2720,
            _ => (digits.Length == 19 && digits[0] == 4) || two is 50 or (>= 56 and <= 69),
        };
        if (!isIssued)
        {
            return false;
        }

        int sum = 0;
        for (int i = 0; i < digits.Length; i++)
        {
            int digit = digits[^(i + 1)];
            int doubled = digit > 4 ? (digit * 2) - 9 : digit * 2;
            sum += i % 2 == 0 ? digit : doubled;
        }

        return sum % 10 == 0;
    }

    /// <summary>A word that begins as keys of well-known services do (and our own) and goes on long enough, or a signed token, or a PEM block.</summary>
    public static bool HasToken(ReadOnlySpan<byte> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if ((i == 0 || !IsTokenByte(text[i - 1])) && BeginsWithToken(text[i..]))
            {
                return true;
            }
        }

        return false;
    }

    private static bool BeginsWithToken(ReadOnlySpan<byte> text)
    {
        if (text[0] == '-')
        {
            return text.StartsWith("-----BEGIN "u8);
        }

        int begin = text[0] switch
        {
            (byte)'A' when text.StartsWith("AKIA"u8) || text.StartsWith("ASIA"u8) || text.StartsWith("AIza"u8) => 4,
            (byte)'e' when text.StartsWith("eyJ"u8) => 3,
            (byte)'g' when text.StartsWith("github_pat_"u8) => 11,
            (byte)'g' when text.StartsWith("glpat-"u8) => 6,
            (byte)'g' when text.Length > 4 && text[1] == 'h' && text[3] == '_' && "pousr"u8.Contains(text[2]) => 4,
            (byte)'s' or (byte)'r' when text.Length > 8 && text[1..].StartsWith("k_live_"u8) => 8,
            (byte)'s' when text.StartsWith("sk-"u8) => 3,
            (byte)'u' when text.StartsWith("um_"u8) => 3,
            (byte)'x' when text.Length > 5 && text.StartsWith("xox"u8) && text[4] == '-' => 5,
            _ => 0,
        };
        if (begin == 0)
        {
            return false;
        }

        int tail = 0;
        int dots = 0;
        while (begin + tail < text.Length && IsTokenByte(text[begin + tail]))
        {
            dots += text[begin + tail++] == '.' ? 1 : 0;
        }

        return tail >= TokenTailMin && (text[0] != 'e' || dots >= 2);
    }

    private static bool IsWord(byte c) => char.IsAsciiLetterOrDigit((char)c) || c >= 0x80;

    private static bool IsLocal(byte c) => IsWord(c) || ".!#$%&'*+/=?^_`{|}~-\""u8.Contains(c);

    private static bool IsTokenByte(byte c) =>
        char.IsAsciiLetterOrDigit((char)c) || c is (byte)'_' or (byte)'-' or (byte)'.';
}
