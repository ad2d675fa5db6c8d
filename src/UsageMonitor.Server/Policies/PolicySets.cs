using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>The policies cannot be read, and nobody knows whether they still are what they were.</summary>
internal sealed class PoliciesUnavailableException(Exception? inner = null)
    : Exception("The access policies cannot be read at the moment. Retry.", inner);

/// <summary>
/// The enterprises' policies, compiled once a version. Read anew when the enterprise's identity has changed, which a change of policies, roles,
/// groups or people does on every instance; a hit takes no lock and allocates nothing.
/// </summary>
/// <remarks>
/// An instance notices a change within <see cref="IdentityVersion.IdentityPollMilliseconds"/> and reads at most every
/// <see cref="RefreshMilliseconds"/>, so a change holds everywhere within a second. When reading fails, the last set is good for
/// <see cref="StaleMilliseconds"/>; after that everything is refused (503), unless nothing was ever refused: an enterprise
/// without policies does not stop for want of them.
/// </remarks>
internal sealed partial class PolicySets(
    Database database,
    IdentityVersion version,
    TimeProvider time,
    ILogger<PolicySets> logger
)
{
    public const int RefreshMilliseconds = 250;
    public const int StaleMilliseconds = 5_000;
    private const int EnterprisesMax = 100_000;

    private static readonly TimeSpan s_refresh = TimeSpan.FromMilliseconds(RefreshMilliseconds);
    private static readonly TimeSpan s_stale = TimeSpan.FromMilliseconds(StaleMilliseconds);
    private readonly ConcurrentDictionary<Guid, Entry> _entries = new();
    private readonly ConcurrentDictionary<Guid, Lazy<Task<Entry>>> _loads = new();

    /// <param name="Set">As read.</param>
    /// <param name="Version">Of identity, from before the reading.</param>
    /// <param name="LastChange">The enterprise's.</param>
    /// <param name="TriedAt">When it was last read, or that was tried.</param>
    /// <param name="FailingSince">When reading first failed after that, or null.</param>
    private sealed record Entry(
        PolicySet Set,
        long Version,
        EnterpriseChange LastChange,
        long TriedAt,
        long? FailingSince
    );

    /// <exception cref="PoliciesUnavailableException">They cannot be read, and what is known is too old.</exception>
    public ValueTask<PolicySet> FindAsync(EnterpriseInfo enterprise, CancellationToken cancellationToken) =>
        TryGet(enterprise.EnterpriseId, out PolicySet? set)
            ? new ValueTask<PolicySet>(set)
            : new ValueTask<PolicySet>(LoadAsync(enterprise, cancellationToken));

    /// <summary>This instance has changed something: the next question reads anew, however short ago the last reading was.</summary>
    public void Changed(Guid enterpriseId) => _entries.TryRemove(enterpriseId, out _);

    private bool TryGet(Guid enterpriseId, [NotNullWhen(true)] out PolicySet? set)
    {
        set = null;
        if (_entries.TryGetValue(enterpriseId, out Entry? entry))
        {
            bool isGood =
                (entry.FailingSince is null && version.Holds(entry.Version, entry.LastChange))
                || (time.GetElapsedTime(entry.TriedAt) < s_refresh && IsUsable(entry));
            set = isGood ? entry.Set : null;
        }

        return set is not null;
    }

    private bool IsUsable(Entry entry) =>
        entry.FailingSince is not { } since || entry.Set.IsOpen || time.GetElapsedTime(since) < s_stale;

    private async Task<PolicySet> LoadAsync(EnterpriseInfo enterprise, CancellationToken cancellationToken)
    {
        Lazy<Task<Entry>> shared = _loads.GetOrAdd(
            enterprise.EnterpriseId,
            static (_, state) => new Lazy<Task<Entry>>(() => state.Sets.RunAsync(state.Enterprise)),
            (Sets: this, Enterprise: enterprise)
        );
        Entry entry = await shared.Value.WaitAsync(cancellationToken);
        return IsUsable(entry) ? entry.Set : throw new PoliciesUnavailableException();
    }

    private async Task<Entry> RunAsync(EnterpriseInfo enterprise)
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        try
        {
            // Both from before the reading: a change meanwhile makes the entry look old rather than new.
            long current = version.Current;
            long startedAt = time.GetTimestamp();
            var entry = new Entry(await ReadAsync(enterprise), current, version.Of(enterpriseId), startedAt, null);
            Keep(enterpriseId, entry);
            return entry;
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
        {
            long now = time.GetTimestamp();
            if (!_entries.TryGetValue(enterpriseId, out Entry? last))
            {
                LogUnknown(exception, enterpriseId);
                throw new PoliciesUnavailableException(exception);
            }

            if (last.FailingSince is null)
            {
                LogFailing(exception, enterpriseId, StaleMilliseconds);
            }

            Entry failing = last with { TriedAt = now, FailingSince = last.FailingSince ?? now };
            Keep(enterpriseId, failing);
            return failing;
        }
        finally
        {
            _loads.TryRemove(enterpriseId, out _);
        }
    }

    private void Keep(Guid enterpriseId, Entry entry)
    {
        if (_entries.Count >= EnterprisesMax)
        {
            _entries.Clear();
        }

        _entries[enterpriseId] = entry;
    }

    private async Task<PolicySet> ReadAsync(EnterpriseInfo enterprise)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            CancellationToken.None
        );
        (List<StoredPolicy> policies, bool isForbidden) = await PolicyStore.ReadActiveAsync(
            own,
            enterprise.EnterpriseId,
            CancellationToken.None
        );
        PolicyMembers members = await PolicyStore.ReadMembersAsync(
            own,
            enterprise.EnterpriseId,
            policies,
            CancellationToken.None
        );
        return new PolicySet(policies, isForbidden, enterprise.TimeZone, members);
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The access policies of {EnterpriseId} cannot be read; what is known of them is good for {Milliseconds} ms"
    )]
    private partial void LogFailing(Exception exception, Guid enterpriseId, int milliseconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The access policies of {EnterpriseId} cannot be read")]
    private partial void LogUnknown(Exception exception, Guid enterpriseId);
}
