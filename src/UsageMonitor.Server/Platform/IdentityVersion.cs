using System.Collections.Concurrent;
using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>The last change of one enterprise that this instance knows of. One object per enterprise, shared by what is cached of it.</summary>
internal sealed class EnterpriseChange
{
    private long _version;

    public long Version => Volatile.Read(ref _version);

    public void Advance(long version) => IdentityVersion.Raise(ref _version, version);
}

/// <summary>
/// How far this instance has followed the changes to identity, and so what it may still serve from memory. Every change
/// raises one number in its own transaction and notes it for its enterprise (<c>0008_identity_changes.sql</c>).
/// </summary>
/// <remarks>
/// <para>The invariant: <b>no instance serves a credential more than a second after the commit that ended it; when the
/// database cannot be polled for five seconds, nothing is served from memory.</b></para>
/// <para>It rests on this. (1) Versions become visible in the order of their numbers, since the number's row lock is held
/// until the commit. (2) <see cref="Current"/> is moved by polls alone, and only after the changes up to it are noted in
/// <see cref="EnterpriseChange"/>. So whatever is read, from the database or from a cache that these rules keep, after
/// <see cref="Current"/> was seen to be <c>v</c> has every change up to <c>v</c> in it. (3) What was read at <c>v</c> is
/// served while its enterprise's last known change is not after <c>v</c>, and the last successful poll began less than five
/// seconds ago. A change is known to all after one poll: half a second, or at once when Redis carries the nudge.</para>
/// <para>An own commit advances only its enterprise. It must not move <see cref="Current"/>: changes that others committed
/// before it are not noted yet, and what is built from something cached would then be taken for newer than its parts.</para>
/// </remarks>
internal sealed class IdentityVersion(TimeProvider time, IdentityNews? news = null)
{
    public const int IdentityPollMilliseconds = 500;

    /// <summary>How long memory is trusted when the poll cannot reach the database.</summary>
    public const int IdentityStaleMilliseconds = 5_000;

    private static readonly TimeSpan StaleAfter = TimeSpan.FromMilliseconds(IdentityStaleMilliseconds);
    private readonly ConcurrentDictionary<Guid, EnterpriseChange> _changes = new();
    private readonly Lock _refreshing = new();
    private Task _refresh = Task.CompletedTask;
    private Task? _nextRefresh;
    private long _current;
    private long _known;
    private long _everything;
    private long _confirmedAt = long.MinValue;

    /// <summary>All changes up to this one are noted; what is read now has them in it.</summary>
    public long Current => Volatile.Read(ref _current);

    /// <summary>The newest change that this instance has heard of, its own included.</summary>
    public long Known => Volatile.Read(ref _known);

    /// <summary>The enterprise's last known change.</summary>
    public EnterpriseChange Of(Guid enterpriseId) =>
        _changes.TryGetValue(enterpriseId, out EnterpriseChange? change)
            ? change
            : _changes.GetOrAdd(enterpriseId, static _ => new EnterpriseChange());

    /// <summary>Whether what was read at <paramref name="version"/> may still be used, whichever enterprise's it is.</summary>
    public bool Holds(long version) => version >= Known && IsConfirmed;

    /// <summary>Whether what was read of an enterprise at <paramref name="version"/> may still be used.</summary>
    public bool Holds(long version, EnterpriseChange enterprise) =>
        version >= enterprise.Version && version >= Volatile.Read(ref _everything) && IsConfirmed;

    private bool IsConfirmed
    {
        get
        {
            long at = Volatile.Read(ref _confirmedAt);
            return at != long.MinValue && time.GetElapsedTime(at) <= StaleAfter;
        }
    }

    private const string RaiseVersion =
        "UPDATE identity_version SET version = version + 1 RETURNING version, current_enterprise()";

