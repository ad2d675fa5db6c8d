using System.Buffers.Binary;
using System.Numerics;

namespace UsageMonitor.Server.Anomalies;

/// <summary>
/// What is known of one user: on how many days they were active, in which hours of the week of the last one or two months, how much a day,
/// and which features they have used. About a hundred bytes, however long they are with us.
/// </summary>
internal sealed class UserProfile
{
    public const int StateBytes = 1 + 4 + 4 + 4 + 4 + (3 * 4) + (2 * HourBytes) + FeatureBytes;

    private const byte Version = 1;
    private const int HourBytes = 21; // 168 bits
    private const int FeatureBytes = AnomalyLimits.UserFeaturesMax / 8;
    private const int EpochDays = 28;
    private const float RateMin = 0.05f;
    private const double DeviationMin = 0.25;
    private const double SurpriseMax = 5;

    private readonly byte[] _hours = new byte[HourBytes];
    private readonly byte[] _hoursBefore = new byte[HourBytes];
    private readonly byte[] _features = new byte[FeatureBytes];
    private int _epochDay;
    private float _mean;
    private float _variance;
    private float _greatest;

    /// <summary>Their first day, as days since 0001-01-01; 0: none yet.</summary>
    public int FirstDay { get; private set; }

    /// <summary>Their last day.</summary>
    public int LastDay { get; private set; }

    public int ActiveDays { get; private set; }

    /// <summary>A usual active day's events.</summary>
    public double UsualEvents => Math.Exp(_mean) - 1;

    /// <summary>The most of a day, which fades.</summary>
    public double GreatestEvents => _greatest;

    /// <summary>Whether an hour of the week, or one near it, was ever used in the last one or two months.</summary>
    public bool WasActiveAround(int hourOfWeek, int hoursNear)
    {
        for (int near = -hoursNear; near <= hoursNear; near++)
        {
            int hour = (hourOfWeek + near + SeriesProfile.HoursOfWeek) % SeriesProfile.HoursOfWeek;
            if (Has(_hours, hour) || Has(_hoursBefore, hour))
            {
                return true;
            }
        }

        return false;
    }

    public bool HasUsed(int feature) => Has(_features, feature);

    /// <summary>How many usual deviations a day's events are above the usual, on the scale of their logarithm.</summary>
    public double SurpriseOf(long events) =>
        (Math.Log(1 + events) - _mean) / Math.Max(Math.Sqrt(_variance), DeviationMin);

    /// <summary>A day's events at so many deviations above the usual.</summary>
    public double EventsAt(double deviations) =>
        Math.Exp(_mean + (deviations * Math.Max(Math.Sqrt(_variance), DeviationMin))) - 1;

    /// <summary>The share of features that two have in common, of those that either has used.</summary>
    public double Likeness(UserProfile other)
    {
        int both = 0;
        int either = 0;
        for (int i = 0; i < FeatureBytes; i++)
        {
            both += BitOperations.PopCount((uint)(_features[i] & other._features[i]));
            either += BitOperations.PopCount((uint)(_features[i] | other._features[i]));
        }

        return either == 0 ? 0 : (double)both / either;
    }

    /// <summary>Takes in an active day; one that it has seen already is not seen again.</summary>
    public void Learn(int day, IEnumerable<int> hoursOfWeek, IEnumerable<int> features, long events)
    {
        if (ActiveDays > 0 && day <= LastDay)
        {
            return;
        }

        if (ActiveDays == 0)
        {
            (FirstDay, _epochDay) = (day, day);
        }
        else if (day - _epochDay >= EpochDays)
        {
            // Who has changed their hours is known by the new ones after a month or two.
            _hours.CopyTo(_hoursBefore, 0);
            Array.Clear(_hours);
            _epochDay = day;
        }

        foreach (int hour in hoursOfWeek)
        {
            Set(_hours, hour);
        }

        foreach (int feature in features)
        {
            Set(_features, feature);
        }

        // One wild day must not become the usual.
        double bounded = ActiveDays < 3 ? events : Math.Min(events, EventsAt(SurpriseMax));
        float rate = Math.Max(RateMin, 1f / (ActiveDays + 1));
        float away = (float)Math.Log(1 + bounded) - _mean;
        _mean += rate * away;
        _variance = (1 - rate) * (_variance + (rate * away * away));
        _greatest = Math.Max((float)bounded, _greatest * 0.97f);
        LastDay = day;
        ActiveDays++;
    }

    public byte[] ToArray()
    {
        byte[] state = new byte[StateBytes];
        state[0] = Version;
        Span<byte> rest = state.AsSpan(1);
        BinaryPrimitives.WriteInt32LittleEndian(rest, FirstDay);
        BinaryPrimitives.WriteInt32LittleEndian(rest[4..], LastDay);
        BinaryPrimitives.WriteInt32LittleEndian(rest[8..], ActiveDays);
        BinaryPrimitives.WriteInt32LittleEndian(rest[12..], _epochDay);
        BinaryPrimitives.WriteSingleLittleEndian(rest[16..], _mean);
        BinaryPrimitives.WriteSingleLittleEndian(rest[20..], _variance);
        BinaryPrimitives.WriteSingleLittleEndian(rest[24..], _greatest);
        _hours.CopyTo(rest[28..]);
        _hoursBefore.CopyTo(rest[(28 + HourBytes)..]);
        _features.CopyTo(rest[(28 + (2 * HourBytes))..]);
        return state;
    }

    /// <summary>What was written; a new one for what another version wrote.</summary>
    public static UserProfile Read(ReadOnlySpan<byte> state)
    {
        var profile = new UserProfile();
        if (state.Length != StateBytes || state[0] != Version)
        {
            return profile;
        }

        ReadOnlySpan<byte> rest = state[1..];
        profile.FirstDay = BinaryPrimitives.ReadInt32LittleEndian(rest);
        profile.LastDay = BinaryPrimitives.ReadInt32LittleEndian(rest[4..]);
        profile.ActiveDays = BinaryPrimitives.ReadInt32LittleEndian(rest[8..]);
        profile._epochDay = BinaryPrimitives.ReadInt32LittleEndian(rest[12..]);
        profile._mean = BinaryPrimitives.ReadSingleLittleEndian(rest[16..]);
        profile._variance = BinaryPrimitives.ReadSingleLittleEndian(rest[20..]);
        profile._greatest = BinaryPrimitives.ReadSingleLittleEndian(rest[24..]);
        rest.Slice(28, HourBytes).CopyTo(profile._hours);
        rest.Slice(28 + HourBytes, HourBytes).CopyTo(profile._hoursBefore);
        rest.Slice(28 + (2 * HourBytes), FeatureBytes).CopyTo(profile._features);
        return profile;
    }

    private static bool Has(byte[] bits, int place) => (bits[place >> 3] & (1 << (place & 7))) != 0;

    private static void Set(byte[] bits, int place) => bits[place >> 3] |= (byte)(1 << (place & 7));
}
