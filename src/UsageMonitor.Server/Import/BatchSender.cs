using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text.Json;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Import;

/// <summary>What the server said of a batch.</summary>
internal sealed record BatchOutcome(int Accepted, IReadOnlyList<RejectedLine> Rejected);

/// <summary>The import can't go on; the message is for the person at the terminal.</summary>
internal sealed class ImportFailedException(string message) : Exception(message);

/// <summary>
/// Sends batches until they are acknowledged: waits and repeats while the server is busy or away, for at most a given
/// time a batch, and halves a batch that is refused as a whole until the line to blame is alone.
/// </summary>
internal sealed class BatchSender : IDisposable
{
    private const int AttemptSecondsMax = 60;
    private const int FirstDelayMilliseconds = 200;
    private const int DelayMillisecondsMax = 10_000;
    private const int DetailLettersMax = 300;
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);

    private readonly HttpClient _http;
    private readonly Uri _endpoint;
    private readonly TimeSpan _giveUpAfter;
    private readonly TimeProvider _time;
    private long _retries;

    public BatchSender(Uri platform, string apiKey, TimeSpan giveUpAfter, TimeProvider time)
    {
        _endpoint = new Uri(platform, "v1/usage/events");
        (_giveUpAfter, _time, Target) = (giveUpAfter, time, ImportState.TargetOf(platform, apiKey));
        // A redirect would carry the key and the events to somewhere that was not asked for.
        _http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
        {
            Timeout = TimeSpan.FromSeconds(AttemptSecondsMax),
        };
        _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", apiKey);
    }

    /// <summary>See <see cref="ImportState.Target"/>.</summary>
    public string Target { get; }

    /// <summary>Attempts that were not the first.</summary>
    public long Retries => Interlocked.Read(ref _retries);

    public void Dispose() => _http.Dispose();

    /// <exception cref="ImportFailedException">The server refuses the caller, or did not take the batch in time.</exception>
    public async Task<BatchOutcome> SendAsync(ImportBatch batch, CancellationToken cancel)
    {
        var rejected = new List<RejectedLine>(batch.RejectedHere);
        int accepted = batch.Events == 0 ? 0 : await SendAsync(batch, 0, batch.Events, rejected, cancel);
        rejected.Sort((one, other) => one.Line.CompareTo(other.Line));
        return new BatchOutcome(accepted, rejected);
    }

    private async Task<int> SendAsync(
        ImportBatch batch,
        int first,
        int count,
        List<RejectedLine> rejected,
        CancellationToken cancel
    )
    {
        byte[] body = Compress(batch.Body(first, count));
        using HttpResponseMessage response = await SendUntilAnsweredAsync(body, cancel);
        if (response.StatusCode is HttpStatusCode.BadRequest or HttpStatusCode.RequestEntityTooLarge)
        {
            if (count > 1)
            {
                int half = count / 2;
                return await SendAsync(batch, first, half, rejected, cancel)
                    + await SendAsync(batch, first + half, count - half, rejected, cancel);
            }

            (string code, string detail) = await ReadProblemAsync(response, cancel);
            rejected.Add(new RejectedLine(batch.LineOf(first), code, detail));
            return 0;
        }

        if (response.StatusCode != HttpStatusCode.Accepted)
        {
            (string code, string detail) = await ReadProblemAsync(response, cancel);
            throw new ImportFailedException($"{_endpoint} answered {(int)response.StatusCode} {code}: {detail}");
        }

        IngestResponse answer = await ReadAnswerAsync(response, count, cancel);
        rejected.AddRange(
            answer.Rejected.Select(one => new RejectedLine(batch.LineOf(first + one.Index), one.Code, one.Detail))
        );
        return answer.Accepted;
    }

    private async Task<IngestResponse> ReadAnswerAsync(HttpResponseMessage response, int sent, CancellationToken cancel)
    {
        IngestResponse? answer = null;
        try
        {
            answer = await response.Content.ReadFromJsonAsync<IngestResponse>(Json, cancel);
        }
        catch (JsonException)
        {
            // Told below, as any other answer that is not this platform's.
        }

        bool adds =
            answer is { Rejected: not null }
            && answer.Received == sent
            && answer.Accepted + answer.Rejected.Count == sent
            && answer.Rejected.All(one => one.Index >= 0 && one.Index < sent);
        return adds
            ? answer!
            : throw new ImportFailedException(
                $"{_endpoint} answered 202, but not for the {sent} events sent. Is it a Usage Monitor?"
            );
    }

    private async Task<HttpResponseMessage> SendUntilAnsweredAsync(byte[] body, CancellationToken cancel)
    {
        long started = _time.GetTimestamp();
        for (int attempt = 1; ; attempt++)
        {
            string reason;
            TimeSpan? asked = null;
            try
            {
                using var content = new ByteArrayContent(body);
                content.Headers.ContentType = new MediaTypeHeaderValue("application/x-ndjson");
                content.Headers.ContentEncoding.Add("gzip");
                HttpResponseMessage response = await _http.PostAsync(_endpoint, content, cancel);
                if (!IsWorthRepeating(response.StatusCode))
                {
                    return response;
                }

                (string code, string detail) = await ReadProblemAsync(response, cancel);
                reason = $"it answered {(int)response.StatusCode} {code}: {detail}";
                asked = RetryAfter(response);
                response.Dispose();
            }
            catch (Exception error) when (error is HttpRequestException or IOException or SocketException)
            {
                reason = error.Message;
            }
            catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
            {
                reason = $"no answer within {AttemptSecondsMax} s";
            }

            TimeSpan delay = asked ?? Backoff(attempt);
            if (_time.GetElapsedTime(started) + delay > _giveUpAfter)
            {
                throw new ImportFailedException(
                    $"{_endpoint} did not take a batch in {_giveUpAfter.TotalSeconds:0} s and {attempt} attempts; {reason}"
                );
            }

            Interlocked.Increment(ref _retries);
            await Task.Delay(delay, _time, cancel);
        }
    }

    private static bool IsWorthRepeating(HttpStatusCode status) =>
        status
            is HttpStatusCode.TooManyRequests
                or HttpStatusCode.RequestTimeout
                or HttpStatusCode.InternalServerError
                or HttpStatusCode.BadGateway
                or HttpStatusCode.ServiceUnavailable
                or HttpStatusCode.GatewayTimeout;

    /// <summary>Doubling, with half of it left to chance so that concurrent batches don't return together.</summary>
    private static TimeSpan Backoff(int attempt)
    {
        double full = Math.Min(DelayMillisecondsMax, FirstDelayMilliseconds * Math.Pow(2, attempt - 1));
        return TimeSpan.FromMilliseconds(full * (0.5 + (Random.Shared.NextDouble() / 2)));
    }

    private TimeSpan? RetryAfter(HttpResponseMessage response)
    {
        TimeSpan? asked = response.Headers.RetryAfter?.Delta ?? (response.Headers.RetryAfter?.Date - _time.GetUtcNow());
        return asked < TimeSpan.Zero ? TimeSpan.Zero : asked;
    }

    private static async Task<(string Code, string Detail)> ReadProblemAsync(
        HttpResponseMessage response,
        CancellationToken cancel
    )
    {
        string text = await response.Content.ReadAsStringAsync(cancel);
        try
        {
            using JsonDocument problem = JsonDocument.Parse(text);
            return (
                Text(problem, "code") ?? response.StatusCode.ToString(),
                Text(problem, "detail") ?? Text(problem, "title") ?? ""
            );
        }
        catch (JsonException)
        {
            string line = text.ReplaceLineEndings(" ").Trim();
            return (response.StatusCode.ToString(), line.Length > DetailLettersMax ? line[..DetailLettersMax] : line);
        }
    }

    private static string? Text(JsonDocument problem, string name) =>
        problem.RootElement.ValueKind == JsonValueKind.Object
        && problem.RootElement.TryGetProperty(name, out JsonElement value)
        && value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : null;

    private static byte[] Compress(ReadOnlyMemory<byte> body)
    {
        using var compressed = new MemoryStream(body.Length / 4);
        using (var gzip = new GZipStream(compressed, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(body.Span);
        }

        return compressed.ToArray();
    }
}
