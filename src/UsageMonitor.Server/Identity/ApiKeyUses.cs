using System.Collections.Concurrent;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// When an API key was last accepted; a part of the cached credential. In the steady state a note is a look at the clock and
/// one write a second at most: no lock, no allocation.
/// </summary>
internal sealed class ApiKeyUse(Guid enterpriseId, Guid apiKeyId, ApiKeyUses uses)
{
    private long _lastUsedAtTicks;
    private int _isPending;

    public Guid EnterpriseId { get; } = enterpriseId;

    public Guid ApiKeyId { get; } = apiKeyId;

    public DateTimeOffset LastUsedAt => new(Volatile.Read(ref _lastUsedAtTicks), TimeSpan.Zero);

    public void Note()
    {
        long now = uses.NowTicks;
        if (now - Volatile.Read(ref _lastUsedAtTicks) < TimeSpan.TicksPerSecond)
        {
            return; // so that the cores that use the key do not take its cache line from each other
        }

        Volatile.Write(ref _lastUsedAtTicks, now);
        if (Interlocked.Exchange(ref _isPending, 1) == 0)
        {
            uses.Await(this);
        }
    }

    /// <summary>From now on a note is written anew. Comes before <see cref="LastUsedAt"/> is read, so that none is lost.</summary>
    public void Take() => Interlocked.Exchange(ref _isPending, 0);

    /// <summary>Could not be written: the next time then.</summary>
    public void PutBack()
    {
        if (Interlocked.Exchange(ref _isPending, 1) == 0)
        {
            uses.Await(this);
        }
    }
}

/// <summary>The keys used since they were last written down. Each waits here at most once for each cached credential.</summary>
internal sealed class ApiKeyUses(TimeProvider time)
{
    private readonly ConcurrentQueue<ApiKeyUse> _pending = new();

    public long NowTicks => time.GetUtcNow().UtcTicks;

    public ApiKeyUse Of(Guid enterpriseId, Guid apiKeyId) => new(enterpriseId, apiKeyId, this);

    public void Await(ApiKeyUse use) => _pending.Enqueue(use);

    /// <summary>All that wait now.</summary>
    public List<ApiKeyUse> TakeAll()
    {
        var taken = new List<ApiKeyUse>();
        for (int waiting = _pending.Count; waiting > 0 && _pending.TryDequeue(out ApiKeyUse? use); waiting--)
        {
            use.Take();
            taken.Add(use);
        }

        return taken;
    }
}

/// <summary>
/// Writes down every half a minute when keys were last used: one statement for each enterprise, in its scope. Only a crash
/// loses a note, and never more than the last half a minute's.
/// </summary>
internal sealed partial class ApiKeyUseWriter(
    Database database,
    ApiKeyUses uses,
    TimeProvider time,
    ILogger<ApiKeyUseWriter> logger
) : BackgroundService
{
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan LastWriteTimeMax = TimeSpan.FromSeconds(5);

    // Locked in the order of their ids: two instances write of the same keys. Never moves back, whoever comes last.
    private const string WriteUses = """
        WITH used AS (
            SELECT k.api_key_id, u.used_at FROM api_keys k JOIN unnest($2::uuid[], $3::timestamptz[]) AS u (api_key_id, used_at)
                ON k.api_key_id = u.api_key_id
            WHERE k.enterprise_id = $1 ORDER BY k.api_key_id FOR NO KEY UPDATE OF k)
        UPDATE api_keys k SET last_used_at = used.used_at FROM used
        WHERE k.enterprise_id = $1 AND k.api_key_id = used.api_key_id
          AND (k.last_used_at IS NULL OR k.last_used_at < used.used_at)
        """;

    /// <summary>Writes what waits; what cannot be written waits on.</summary>
    public async Task WriteAsync(CancellationToken cancellationToken)
    {
        foreach (IGrouping<Guid, ApiKeyUse> ofEnterprise in uses.TakeAll().GroupBy(use => use.EnterpriseId))
        {
            try
            {
                await WriteAsync(ofEnterprise, cancellationToken);
            }
#pragma warning disable CA1031 // Whatever it is: a note that cannot be written now is written later.
            catch (Exception exception)
#pragma warning restore CA1031
            {
                foreach (ApiKeyUse use in ofEnterprise)
                {
                    use.PutBack();
                }

                if (!cancellationToken.IsCancellationRequested)
                {
                    NotWritten(exception);
                }
            }
        }
    }

    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await base.StopAsync(cancellationToken);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(LastWriteTimeMax);
        await WriteAsync(deadline.Token);
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            await WriteAsync(stoppingToken);
        }
    }

    private async Task WriteAsync(IGrouping<Guid, ApiKeyUse> ofEnterprise, CancellationToken cancellationToken)
    {
        // A key that was looked up anew meanwhile waits twice.
        var latest = ofEnterprise
            .GroupBy(use => use.ApiKeyId)
            .Select(key => (ApiKeyId: key.Key, UsedAt: key.Max(use => use.LastUsedAt)))
            .ToList();
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            ofEnterprise.Key,
            cancellationToken
        );
        object?[] parameters =
        [
            ofEnterprise.Key,
            latest.ConvertAll(key => key.ApiKeyId).ToArray(),
            latest.ConvertAll(key => key.UsedAt).ToArray(),
        ];
        await transaction.ExecuteAsync(WriteUses, parameters, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "When API keys were used could not be written; later then.")]
    private partial void NotWritten(Exception exception);
}