    /// <summary>
    /// Commits a change of the transaction's enterprise: when it returns this instance serves nothing older, and the others
    /// are told. The number is raised last of all statements, since all changes wait for its row.
    /// </summary>
    public async Task CommitAsync(ScopedTransaction transaction, CancellationToken cancellationToken)
    {
        // All changes wait for the version's row: the audit log's end, which only one enterprise's wait for, is locked first.
        await transaction.WriteAuditAsync(cancellationToken);
        long version;
        Guid? enterpriseId;
        await using (NpgsqlCommand command = transaction.Command(RaiseVersion))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            await reader.ReadAsync(cancellationToken);
            version = reader.GetInt64(0);
            enterpriseId = reader.IsDBNull(1) ? null : reader.GetGuid(1);
        }

        await transaction.CommitAsync(cancellationToken);
        Committed(version, enterpriseId);
        news?.Publish(version);
        try
        {
            // Not needed for safety: without it, what is read of the enterprise before the next poll is not kept.
            await RefreshAsync();
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
        {
            // The poll says so when it fails as well.
        }
    }

    /// <summary>This instance has committed a change.</summary>
    /// <param name="version">Its number.</param>
    /// <param name="enterpriseId">Whose; null when it was of no single enterprise.</param>
    public void Committed(long version, Guid? enterpriseId)
    {
        if (enterpriseId is { } one)
        {
            Of(one).Advance(version);
        }
        else
        {
            Raise(ref _everything, version);
        }

        Raise(ref _known, version);
    }

    /// <summary>Reads what has changed; done when a look that began after this call has ended. Calls at the same time share one.</summary>
    public Task RefreshAsync()
    {
        lock (_refreshing)
        {
            if (_refresh.IsCompleted)
            {
                return _refresh = ReadAsync();
            }

            return _nextRefresh ??= AfterAsync(_refresh);
        }
    }

    private async Task AfterAsync(Task running)
    {
        await running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ForceYielding);
        Task next;
        lock (_refreshing)
        {
            (_refresh, _nextRefresh) = (ReadAsync(), null);
            next = _refresh;
        }

        await next;
    }

    private async Task ReadAsync()
    {
        if (news is not null)
        {
            long startedAt = time.GetTimestamp();
            Confirm(await news.ReadAsync(Current, CancellationToken.None), startedAt);
        }
    }

    /// <summary>A look that began at <paramref name="startedAt"/> has read the changes since some earlier <see cref="Current"/>.</summary>
    public void Confirm(IdentityChanges read, long startedAt)
    {
        // The order matters: see the invariant. All of it only ever rises, so looks may end in any order.
        foreach ((Guid enterpriseId, long version) in read.Changes)
        {
            Of(enterpriseId).Advance(version);
        }

        Raise(ref _everything, read.EverythingVersion);
        Raise(ref _known, read.Version);
        Raise(ref _current, read.Version);
        Raise(ref _confirmedAt, startedAt);
    }

    internal static void Raise(ref long place, long value)
    {
        long seen = Volatile.Read(ref place);
        while (value > seen)
        {
            long found = Interlocked.CompareExchange(ref place, value, seen);
            if (found == seen)
            {
                return;
            }

            seen = found;
        }
    }
}

/// <summary>Polls the changes. While the database does not answer, caches age and then everything is asked of the database.</summary>
internal sealed partial class IdentityVersionPolling(
    IdentityVersion version,
    IdentityNews news,
    TimeProvider time,
    ILogger<IdentityVersionPolling> logger
) : BackgroundService
{
    private bool _failing;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        news.Listen(told =>
        {
            // The order is the database's; this only says when to look.
            if (told > version.Current)
            {
                _ = RefreshAsync();
            }
        });
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(IdentityVersion.IdentityPollMilliseconds), time);
        do
        {
            await RefreshAsync();
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private async Task RefreshAsync()
    {
        try
        {
            await version.RefreshAsync();
            _failing = false;
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException or ObjectDisposedException)
        {
            if (!_failing)
            {
                _failing = true;
                PollFailed(exception);
            }
        }
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The changes to identity cannot be read; cached callers age out."
    )]
    private partial void PollFailed(Exception exception);
}
