using System.Collections.Concurrent;
using System.IO.Compression;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Logging;
using UsageMonitor.Contracts;
using Xunit;

namespace UsageMonitor.Tests.Import;

/// <summary>A server that answers <c>POST /v1/usage/events</c> as a test tells it to: the faults an import must outlive.</summary>
internal sealed class IngestStub : IAsyncDisposable
{
    private readonly WebApplication _app;
    private int _requests;

    private IngestStub(WebApplication app) => _app = app;

    /// <summary>What to answer to the n-th request (from 1) of these lines, or null to accept them all.</summary>
    public Func<int, string[], IResult?> Answer { get; set; } = (_, _) => null;

    /// <summary>Lines that were answered with 202.</summary>
    public ConcurrentQueue<string> Taken { get; } = [];

    public ConcurrentQueue<(string? Authorization, string? ContentType, int Lines)> Requests { get; } = [];

    public string Url => _app.Urls.Single();

    public static async Task<IngestStub> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        WebApplication app = builder.Build();
        var stub = new IngestStub(app);
        app.MapPost("/v1/usage/events", (Delegate)stub.TakeAsync);
        await app.StartAsync();
        return stub;
    }

    public static IResult Accept(string[] lines, params RejectedEvent[] rejected) =>
        Results.Json(
            new IngestResponse(lines.Length, lines.Length - rejected.Length, rejected),
            statusCode: StatusCodes.Status202Accepted
        );

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task<IResult> TakeAsync(HttpContext context)
    {
        int number = Interlocked.Increment(ref _requests);
        Assert.Equal("gzip", context.Request.Headers.ContentEncoding);
        using var body = new StreamReader(
            new GZipStream(context.Request.Body, CompressionMode.Decompress),
            Encoding.UTF8
        );
        string[] lines = (await body.ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Requests.Enqueue((context.Request.Headers.Authorization, context.Request.ContentType, lines.Length));
        IResult? told = Answer(number, lines);
        if (told is null or IStatusCodeHttpResult { StatusCode: StatusCodes.Status202Accepted })
        {
            Array.ForEach(lines, Taken.Enqueue);
        }

        return told ?? Accept(lines);
    }
}
