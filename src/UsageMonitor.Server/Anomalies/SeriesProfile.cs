using System.Buffers.Binary;

namespace UsageMonitor.Server.Anomalies;

/// <summary>
/// What came of a series in each local hour of the last weeks, and in what gaps it arrives: enough to say that nothing has come for
/// longer than can be by chance. Constant in size; everything is in <see cref="ToArray"/>.
/// </summary>
/// <remarks>
/// Silence is measured not in minutes but in events that should have come meanwhile, by the least that the same hours of the last
/// weeks had. So a night or a Sunday on which never anything comes adds nothing to it. If events came one by one, a silence of n
/// expected events would have the probability e⁻ⁿ; they come in bursts, so it must also be several times the longest silence ever seen.
/// </remarks>
internal sealed class SeriesProfile
{
    /// <summary>Looks that saw something new, before silence says anything.</summary>
    public const int ArrivalsMin = 20;

    /// <summary>How many times the longest silence.</summary>
    public const double GapFactor = 3;

    /// <summary>Time between two looks that counts as watched; a longer one was nobody's silence but ours.</summary>
    public static readonly TimeSpan WatchedMax = TimeSpan.FromMinutes(10);

    /// <summary>No silence is shorter.</summary>
    public static readonly TimeSpan SilenceMin = TimeSpan.FromMinutes(3);

    public const int HoursOfWeek = 168;
    private const byte Version = 1;
    private const int Weeks = 4;
    private const int WeeksKnownMin = 3;
    private const int CountsBytes = HoursOfWeek * Weeks;
    private const int StateBytes = 1 + CountsBytes + (8 * sizeof(long)) + sizeof(int) + 1;
    private const double StepsPerDoubling = 8;

    // Two weeks take half of it: who begins to send in smaller batches is watched more closely again.
    private const double GapKeptPerHour = 0.998;

    private readonly byte[] _counts = new byte[CountsBytes];
    private DateTime _lookedAt;
    private DateTime _seenHour;
    private long _seenThere;
    private long _seenBefore;
    private double _longestGap;

    /// <summary>When something was last seen to come.</summary>
    public DateTime LastArrival { get; private set; }

    /// <summary>Events that should have come since.</summary>
    public double Missing { get; private set; }

    /// <summary>Looks that saw something new.</summary>
    public int Arrivals { get; private set; }

    /// <summary>Silence was found, and has not ended.</summary>
    public bool IsStopped { get; set; }

    /// <summary>When the last silence that was found ended: the hour around it is short of events, and that is no drop.</summary>
    public DateTime SilentUntil { get; private set; }

    /// <summary>Takes in a finished hour.</summary>
    public void Learn(int hourOfWeek, long count)
    {
        Span<byte> slot = _counts.AsSpan(hourOfWeek * Weeks, Weeks);
        slot[..^1].CopyTo(slot[1..]);
        slot[0] = (byte)Math.Min(byte.MaxValue, 1 + Math.Floor(StepsPerDoubling * Math.Log2(1 + count)));
        _longestGap *= GapKeptPerHour;
    }

    /// <summary>Events that an hour can be relied upon to have: the least of the weeks that are known.</summary>
    public double LeastOf(int hourOfWeek)
    {
        ReadOnlySpan<byte> slot = _counts.AsSpan(hourOfWeek * Weeks, Weeks);
        return slot[WeeksKnownMin - 1] == 0 ? 0 : CountOf(slot[3] == 0 ? Least(slot[..3]) : Least(slot));
    }

    /// <summary>The most that an hour of the week had in the weeks that are known; nothing is too much while they are not.</summary>
    public double MostOf(int hourOfWeek)
    {
        ReadOnlySpan<byte> slot = _counts.AsSpan(hourOfWeek * Weeks, Weeks);
        byte most = 0;
        foreach (byte count in slot)
        {
            most = Math.Max(most, count);
        }

        return slot[1] == 0 ? double.PositiveInfinity : CountOf(most);
    }

