using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace UsageMonitor.Server.Platform;

/// <summary>Something read, with the <see cref="IdentityVersion.Current"/> from before it was read; null: there is none.</summary>
internal readonly record struct Versioned<TValue>(long Version, TValue? Value)
    where TValue : class;

/// <summary>
/// What was read from the database, good while its enterprise does not change. A hit takes no lock and allocates nothing;
/// concurrent misses of one key share one load.
/// </summary>
/// <param name="version">What entries are held against.</param>
/// <param name="entriesMax">At this many everything is dropped and comes back as it is used.</param>
/// <param name="enterpriseOf">Whose an entry is. Without it an entry is good until anything of any enterprise changes.</param>
internal sealed class VersionedCache<TKey, TValue>(
    IdentityVersion version,
    int entriesMax,
    Func<TKey, TValue, Guid>? enterpriseOf = null
)
    where TKey : notnull
    where TValue : class
{
    private readonly ConcurrentDictionary<TKey, Entry> _entries = new();
    private readonly ConcurrentDictionary<TKey, Lazy<Task<Load>>> _loads = new();

    public bool TryGet(TKey key, [NotNullWhen(true)] out TValue? value)
    {
        if (
            _entries.TryGetValue(key, out Entry? entry)
            && (entry.Enterprise is { } own ? version.Holds(entry.Version, own) : version.Holds(entry.Version))
        )
        {
            value = entry.Value;
            return true;
        }

        value = null;
        return false;
    }

    /// <summary>Loads and remembers; null is not remembered.</summary>
    public Task<TValue?> LoadAsync(TKey key, Func<Task<TValue?>> load, CancellationToken cancellationToken) =>
        LoadAsync(key, async current => new Versioned<TValue>(current, await load()), cancellationToken);

    /// <summary>Loads and remembers; null is not remembered.</summary>
    /// <param name="key">What.</param>
    /// <param name="load">Gets the version that what it reads is of; may answer with something older that still holds.</param>
    /// <param name="cancellationToken">Ends the wait, not the load.</param>
    public async Task<TValue?> LoadAsync(
        TKey key,
        Func<long, Task<Versioned<TValue>>> load,
        CancellationToken cancellationToken
    )
    {
        while (true)
        {
            long asked = version.Known;
            Lazy<Task<Load>> shared = _loads.GetOrAdd(
                key,
                static (key, state) => new Lazy<Task<Load>>(() => state.Cache.RunAsync(key, state.Load)),
                (Cache: this, Load: load)
            );
            Load done = await shared.Value.WaitAsync(cancellationToken);

            // A load that began before a change this instance knows of may not have seen it.
            if (done.Known >= asked)
            {
                return done.Value;
            }
        }
    }

    private async Task<Load> RunAsync(TKey key, Func<long, Task<Versioned<TValue>>> load)
    {
        try
        {
            // Read before the load, so that a change between the two makes the entry look old rather than new.
            long known = version.Known;
            Versioned<TValue> read = await load(version.Current);
            if (read.Value is null)
            {
                _entries.TryRemove(key, out _);
                return new Load(known, null);
            }

            if (_entries.Count >= entriesMax)
            {
                _entries.Clear();
            }

            EnterpriseChange? own = enterpriseOf is null ? null : version.Of(enterpriseOf(key, read.Value));
            _entries[key] = new Entry(read.Version, read.Value, own);
            return new Load(known, read.Value);
        }
        finally
        {
            _loads.TryRemove(key, out _);
        }
    }

    private sealed record Entry(long Version, TValue Value, EnterpriseChange? Enterprise);

    private sealed record Load(long Known, TValue? Value);
}
