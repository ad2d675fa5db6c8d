using System.Text;

namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// One string for many occurrences of the same feature name or event type. Callers choose these names, so the cache is
/// bounded: a name lives in one of a fixed number of slots until another takes its place. Threads may race; the loser only
/// makes a string that is soon collected.
/// </summary>
internal static class NameCache
{
    private const int Slots = 2_048;
    private static readonly Entry?[] s_slots = new Entry?[Slots];

    public static string Get(ReadOnlySpan<byte> utf8)
    {
        var hash = new HashCode();
        hash.AddBytes(utf8);

        // Two slots a name, so that two that meet in one do not drive each other out for ever.
        int first = hash.ToHashCode() & (Slots - 1);
        Entry? entry = Volatile.Read(ref s_slots[first]);
        if (entry is not null && utf8.SequenceEqual(entry.Utf8))
        {
            return entry.Name;
        }

        Entry? second = Volatile.Read(ref s_slots[first ^ 1]);
        if (second is not null && utf8.SequenceEqual(second.Utf8))
        {
            return second.Name;
        }

        if (entry is not null)
        {
            Volatile.Write(ref s_slots[first ^ 1], entry);
        }

        entry = new Entry(utf8.ToArray(), Encoding.UTF8.GetString(utf8));
        Volatile.Write(ref s_slots[first], entry);
        return entry.Name;
    }

    private sealed record Entry(byte[] Utf8, string Name);
}
