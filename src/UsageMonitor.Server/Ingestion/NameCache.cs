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
        ref Entry? slot = ref s_slots[hash.ToHashCode() & (Slots - 1)];
        Entry? entry = Volatile.Read(ref slot);
        if (entry is not null && utf8.SequenceEqual(entry.Utf8))
        {
            return entry.Name;
        }

        entry = new Entry(utf8.ToArray(), Encoding.UTF8.GetString(utf8));
        Volatile.Write(ref slot, entry);
        return entry.Name;
    }

    private sealed record Entry(byte[] Utf8, string Name);
}
