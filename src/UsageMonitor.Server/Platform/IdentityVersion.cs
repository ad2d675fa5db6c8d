using Npgsql;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// The number that every change to identity raises in its own transaction. What an instance has cached about callers and
/// enterprises is good while the number stands, so a revoked key is refused on every instance within a poll of the revocation.
/// </summary>
internal sealed class IdentityVersion(TimeProvider time)
{
    public const int IdentityPollMilliseconds = 500;

    /// <summary>How long the cache is trusted when the poll cannot reach the database.</summary>
    public const int IdentityStaleMilliseconds = 5_000;

    private static readonly TimeSpan StaleAfter = TimeSpan.FromMilliseconds(IdentityStaleMilliseconds);
    private long _current;
    private long _confirmedAt;
    private volatile bool _confirmed;

    public long Current => Volatile.Read(ref _current);

    /// <summary>Whether something read while <paramref name="version"/> was current may still be used.</summary>
    public bool Holds(long version) =>
        version == Volatile.Read(ref _current)
        && _confirmed
        && time.GetElapsedTime(Volatile.Read(ref _confirmedAt)) <= StaleAfter;

    /// <summary>Raises the number in the transaction of the change; last of its statements, since all changes share the row's lock.</summary>
    public static async Task<long> RaiseAsync(ScopedTransaction transaction, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = transaction.Command(
            "UPDATE identity_version SET version = version + 1 RETURNING version"
        );
        return (long)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    /// <summary>Commits a change and drops at once what this instance has cached.</summary>
    public async Task CommitAsync(ScopedTransaction transaction, CancellationToken cancellationToken)
    {
        long version = await RaiseAsync(transaction, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        Advance(version);
    }

    /// <summary>A poll that began at <paramref name="startedAt"/> has read <paramref name="version"/>.</summary>
    public void Confirm(long version, long startedAt)
    {
        Advance(version);
        Volatile.Write(ref _confirmedAt, startedAt);
        _confirmed = true;
    }

    /// <summary>Never goes back: a poll may have read before the commit that this instance already knows of.</summary>
    public void Advance(long version)
    {
        long seen = Volatile.Read(ref _current);
        while (version > seen)
        {
            long found = Interlocked.CompareExchange(ref _current, version, seen);
            if (found == seen)
            {
                return;
            }

            seen = found;
        }
    }
}

/// <summary>Polls the version. While the database does not answer, caches age and then everything is asked of the database.</summary>
internal sealed partial class IdentityVersionPolling(
    Database database,
    IdentityVersion version,
    TimeProvider time,
    ILogger<IdentityVersionPolling> logger
) : BackgroundService
{
    private const int PollTimeoutSeconds = 2;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(IdentityVersion.IdentityPollMilliseconds), time);
        bool failing = false;
        do
        {
            try
            {
                await PollAsync(stoppingToken);
                failing = false;
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                if (!failing)
                {
                    PollFailed(exception);
                }

                failing = true;
            }
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private async Task PollAsync(CancellationToken cancellationToken)
    {
        long startedAt = time.GetTimestamp();
        await using NpgsqlCommand command = database.Pipeline.CreateCommand("SELECT version FROM identity_version");
        command.CommandTimeout = PollTimeoutSeconds;
        version.Confirm((long)(await command.ExecuteScalarAsync(cancellationToken))!, startedAt);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The identity version cannot be read; cached callers age out.")]
    private partial void PollFailed(Exception exception);
}
