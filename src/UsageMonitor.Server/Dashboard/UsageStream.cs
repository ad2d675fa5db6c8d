using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary>
/// <c>GET /v1/dashboard/stream</c>: says that there are new numbers, not which; a page then asks for what it shows, so that
/// all pages of an enterprise share one cached answer.
/// </summary>
internal static class UsageStream
{
    /// <summary>The shortest time between two events of a stream.</summary>
    public const int IntervalMilliseconds = 250;

    /// <summary>A stream without news says so this often, so that proxies keep it and dead ones are noticed.</summary>
    public const int HeartbeatSeconds = 15;

    /// <summary>A stream ends after this long; browsers open it again by themselves, with whatever rights they then have.</summary>
    public const int StreamMinutesMax = 10;

    /// <summary>What an event carries.</summary>
    public sealed record News(DateTimeOffset AsOf);

    public static ServerSentEventsResult<News> Open(
        HttpContext context,
        [FromServices] UsageSignal signal,
        [FromServices] TimeProvider time,
        [FromServices] IHostApplicationLifetime lifetime,
        CancellationToken cancellationToken
    )
    {
        context.Response.Headers.CacheControl = "no-store";
        context.Response.Headers["X-Accel-Buffering"] = "no";
        return TypedResults.ServerSentEvents(
            ReadAsync(context.GetCaller().EnterpriseId, signal, time, lifetime.ApplicationStopping, cancellationToken)
        );
    }

    private static async IAsyncEnumerable<SseItem<News>> ReadAsync(
        Guid enterpriseId,
        UsageSignal signal,
        TimeProvider time,
        CancellationToken stopping,
        [EnumeratorCancellation] CancellationToken cancellationToken
    )
    {
        // A server that is told to stop would else wait for every page that is open somewhere.
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, stopping);
        cancellationToken = ended.Token;
        var news = Channel.CreateBounded<bool>(
            new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite }
        );
        using IDisposable watching = signal.Watch(enterpriseId, () => news.Writer.TryWrite(true));
        DateTimeOffset end = time.GetUtcNow().AddMinutes(StreamMinutesMax);
        yield return Item("hello", time.GetUtcNow());
        while (time.GetUtcNow() < end && !cancellationToken.IsCancellationRequested)
        {
            using var heartbeat = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            heartbeat.CancelAfter(TimeSpan.FromSeconds(HeartbeatSeconds));
            bool changed = await news
                .Reader.WaitToReadAsync(heartbeat.Token)
                .AsTask()
                .ContinueWith(waited => waited.IsCompletedSuccessfully, TaskScheduler.Default);
            news.Reader.TryRead(out _);
            yield return Item(changed ? "usage" : "heartbeat", time.GetUtcNow());
            await Task.Delay(TimeSpan.FromMilliseconds(IntervalMilliseconds), time, cancellationToken)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static SseItem<News> Item(string type, DateTimeOffset now) =>
        new(new News(now), type) { EventId = now.UtcTicks.ToString(System.Globalization.CultureInfo.InvariantCulture) };
}
