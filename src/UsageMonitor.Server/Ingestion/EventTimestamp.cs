namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// Instants as events carry them: ISO 8601 with an offset, <c>2026-01-31T09:30[:15[.123456789]](Z|±hh[[:]mm])</c>. The T may
/// be a space; T and Z may be lower case; digits of the fraction beyond microseconds are dropped. The calendar is strict:
/// no 30 February, no hour 24, no second 60.
/// </summary>
internal static class EventTimestamp
{
    public const long MicrosecondsPerSecond = 1_000_000;
    private const int DateAndMinuteBytes = 16; // 2026-01-31T09:30
    private const int FractionDigits = 6;

    /// <summary>Microseconds since 1970-01-01Z, rounded down.</summary>
    public static long FromInstant(DateTimeOffset instant) =>
        Math.DivRem(instant.UtcTicks - DateTimeOffset.UnixEpoch.Ticks, TimeSpan.TicksPerMicrosecond) switch
        {
            (long quotient, < 0) => quotient - 1,
            (long quotient, _) => quotient,
        };

    /// <param name="text">The whole text: nothing may stand before or after the instant.</param>
    /// <param name="microseconds">Microseconds since 1970-01-01Z.</param>
    public static bool TryParse(ReadOnlySpan<byte> text, out long microseconds)
    {
        microseconds = 0;
        if (
            text.Length <= DateAndMinuteBytes
            || text[4] != '-'
            || text[7] != '-'
            || text[10] is not ((byte)'T' or (byte)'t' or (byte)' ')
            || text[13] != ':'
            || !TryDigits(text[..4], out int year)
            || !TryDigits(text[5..7], out int month)
            || !TryDigits(text[8..10], out int day)
            || !TryDigits(text[11..13], out int hour)
            || !TryDigits(text[14..16], out int minute)
            || year == 0
            || month is 0 or > 12
            || day == 0
            || day > DateTime.DaysInMonth(year, month)
            || hour > 23
            || minute > 59
        )
        {
            return false;
        }

        text = text[DateAndMinuteBytes..];
        if (!TrySecond(ref text, out int second, out int fraction) || !TryOffset(text, out int offsetMinutes))
        {
            return false;
        }

        long days = new DateOnly(year, month, day).DayNumber - DateOnly.FromDateTime(DateTime.UnixEpoch).DayNumber;
        long minutes = (days * 24 + hour) * 60 + minute - offsetMinutes;
        microseconds = (minutes * 60 + second) * MicrosecondsPerSecond + fraction;
        return true;
    }

    private static bool TrySecond(ref ReadOnlySpan<byte> text, out int second, out int fraction)
    {
        second = 0;
        fraction = 0;
        if (text[0] != ':')
        {
            return true;
        }

        if (text.Length < 3 || !TryDigits(text[1..3], out second) || second > 59)
        {
            return false;
        }

        text = text[3..];
        if (text.IsEmpty || text[0] != '.')
        {
            return true;
        }

        int digits = text[1..].IndexOfAnyExceptInRange((byte)'0', (byte)'9');
        if (digits <= 0)
        {
            return false; // no digit, or nothing after the digits
        }

        for (int place = 1; place <= FractionDigits; place++)
        {
            fraction = fraction * 10 + (place <= digits ? text[place] - '0' : 0);
        }

        text = text[(1 + digits)..];
        return true;
    }

    private static bool TryOffset(ReadOnlySpan<byte> text, out int minutes)
    {
        minutes = 0;
        if (text is [(byte)'Z' or (byte)'z'])
        {
            return true;
        }

        if (
            text.Length is not (3 or 5 or 6)
            || text[0] is not ((byte)'+' or (byte)'-')
            || !TryDigits(text[1..3], out int hours)
            || hours > 23
        )
        {
            return false;
        }

        int minute = 0;
        if (text.Length > 3 && (!TryDigits(text[^2..], out minute) || minute > 59))
        {
            return false;
        }

        if (text.Length == 6 && text[3] != ':')
        {
            return false;
        }

        minutes = hours * 60 + minute;
        minutes = text[0] == '-' ? -minutes : minutes;
        return true;
    }

    private static bool TryDigits(ReadOnlySpan<byte> text, out int value)
    {
        value = 0;
        foreach (byte character in text)
        {
            int digit = character - '0';
            if ((uint)digit > 9)
            {
                return false;
            }

            value = value * 10 + digit;
        }

        return true;
    }
}
