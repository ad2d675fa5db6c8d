using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using UsageMonitor.Server;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Gateway.RateLimits;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench auth</c>: what it adds to an ingest request in the steady state to know who calls, what they may, and how fast.
/// The platform runs in this process; beside it a server whose two endpoints read and parse the same event and answer 202,
/// one behind the guard and the rate limits, the other without. The durable append is left out of both: its milliseconds
/// would drown the difference.
/// </summary>
internal sealed class AuthBench(Options options, string dataFolder, TextWriter progress)
{
    private const double MicrosecondsTarget = 50;
    private const int WarmUpPairs = 3_000;
    private const int Pairs = 20_000;
    private const int EventsPerSecondMax = 10_000_000; // it is the cost that is measured here, not the refusal
    private const string GuardedPath = "/guarded";
    private const string PlainPath = "/plain";
    private readonly Report _report = new();

    public async Task<Report> RunAsync()
    {
        progress.WriteLine("starting the platform");
        await using ServerHost platform = await ServerHost.StartAsync(
            new Dictionary<string, string?>
            {
                ["Port"] = "0",
                ["Data"] = Path.Combine(dataFolder, "platform"),
                ["USAGEMONITOR_OPERATOR_EMAIL"] = ServerProcess.OperatorEmail,
                ["USAGEMONITOR_OPERATOR_PASSWORD"] = ServerProcess.OperatorPassword,
                ["RateLimits:EventsPerSecondPerKey"] = $"{EventsPerSecondMax}",
                ["RateLimits:EventsPerSecondPerEnterprise"] = $"{EventsPerSecondMax}",
                ["Logging:LogLevel:Default"] = options.LogLevel,
            },
            CancellationToken.None
        );
        Ending.Add(platform);
        using var client = new PlatformClient(platform.Address.Port, () => "");
        BenchEnterprise enterprise = (await client.CreateEnterprisesAsync(1))[0];
        await using WebApplication app = await StartAsync(platform.Services);
        int port = new Uri(
            app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()
        ).Port;

        await MeasureHttpAsync(port, enterprise.ApiKey);
        await new GuardCost(platform.Services, enterprise.ApiKey).MeasureAsync(options.Rounds, options.Quick, _report);
        Ending.Remove(platform);
        _report.Note(
            "Guard: credential (SHA-256, cache), suspension, network, permission, two token buckets with their headers. Over HTTP: "
                + $"{Pairs:N0} pairs a round over one connection, the same event of {EventBodies.EventBytes} bytes with and without, "
                + "who goes first alternating; the median of the pairs' differences. In process: the same HttpContext again and again."
        );
        return _report;
    }

    private static async Task<WebApplication> StartAsync(IServiceProvider platform)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder
            .Services.AddSingleton(platform.GetRequiredService<CredentialCache>())
            .AddSingleton(platform.GetRequiredService<RateLimiter>())
            .AddSingleton(platform.GetRequiredService<AuditRequests>());
        WebApplication app = builder.Build();
        app.UseRouting();
        app.UseWhen(
            context => context.Request.Path.StartsWithSegments(GuardedPath, StringComparison.Ordinal),
            guarded => guarded.UseGuard()
        );
        RateLimiter limiter = platform.GetRequiredService<RateLimiter>();
        app.MapPost(GuardedPath, (RequestDelegate)(context => HandleAsync(context, limiter)))
            .CountsItsEvents()
            .NotAudited("as the one that takes events", hasScope: false)
            .RequirePermission(Permissions.UsageWrite);
        app.MapPost(PlainPath, (RequestDelegate)(context => HandleAsync(context, limiter: null)));
        await app.StartAsync();
        return app;
    }

    private static async Task HandleAsync(HttpContext context, RateLimiter? limiter)
    {
        Caller? caller = limiter is null ? null : context.GetCaller();
        BodyResult read = await RequestBody.ReadAsync(context.Request, context.RequestAborted);
        using RequestBody body = read.Body ?? throw new BenchException("The event cannot be read.");
        ParseOutcome parsed = EventParser.Parse(
            body.Bytes,
            body.NewlineDelimited,
            caller?.EnterpriseId ?? Guid.Empty,
            DateTimeOffset.UtcNow,
            mayBackfill: false
        );
        if (limiter is not null)
        {
            RateDecision rate = await limiter.TakeAsync(caller!, RateUnit.Events, parsed.Batch!.Accepted.Count);
            rate.WriteHeaders(context.Response);
        }

        context.Response.StatusCode = parsed.Batch?.Accepted.Count == 1 ? 202 : 400;
    }

    private async Task MeasureHttpAsync(int port, string apiKey)
    {
        EventBatch batch = EventBatch.Make(1, 1, new EnterpriseMix(1), new Random(1))[0];
        batch.Renew(new UniqueIds());
        byte[] guarded = Request(GuardedPath, port, apiKey, batch.Body.Span);
        byte[] plain = Request(PlainPath, port, apiKey, batch.Body.Span);
        using var connection = new HttpConnection(port);
        await PairsAsync(connection, guarded, plain, WarmUpPairs);
        var added = new List<double>();
        var without = new List<double>();
        for (int round = 1; round <= options.Rounds; round++)
        {
            (double difference, double baseline) = await PairsAsync(
                connection,
                guarded,
                plain,
                options.Quick ? WarmUpPairs : Pairs
            );
            added.Add(difference);
            without.Add(baseline);
            progress.WriteLine($"HTTP {round}: {difference:0.0} µs added to {baseline:0.0} µs");
        }

        _report.Add(
            new Measure(
                "authentication adds to an ingest request over HTTP, p50 of pairs (µs)",
                added,
                "< 50",
                microseconds => microseconds < MicrosecondsTarget
            )
        );
        _report.Add(new Measure("the request without it, p50 (µs)", without));
    }

    private static async Task<(double Difference, double Baseline)> PairsAsync(
        HttpConnection connection,
        byte[] guarded,
        byte[] plain,
        int pairs
    )
    {
        double[] differences = new double[pairs];
        double[] baseline = new double[pairs];
        for (int pair = 0; pair < pairs; pair++)
        {
            bool first = pair % 2 == 0;
            double one = await TimeAsync(connection, first ? guarded : plain);
            double two = await TimeAsync(connection, first ? plain : guarded);
            differences[pair] = first ? one - two : two - one;
            baseline[pair] = first ? two : one;
        }

        Array.Sort(differences);
        Array.Sort(baseline);
        return (Latency.Percentile(differences, 50), Latency.Percentile(baseline, 50));
    }

    private static async ValueTask<double> TimeAsync(HttpConnection connection, byte[] request)
    {
        long started = System.Diagnostics.Stopwatch.GetTimestamp();
        HttpAnswer answer = await connection.SendAsync(request);
        double microseconds = System.Diagnostics.Stopwatch.GetElapsedTime(started).TotalMicroseconds;
        return answer.Status == 202
            ? microseconds
            : throw new BenchException($"The event was answered {answer.Status}.");
    }

    private static byte[] Request(string path, int port, string apiKey, ReadOnlySpan<byte> body)
    {
        string head =
            $"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {apiKey}\r\n"
            + $"Content-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n";
        return [.. System.Text.Encoding.ASCII.GetBytes(head), .. body];
    }
}
