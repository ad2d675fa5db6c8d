using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>
/// Archive files that lie open in the private folder, for as long as somebody reads them and then until others need the room:
/// whoever asks next need not open them again.
/// </summary>
internal sealed class OpenedFiles(ArchiveFolder archive, OpenedFolder opened, ArchiveSettings settings)
{
    private readonly record struct Key(Guid EnterpriseId, DateOnly Day, bool WithProperties);

    private sealed class Entry(int generation, Task<(string Path, long Bytes)> opening)
    {
        public int Generation { get; } = generation;
        public Task<(string Path, long Bytes)> Opening { get; } = opening;
        public int Readers { get; set; }
        public long Used { get; set; }

        /// <summary>Nobody finds it any more; the last reader removes it.</summary>
        public bool IsGone { get; set; }
    }

    private readonly Lock _lock = new();
    private readonly Dictionary<Key, Entry> _entries = [];
    private long _clock;

    /// <summary>A file that stays where it is until this is disposed.</summary>
    public sealed class Lease(string path, Action giveBack) : IDisposable
    {
        private Action? _giveBack = giveBack;

        public string Path { get; } = path;

        public void Dispose() => Interlocked.Exchange(ref _giveBack, null)?.Invoke();
    }

    /// <exception cref="FileNotFoundException">The file was replaced: its row says by which.</exception>
    public async Task<Lease> OpenAsync(
        EnterpriseInfo enterprise,
        ArchiveFile file,
        bool withProperties,
        CancellationToken cancellationToken
    )
    {
        var key = new Key(enterprise.EnterpriseId, file.Day, withProperties);
        Entry entry;
        lock (_lock)
        {
            if (!_entries.TryGetValue(key, out Entry? known) || known.Generation != file.Generation)
            {
                if (known is not null)
                {
                    Forget(key, known);
                }

                // Not cancelled by the first who asks: others may wait for it.
                known = new Entry(
                    file.Generation,
                    Task.Run(() => Open(enterprise, file, withProperties), CancellationToken.None)
                );
                _entries[key] = known;
            }

            entry = known;
            entry.Readers++;
            entry.Used = ++_clock;
        }

        try
        {
            (string path, _) = await entry.Opening.WaitAsync(cancellationToken);
            Shrink();
            return new Lease(path, () => GiveBack(entry));
        }
        catch
        {
            lock (_lock)
            {
                if (entry.Opening.IsFaulted && _entries.GetValueOrDefault(key) == entry)
                {
                    Forget(key, entry);
                }
            }

            GiveBack(entry);
            throw;
        }
    }

    /// <summary>Removes what lies open of an enterprise, as soon as nobody reads it.</summary>
    public void Forget(Guid enterpriseId)
    {
        lock (_lock)
        {
            foreach ((Key key, Entry entry) in _entries.Where(pair => pair.Key.EnterpriseId == enterpriseId).ToArray())
            {
                Forget(key, entry);
            }
        }
    }

    private (string Path, long Bytes) Open(EnterpriseInfo enterprise, ArchiveFile file, bool withProperties)
    {
        string path = opened.NewPath(".parquet");
        try
        {
            using FileStream source = archive.OpenRead(file.Path);
            using FileStream destination = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 18);
            long bytes = SealedFile.Open(
                source,
                destination,
                enterprise.DataKey,
                file.Identity(enterprise.EnterpriseId),
                withProperties,
                CancellationToken.None
            );
            return (path, bytes);
        }
        catch (DirectoryNotFoundException exception)
        {
            OpenedFolder.Remove(path);
            throw new FileNotFoundException(exception.Message, exception);
        }
        catch
        {
            OpenedFolder.Remove(path);
            throw;
        }
    }

    private void GiveBack(Entry entry)
    {
        lock (_lock)
        {
            entry.Readers--;
            RemoveIfUnread(entry);
        }

        Shrink();
    }

    // Under the lock, as the two below.
    private void Forget(Key key, Entry entry)
    {
        _entries.Remove(key);
        entry.IsGone = true;
        RemoveIfUnread(entry);
    }

    private static void RemoveIfUnread(Entry entry)
    {
        if (entry is { IsGone: true, Readers: 0 })
        {
            if (entry.Opening.IsCompletedSuccessfully)
            {
                OpenedFolder.Remove(entry.Opening.Result.Path);
            }
            else
            {
                // Who stopped waiting has left it to be opened all the same.
                _ = entry.Opening.ContinueWith(
                    task => OpenedFolder.Remove(task.Result.Path),
                    CancellationToken.None,
                    TaskContinuationOptions.OnlyOnRanToCompletion,
                    TaskScheduler.Default
                );
            }
        }
    }

    private void Shrink()
    {
        lock (_lock)
        {
            long bytes = _entries.Values.Sum(BytesOf);
            foreach ((Key key, Entry entry) in _entries.OrderBy(pair => pair.Value.Used).ToArray())
            {
                if (bytes <= (long)settings.CacheMegabytes << 20)
                {
                    return;
                }

                if (entry.Readers == 0)
                {
                    bytes -= BytesOf(entry);
                    Forget(key, entry);
                }
            }
        }

        static long BytesOf(Entry entry) => entry.Opening.IsCompletedSuccessfully ? entry.Opening.Result.Bytes : 0;
    }
}
