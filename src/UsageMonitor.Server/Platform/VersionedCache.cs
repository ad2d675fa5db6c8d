using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// What was read from the database, good while the identity version stands. A hit takes no lock and allocates nothing;
/// concurrent misses of one key share one load.
/// </summary>
/// <param name="version">The version that entries are held against.</param>
/// <param name="entriesMax">At this many everything is dropped and comes back as it is used.</param>
internal sealed class VersionedCache<TKey, TValue>(IdentityVersion version, int entriesMax)
    where TKey : notnull
    where TValue : class
{
    private readonly ConcurrentDictionary<TKey, Entry> _entries = new();
    private readonly ConcurrentDictionary<TKey, Lazy<Task<Entry>>> _loads = new();

    public bool TryGet(TKey key, [NotNullWhen(true)] out TValue? value)
    {
        if (_entries.TryGetValue(key, out Entry? entry) && version.Holds(entry.Version))
        {
            value = entry.Value!;
            return true;
        }

        value = null;
        return false;
    }

    /// <summary>Loads and remembers; null is not remembered.</summary>
    public async Task<TValue?> LoadAsync(TKey key, Func<Task<TValue?>> load, CancellationToken cancellationToken)
    {
        while (true)
        {
            long asked = version.Current;
            Lazy<Task<Entry>> shared = _loads.GetOrAdd(
                key,
                static (key, state) => new Lazy<Task<Entry>>(() => state.Cache.RunAsync(key, state.Load)),
                (Cache: this, Load: load)
            );
            Entry entry = await shared.Value.WaitAsync(cancellationToken);

            // A load that began before a change this instance knows of may not have seen it.
            if (entry.Version >= asked)
            {
                return entry.Value;
            }
        }
    }

    private async Task<Entry> RunAsync(TKey key, Func<Task<TValue?>> load)
    {
        try
        {
            // Read before the load, so that a change between the two makes the entry look old rather than new.
            long current = version.Current;
            var entry = new Entry(current, await load());
            if (entry.Value is null)
            {
                _entries.TryRemove(key, out _);
                return entry;
            }

            if (_entries.Count >= entriesMax)
            {
                _entries.Clear();
            }

            _entries[key] = entry;
            return entry;
        }
        finally
        {
            _loads.TryRemove(key, out _);
        }
    }

    private sealed record Entry(long Version, TValue? Value);
}
