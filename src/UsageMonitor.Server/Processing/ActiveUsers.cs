using System.Buffers;
using System.Runtime.InteropServices;
using System.Text;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>Who used which feature on one local day of one enterprise, and in which of its hours.</summary>
/// <remarks>
/// Written as two texts, because ranges of days need only the first: <c>features ‖ (name ‖ set)*</c> and
/// <c>hours ‖ (minutes since the day began ‖ features ‖ (name ‖ set)*)*</c>; numbers are varints.
/// </remarks>
internal sealed class ActiveUsers
{
    private const int EncodedBytesExpected = 256;

    /// <summary>Feature → users of the day.</summary>
    public Dictionary<string, UserSet> Day { get; } = new(StringComparer.Ordinal);

    /// <summary>Minutes from the day's beginning to the hour's → feature → users.</summary>
    public Dictionary<int, Dictionary<string, UserSet>> Hours { get; } = [];

    public void Add(string featureName, int minutesIntoDay, int ordinal)
    {
        SetOf(Day, featureName).Add(ordinal);
        SetOf(HourOf(minutesIntoDay), featureName).Add(ordinal);
    }

    /// <summary>Writes what a step has seen of a day, without sets being made of it.</summary>
    public static byte[] EncodeDay(StepTotals totals, StepTotals.Bucket day)
    {
        var writer = new ArrayBufferWriter<byte>(EncodedBytesExpected);
        WriteBucket(writer, totals, day);
        return writer.WrittenSpan.ToArray();
    }

    /// <summary>Writes what a step has seen of the hours of a day.</summary>
    public static byte[] EncodeHours(StepTotals totals, StepTotals.Bucket day)
    {
        var writer = new ArrayBufferWriter<byte>(EncodedBytesExpected);
        WriteNumber(writer, totals.Hours.Values.Count(hour => totals.DayOfHour[hour.Start] == day.Start));
        foreach (StepTotals.Bucket hour in totals.Hours.Values)
        {
            if (totals.DayOfHour[hour.Start] == day.Start)
            {
                WriteNumber(writer, (int)(hour.Start - day.Start).TotalMinutes);
                WriteBucket(writer, totals, hour);
            }
        }

        return writer.WrittenSpan.ToArray();
    }

    public byte[] EncodeDay()
    {
        var writer = new ArrayBufferWriter<byte>(64);
        WriteSets(writer, Day);
        return writer.WrittenSpan.ToArray();
    }

    public byte[] EncodeHours()
    {
        var writer = new ArrayBufferWriter<byte>(64);
        WriteNumber(writer, Hours.Count);
        foreach ((int minutes, Dictionary<string, UserSet> sets) in Hours)
        {
            WriteNumber(writer, minutes);
            WriteSets(writer, sets);
        }

        return writer.WrittenSpan.ToArray();
    }

    public void UnionWithDay(ReadOnlySpan<byte> encoded) => UnionDay(Day, encoded);

    public void UnionWithHours(ReadOnlySpan<byte> encoded)
    {
        uint hours = Varint.Read(ref encoded);
        for (uint i = 0; i < hours; i++)
        {
            UnionSets(HourOf((int)Varint.Read(ref encoded)), ref encoded);
        }
    }

    /// <summary>Adds a written day to sets by feature.</summary>
    public static void UnionDay(Dictionary<string, UserSet> sets, ReadOnlySpan<byte> encoded) =>
        UnionSets(sets, ref encoded);

    private Dictionary<string, UserSet> HourOf(int minutes)
    {
        if (!Hours.TryGetValue(minutes, out Dictionary<string, UserSet>? sets))
        {
            Hours[minutes] = sets = new Dictionary<string, UserSet>(StringComparer.Ordinal);
        }

        return sets;
    }

    private static UserSet SetOf(Dictionary<string, UserSet> sets, string featureName)
    {
        if (!sets.TryGetValue(featureName, out UserSet? set))
        {
            sets[featureName] = set = new UserSet();
        }

        return set;
    }

    private static void UnionSets(Dictionary<string, UserSet> sets, ref ReadOnlySpan<byte> encoded)
    {
        Dictionary<string, UserSet>.AlternateLookup<ReadOnlySpan<char>> byName = sets.GetAlternateLookup<
            ReadOnlySpan<char>
        >();
        Span<char> name = stackalloc char[128];
        uint features = Varint.Read(ref encoded);
        for (uint i = 0; i < features; i++)
        {
            int length = (int)Varint.Read(ref encoded);
            ReadOnlySpan<byte> utf8 = encoded[..length];
            encoded = encoded[length..];
            UserSet? set;
            if (length <= name.Length)
            {
                ReadOnlySpan<char> text = name[..Encoding.UTF8.GetChars(utf8, name)];
                if (!byName.TryGetValue(text, out set))
                {
                    sets[text.ToString()] = set = new UserSet();
                }
            }
            else
            {
                set = SetOf(sets, Encoding.UTF8.GetString(utf8));
            }

            set.UnionWith(ref encoded);
        }
    }

    private static void WriteSets(ArrayBufferWriter<byte> writer, Dictionary<string, UserSet> sets)
    {
        WriteNumber(writer, sets.Count);
        foreach ((string featureName, UserSet set) in sets)
        {
            WriteName(writer, featureName);
            set.WriteTo(writer);
        }
    }

    private static void WriteBucket(ArrayBufferWriter<byte> writer, StepTotals totals, StepTotals.Bucket bucket)
    {
        WriteNumber(writer, bucket.Users.Count(users => users is not null));
        for (int feature = 0; feature < bucket.Users.Length; feature++)
        {
            if (bucket.Users[feature] is { } users)
            {
                WriteName(writer, totals.Enterprise.FeatureNames[feature]);
                Span<int> ordinals = CollectionsMarshal.AsSpan(users);
                ordinals.Sort();
                UserSet.WriteMembers(writer, WithoutRepeats(ordinals));
            }
        }
    }

    private static Span<int> WithoutRepeats(Span<int> ascending)
    {
        int length = 0;
        foreach (int ordinal in ascending)
        {
            if (length == 0 || ascending[length - 1] != ordinal)
            {
                ascending[length++] = ordinal;
            }
        }

        return ascending[..length];
    }

    private static void WriteName(ArrayBufferWriter<byte> writer, string featureName)
    {
        int length = Encoding.UTF8.GetByteCount(featureName);
        WriteNumber(writer, length);
        writer.Advance(Encoding.UTF8.GetBytes(featureName, writer.GetSpan(length)));
    }

    private static void WriteNumber(ArrayBufferWriter<byte> writer, int number) =>
        writer.Advance(Varint.Write(writer.GetSpan(Varint.BytesMax), (uint)number));
}
