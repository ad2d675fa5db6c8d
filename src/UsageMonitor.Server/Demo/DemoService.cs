using UsageMonitor.EventLog;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Demo;

/// <summary>
/// <c>--demo</c>: three invented enterprises, 90 days of their history on the first start, and a gentle live flow on every
/// one. A start after a pause goes on from now; the pause stays empty, as it was.
/// </summary>
internal sealed partial class DemoService(
    DemoEnterprises enterprises,
    DemoSender sender,
    TimeProvider time,
    ILogger<DemoService> logger
) : BackgroundService
{
    private const int BatchEventsMax = 5_000;
    private const int RetrySeconds = 2;
    private const int TickSeconds = 1;
    private readonly List<(DemoEnterprise Enterprise, DateTimeOffset CreatedAt)> _made = [];

    public override async Task StartAsync(CancellationToken cancellationToken)
    {
        foreach (DemoEnterprise demo in DemoSample.Read())
        {
            try
            {
                (DateTimeOffset createdAt, string? password) = await enterprises.EnsureAsync(demo, cancellationToken);
                _made.Add((demo, createdAt));
                if (password is not null)
                {
                    Console.WriteLine(
                        $"Demo: {demo.Name}  sign in as {demo.AdminEmail}  password {password}  (shown this once)"
                    );
                }
            }
            catch (EmailTakenException)
            {
                LogEmailTaken(demo.Name, demo.AdminEmail);
            }
        }

        await base.StartAsync(cancellationToken);
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        // Reading the sample is work for the processor; the server's start need not wait for it.
        await Task.Yield();
        await Task.WhenAll(_made.Select(made => RunAsync(made.Enterprise, made.CreatedAt, stoppingToken)));
    }

    private async Task RunAsync(DemoEnterprise demo, DateTimeOffset createdAt, CancellationToken stoppingToken)
    {
        await LoadAsync(demo, new DemoHistory(demo, ZoneOf(demo), createdAt), stoppingToken);
        await FlowAsync(demo, stoppingToken);
    }

    /// <summary>
    /// Sends the history unless its last event is stored. One that was interrupted is sent again from the beginning: the
    /// events have their ids for ever, so none is counted twice.
    /// </summary>
    private async Task LoadAsync(DemoEnterprise demo, DemoHistory history, CancellationToken stoppingToken)
    {
        if (await enterprises.HasAsync(demo, history.Events().Last(), stoppingToken))
        {
            return;
        }

        long started = time.GetTimestamp();
        int sent = 0;
        foreach (DemoEvent[] batch in history.Events().Chunk(BatchEventsMax))
        {
            while (!await TrySendAsync(demo, batch, stoppingToken))
            {
                await Task.Delay(TimeSpan.FromSeconds(RetrySeconds), time, stoppingToken);
            }

            sent += batch.Length;
        }

        TimeSpan took = time.GetElapsedTime(started);
        LogLoaded(demo.Name, sent, (int)took.TotalSeconds);
    }

    private async Task FlowAsync(DemoEnterprise demo, CancellationToken stoppingToken)
    {
        var flow = new DemoFlow(demo, ZoneOf(demo));
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(TickSeconds), time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            DateTimeOffset now = time.GetUtcNow();
            DemoEvent[] events =
            [
                .. flow.Second(now, Random.Shared)
                    .Select(stretch => new DemoEvent(Guid.CreateVersion7(now), now.UtcDateTime, stretch)),
            ];
            if (events.Length > 0)
            {
                // What the log does not take now is not missed: there is more next second.
                await TrySendAsync(demo, events, stoppingToken);
            }
        }
    }

    private async Task<bool> TrySendAsync(
        DemoEnterprise demo,
        IReadOnlyCollection<DemoEvent> events,
        CancellationToken stoppingToken
    )
    {
        try
        {
            return await sender.SendAsync(demo, events, stoppingToken);
        }
        catch (Exception exception)
            when (exception
                    is EventLogUnavailableException
                        or LimitsUnavailableException
                        or PoliciesUnavailableException
                        or PropertyRulesUnavailableException
                        or Npgsql.NpgsqlException
            )
        {
            LogNotSent(exception, demo.Name);
            return false;
        }
    }

    private static TimeZoneInfo ZoneOf(DemoEnterprise demo) => TimeZoneInfo.FindSystemTimeZoneById(demo.TimeZone);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The demo leaves out {Enterprise}: {Email} signs in elsewhere already"
    )]
    private partial void LogEmailTaken(string enterprise, string email);

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "Demo: {Enterprise} has its history, {Events} events in {Seconds} s"
    )]
    private partial void LogLoaded(string enterprise, int events, int seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The demo's events of {Enterprise} could not be sent")]
    private partial void LogNotSent(Exception exception, string enterprise);
}

internal static class DemoServices
{
    /// <summary>The demo, in a process that also ingests.</summary>
    public static IServiceCollection AddDemo(this IServiceCollection services) =>
        services.AddSingleton<DemoEnterprises>().AddSingleton<DemoSender>().AddHostedService<DemoService>();
}
