using System.CommandLine;
using System.IO.Compression;
using System.Text;
using Microsoft.AspNetCore.Http;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Import;
using Xunit;

namespace UsageMonitor.Tests.Import;

public sealed class ImportCommandTests : IAsyncLifetime
{
    private const string Key = "um_secret_of_the_test";
    private readonly string _folder = Directory.CreateTempSubdirectory("import-tests-").FullName;
    private readonly ImpatientTime _time = new();
    private readonly StringWriter _output = new();
    private readonly StringWriter _error = new();
    private IngestStub _server = null!;

    public async ValueTask InitializeAsync() => _server = await IngestStub.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Import_WhenAllAreAccepted_ShouldSendEveryLineOnceAndExitZero(bool gzip)
    {
        string[] events = Events(25);
        string file = Write(gzip ? "events.ndjson.gz" : "events.ndjson", gzip, events);

        int exit = await RunAsync(file, "--batch", "10");

        Assert.Equal(0, exit);
        Assert.Equal(events.Order(), _server.Taken.Order());
        Assert.Equal([5, 10, 10], _server.Requests.Select(request => request.Lines).Order());
        Assert.All(
            _server.Requests,
            request =>
                Assert.Equal(($"Bearer {Key}", "application/x-ndjson"), (request.Authorization, request.ContentType))
        );
        Assert.DoesNotContain(Key, _output.ToString() + _error, StringComparison.Ordinal);
        Assert.DoesNotContain(
            Key,
            await File.ReadAllTextAsync(file + ".import-state", Cancel),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task Import_WhenRunAgain_ShouldSendNothing_UnlessRestarted()
    {
        string file = Write("events.ndjson", gzip: false, Events(7));
        await RunAsync(file);

        Assert.Equal(0, await RunAsync(file));
        Assert.Equal(7, _server.Taken.Count);

        Assert.Equal(0, await RunAsync(file, "--restart"));
        Assert.Equal(14, _server.Taken.Count);
    }

    [Fact]
    public async Task Import_WhenServerFailsHalfway_ShouldContinueAfterTheAcknowledgedLines()
    {
        string[] events = Events(50);
        string file = Write("events.ndjson.gz", gzip: true, events);
        _server.Answer = (number, _) => number > 3 ? Problem(StatusCodes.Status503ServiceUnavailable) : null;

        Assert.Equal(2, await RunAsync(file, "--batch", "10", "--concurrency", "1"));
        Assert.Contains("503", _error.ToString(), StringComparison.Ordinal);
        Assert.Equal(30, _server.Taken.Count);

        _server.Answer = (_, _) => null;
        Assert.Equal(0, await RunAsync(file, "--batch", "10", "--concurrency", "1"));

        Assert.Equal(events, _server.Taken);
        Assert.Contains("(30 by an earlier run)", _output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Import_WhenAnEarlierBatchFails_ShouldNotCountTheLaterOnes()
    {
        string[] events = Events(40);
        string file = Write("events.ndjson", gzip: false, events);
        _server.Answer = (_, lines) => lines[0] == events[10] ? Problem(StatusCodes.Status403Forbidden) : null;
        Assert.Equal(2, await RunAsync(file, "--batch", "10", "--concurrency", "4"));

        _server.Answer = (_, _) => null;
        Assert.Equal(0, await RunAsync(file, "--batch", "10", "--concurrency", "4"));

        Assert.Equal(events.Order(), _server.Taken.Distinct().Order());
    }

    [Fact]
    public async Task Import_WhenServerIsBusy_ShouldWaitAsLongAsItAsks()
    {
        string file = Write("events.ndjson", gzip: false, Events(3));
        _server.Answer = (number, _) =>
            number switch
            {
                1 => Problem(StatusCodes.Status503ServiceUnavailable, retryAfterSeconds: 7),
                2 => Problem(StatusCodes.Status429TooManyRequests, retryAfterSeconds: 11),
                _ => null,
            };

        Assert.Equal(0, await RunAsync(file));

        Assert.Equal([TimeSpan.FromSeconds(7), TimeSpan.FromSeconds(11)], _time.Waits);
        Assert.Equal(3, _server.Taken.Count);
    }

    [Fact]
    public async Task Import_WhenServerIsAway_ShouldGiveUpInTimeAndSayWhy()
    {
        string file = Write("events.ndjson", gzip: false, Events(3));

        int exit = await RunAsync(file, "--url", "http://127.0.0.1:1", "--give-up-after", "30");

        Assert.Equal(2, exit);
        Assert.Contains("did not take a batch in 30 s", _error.ToString(), StringComparison.Ordinal);
        Assert.InRange(_time.Waits.Aggregate(TimeSpan.Zero, (sum, wait) => sum + wait).TotalSeconds, 10, 30);
    }

    [Fact]
    public async Task Import_WhenSomeAreRejected_ShouldNameTheirLinesAndExitOne()
    {
        string[] events =
        [
            "\uFEFF{\"userId\":\"a\"}",
            "",
            "broken",
            new string('x', ImportFile.LineBytesMax + 1),
            .. Events(9),
        ];
        string file = Write("events.ndjson", gzip: true, events);
        _server.Answer = (_, lines) =>
            IngestStub.Accept(
                lines,
                [
                    .. lines
                        .Index()
                        .Where(line => !line.Item.Contains("eventId", StringComparison.Ordinal))
                        .Select(line => new RejectedEvent(
                            line.Index,
                            null,
                            RejectionCodes.InvalidJson,
                            $"about {line.Item}"
                        )),
                ]
            );

        Assert.Equal(1, await RunAsync(file));

        string summary = _output.ToString();
        Assert.Contains("lines               13", summary, StringComparison.Ordinal);
        Assert.Contains("accepted             9", summary, StringComparison.Ordinal);
        Assert.Contains("line 1: about {\"userId\":\"a\"}", summary, StringComparison.Ordinal);
        Assert.Contains("line 3: about broken", summary, StringComparison.Ordinal);
        Assert.Contains("event_too_large 1", summary, StringComparison.Ordinal);
        Assert.Contains("1 lines have no eventId", summary, StringComparison.Ordinal);
        Assert.Equal(1, await RunAsync(file));
    }

    [Fact]
    public async Task Import_WhenABatchIsRefusedWhole_ShouldFindTheLineToBlame()
    {
        string[] events = [.. Events(10), "poison", .. Events(10)];
        string file = Write("events.ndjson", gzip: false, events);
        _server.Answer = (_, lines) => lines.Contains("poison") ? Problem(StatusCodes.Status400BadRequest) : null;

        Assert.Equal(1, await RunAsync(file));

        Assert.Equal(20, _server.Taken.Count);
        Assert.Contains("line 11: told by the test", _output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Import_WhenTheFileEndsInsideItsGzip_ShouldFailAndKeepWhatWasAcknowledged()
    {
        string file = Write("events.ndjson.gz", gzip: true, Events(20_000));
        byte[] whole = await File.ReadAllBytesAsync(file, Cancel);
        await File.WriteAllBytesAsync(file, whole[..(whole.Length / 2)], Cancel);

        Assert.Equal(2, await RunAsync(file));

        Assert.Contains("the file is damaged", _error.ToString(), StringComparison.Ordinal);
        Assert.InRange(_server.Taken.Count, 1, 19_999);
    }

    [Fact]
    public async Task Import_WhenSeveralFilesShareAState_ShouldKeepThemApart()
    {
        string one = Write("one.ndjson", gzip: false, Events(4));
        string other = Write("other.ndjson", gzip: false, Events(5));
        string state = Path.Combine(_folder, "state");

        Assert.Equal(0, await RunAsync(one, other, "--state", state));
        Assert.Equal(0, await RunAsync(one, other, "--state", state));

        Assert.Equal(9, _server.Taken.Count);
    }

    [Theory]
    [InlineData("--url", "nowhere")]
    [InlineData("--api-key", "two words")]
    public async Task Import_WhenAnOptionIsWrong_ShouldExitTwo(string option, string value)
    {
        string file = Write("events.ndjson", gzip: false, Events(1));

        Assert.Equal(2, await RunAsync(file, option, value));
        Assert.Empty(_server.Requests);
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static Refusal Problem(int status, int? retryAfterSeconds = null) => new Refusal(status, retryAfterSeconds);

    private static string[] Events(int count) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(n => $$"""{"eventId":"{{Guid.NewGuid()}}","userId":"u{{n}}","featureName":"f"}"""),
        ];

    private string Write(string name, bool gzip, string[] lines)
    {
        string path = Path.Combine(_folder, name);
        using Stream file = File.Create(path);
        using Stream stream = gzip ? new GZipStream(file, CompressionLevel.Fastest) : file;
        stream.Write(Encoding.UTF8.GetBytes(string.Join('\n', lines)));
        return path;
    }

    private async Task<int> RunAsync(params string[] args)
    {
        string[] url = args.Contains("--url") ? [] : ["--url", _server.Url];
        string[] key = args.Contains("--api-key") ? [] : ["--api-key", Key];
        return await ImportCommand
            .Create(_time)
            .Parse([.. args, .. url, .. key])
            .InvokeAsync(new InvocationConfiguration { Output = _output, Error = _error }, Cancel);
    }

    private sealed record Refusal(int Status, int? RetryAfterSeconds) : IResult, IStatusCodeHttpResult
    {
        public int? StatusCode => Status;

        public Task ExecuteAsync(HttpContext httpContext)
        {
            if (RetryAfterSeconds is { } seconds)
            {
                httpContext.Response.Headers.RetryAfter = $"{seconds}";
            }

            return Results
                .Problem("told by the test", statusCode: Status, extensions: [new("code", "told")])
                .ExecuteAsync(httpContext);
        }
    }
}
