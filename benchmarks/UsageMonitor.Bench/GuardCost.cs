using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Bench;

/// <summary>The guard's way through a request and the rate limits', in process: nanoseconds and bytes a call.</summary>
internal sealed class GuardCost(IServiceProvider platform, string apiKey)
{
    private const int BatchCalls = 1_000;
    private const int Batches = 300;
    private const double MicrosecondsTarget = 50;

    public async Task MeasureAsync(int rounds, bool quick, Report report)
    {
        RateLimiter limiter = platform.GetRequiredService<RateLimiter>();
        var context = new DefaultHttpContext();
        context.Request.Method = HttpMethods.Post;
        context.Request.Path = "/v1/usage/events";
        context.Request.Headers.Authorization = "Bearer " + apiKey;
        context.SetEndpoint(
            new Endpoint(
                _ => Task.CompletedTask,
                new EndpointMetadataCollection(
                    new PermissionMetadata(Permissions.UsageWrite),
                    new NotAuditedMetadata("as the one that takes events", HasScope: false),
                    new RateLimitMetadata(RateUnit.Events, ByEndpoint: true)
                ),
                "events"
            )
        );
        var guard = new Guard(
            asked => TakeAsync(asked, limiter),
            platform.GetRequiredService<CredentialCache>(),
            limiter,
            platform.GetRequiredService<AuditRequests>(),
            NullLogger<Guard>.Instance
        );

        int batches = quick ? Batches / 10 : Batches;
        await BatchesAsync(guard, context, batches);
        var (nanoseconds, bytes) = (new List<double>(), new List<double>());
        for (int round = 0; round < rounds; round++)
        {
            (double median, double allocated) = await BatchesAsync(guard, context, batches);
            nanoseconds.Add(median / 1_000);
            bytes.Add(allocated);
        }

        report.Add(
            new Measure(
                "the guard and the rate limits in process (µs)",
                nanoseconds,
                "< 50",
                microseconds => microseconds < MicrosecondsTarget
            )
        );
        report.Add(new Measure("the same, allocated (bytes)", bytes));
    }

    private static async Task TakeAsync(HttpContext context, RateLimiter limiter)
    {
        RateDecision rate = await limiter.TakeAsync(context.GetCaller(), RateUnit.Events, 1);
        rate.WriteHeaders(context.Response);
        if (!rate.Allowed)
        {
            throw new BenchException("The measurement is rate-limited.");
        }
    }

    private static async Task<(double Nanoseconds, double Bytes)> BatchesAsync(
        Guard guard,
        HttpContext context,
        int batches
    )
    {
        double[] perCall = new double[batches];
        double[] bytes = new double[batches];
        for (int batch = 0; batch < batches; batch++)
        {
            long allocated = GC.GetAllocatedBytesForCurrentThread();
            long started = Stopwatch.GetTimestamp();
            int thread = Environment.CurrentManagedThreadId;
            for (int call = 0; call < BatchCalls; call++)
            {
                await guard.InvokeAsync(context);
            }

            perCall[batch] = Stopwatch.GetElapsedTime(started).TotalNanoseconds / BatchCalls;
            bytes[batch] =
                thread == Environment.CurrentManagedThreadId
                    ? (double)(GC.GetAllocatedBytesForCurrentThread() - allocated) / BatchCalls
                    : double.NaN; // a call waited for Redis and went on elsewhere
        }

        if (context.Response.StatusCode != StatusCodes.Status200OK)
        {
            throw new BenchException($"The guard answered {context.Response.StatusCode}.");
        }

        Array.Sort(perCall);
        double[] known = [.. bytes.Where(double.IsFinite).Order()];
        return known.Length > 0
            ? (Latency.Percentile(perCall, 50), Latency.Percentile(known, 50))
            : throw new BenchException("Every batch of calls had to wait for Redis.");
    }
}
