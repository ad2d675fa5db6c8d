using System.Collections.Concurrent;
using Npgsql;

namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>What was refused to whom.</summary>
/// <param name="Asked">The endpoint's name.</param>
/// <param name="Code">Why.</param>
internal sealed record Refusal(Guid EnterpriseId, AuditActor Actor, string Asked, string Code, string? Address)
{
    public AuditEntry Entry(long times) =>
        new("access.refused", "endpoint", Asked)
        {
            Actor = Actor,
            Outcome = AuditEntry.Refused,
            After = new { because = Code, times },
        };
}

/// <summary>Refusals of the running minute: a program that goes on asking must not be able to fill the log.</summary>
internal sealed partial class AuditRefusals(AuditTrail trail, TimeProvider time, ILogger<AuditRefusals> logger)
    : BackgroundService
{
    private const int KnownMax = 10_000;
    private static readonly TimeSpan s_window = TimeSpan.FromMinutes(1);
    private readonly ConcurrentDictionary<Refusal, long> _more = new();

    /// <summary>Whether it is the first of its kind in this minute, and so to be written; the others are counted.</summary>
    public bool IsFirst(Refusal refusal) =>
        _more.Count < KnownMax
            ? _more.AddOrUpdate(refusal, 0, static (_, more) => more + 1) == 0
            : _more.TryGetValue(refusal, out _) && _more.AddOrUpdate(refusal, 0, static (_, more) => more + 1) < 0;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(s_window, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            await WriteAsync(stoppingToken);
        }
    }

    /// <summary>Writes what was counted, and begins anew.</summary>
    public async Task WriteAsync(CancellationToken cancellationToken)
    {
        foreach (Refusal refusal in _more.Keys.ToArray())
        {
            if (!_more.TryRemove(refusal, out long more) || more == 0)
            {
                continue;
            }

            try
            {
                await trail.RecordAsync(refusal.EnterpriseId, refusal.Entry(more), cancellationToken);
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                NotWritten(exception);
            }
        }
    }

    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await base.StopAsync(cancellationToken);
        await WriteAsync(cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Refusals could not be written to the audit log.")]
    private partial void NotWritten(Exception exception);
}