    /// <summary>Looks at the counts of the running hour and the one before, complete up to an instant.</summary>
    /// <param name="through">Everything received until then is counted.</param>
    /// <param name="hour">The hour of that instant.</param>
    /// <param name="count">What it has so far.</param>
    /// <param name="before">What the hour before it has.</param>
    /// <param name="missed">Events that should have come between two instants, by the clock of the enterprise.</param>
    /// <returns>Whether something new has come.</returns>
    public bool Look(DateTime through, DateTime hour, long count, long before, Func<DateTime, DateTime, double> missed)
    {
        if (_lookedAt == default)
        {
            (_lookedAt, LastArrival) = (through, through);
            See(hour, count, before);
            return false;
        }

        if (through <= _lookedAt)
        {
            return false; // processing is behind: nothing is known of the time since
        }

        TimeSpan passed = through - _lookedAt;
        bool arrived =
            hour == _seenHour ? count > _seenThere || before > _seenBefore
            : passed < TimeSpan.FromHours(2) ? count > 0 || before > _seenThere
            : count > 0 || before > 0;
        double meanwhile = passed <= WatchedMax ? missed(_lookedAt, through) : 0;
        if (arrived)
        {
            // A silence that was told of must not become what is usual.
            _longestGap = IsStopped ? _longestGap : Math.Max(_longestGap, Missing + meanwhile);
            (Missing, LastArrival) = (0, through);
            Arrivals = Math.Min(Arrivals + 1, int.MaxValue - 1);
        }
        else
        {
            Missing += meanwhile;
        }

        _lookedAt = through;
        See(hour, count, before);
        return arrived;
    }

    /// <summary>Ends a silence, be it that something has come or that another tells of it.</summary>
    public void EndSilence(DateTime at)
    {
        (IsStopped, Missing) = (false, 0);
        SilentUntil = at;
    }

    /// <summary>Whether nothing has come for longer than can be by chance.</summary>
    public bool IsSilent(double missingMin) =>
        Arrivals >= ArrivalsMin
        && Missing >= Math.Max(missingMin, GapFactor * _longestGap)
        && _lookedAt - LastArrival >= SilenceMin;

    public byte[] ToArray()
    {
        byte[] state = new byte[StateBytes];
        state[0] = Version;
        _counts.CopyTo(state.AsSpan(1));
        Span<byte> rest = state.AsSpan(1 + CountsBytes);
        BinaryPrimitives.WriteInt64LittleEndian(rest, _lookedAt.Ticks);
        BinaryPrimitives.WriteInt64LittleEndian(rest[8..], _seenHour.Ticks);
        BinaryPrimitives.WriteInt64LittleEndian(rest[16..], _seenThere);
        BinaryPrimitives.WriteInt64LittleEndian(rest[24..], _seenBefore);
        BinaryPrimitives.WriteDoubleLittleEndian(rest[32..], _longestGap);
        BinaryPrimitives.WriteInt64LittleEndian(rest[40..], LastArrival.Ticks);
        BinaryPrimitives.WriteDoubleLittleEndian(rest[48..], Missing);
        BinaryPrimitives.WriteInt32LittleEndian(rest[56..], Arrivals);
        BinaryPrimitives.WriteInt64LittleEndian(rest[60..], SilentUntil.Ticks);
        rest[68] = IsStopped ? (byte)1 : (byte)0;
        return state;
    }

    /// <exception cref="FormatException">No state of this version.</exception>
    public static SeriesProfile Read(ReadOnlySpan<byte> state)
    {
        if (state.Length != StateBytes || state[0] != Version)
        {
            throw new FormatException("This is no profile of a series, or one of another version.");
        }

        var profile = new SeriesProfile();
        state.Slice(1, CountsBytes).CopyTo(profile._counts);
        ReadOnlySpan<byte> rest = state[(1 + CountsBytes)..];
        profile._lookedAt = Instant(rest);
        profile._seenHour = Instant(rest[8..]);
        profile._seenThere = BinaryPrimitives.ReadInt64LittleEndian(rest[16..]);
        profile._seenBefore = BinaryPrimitives.ReadInt64LittleEndian(rest[24..]);
        profile._longestGap = BinaryPrimitives.ReadDoubleLittleEndian(rest[32..]);
        profile.LastArrival = Instant(rest[40..]);
        profile.Missing = BinaryPrimitives.ReadDoubleLittleEndian(rest[48..]);
        profile.Arrivals = BinaryPrimitives.ReadInt32LittleEndian(rest[56..]);
        profile.SilentUntil = Instant(rest[60..]);
        profile.IsStopped = rest[68] != 0;
        return profile;
    }

    private void See(DateTime hour, long count, long before) =>
        (_seenHour, _seenThere, _seenBefore) = (hour, count, before);

    private static byte Least(ReadOnlySpan<byte> slot)
    {
        byte least = byte.MaxValue;
        foreach (byte count in slot)
        {
            least = Math.Min(least, count);
        }

        return least;
    }

    private static double CountOf(byte stored) => Math.Pow(2, (stored - 1) / StepsPerDoubling) - 1;

    private static DateTime Instant(ReadOnlySpan<byte> ticks) =>
        new(BinaryPrimitives.ReadInt64LittleEndian(ticks), DateTimeKind.Utc);
}
