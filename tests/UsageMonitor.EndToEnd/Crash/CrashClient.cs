using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>
/// A client as it should be: it sends a batch again, with the same event ids, until it is acknowledged. Now and then it
/// behaves as one that dies instead, and never learns what became of its batch.
/// </summary>
internal sealed class CrashClient(Uri server, SentEvents sent, int seed)
{
    private const double GiveUpShare = 0.05;
    private const int RememberedMax = 2_000;
    private static readonly TimeSpan Backoff = TimeSpan.FromMilliseconds(20);

    // Shorter than a test's patience: an answer that a killed server owes never comes.
    private static readonly TimeSpan AnswerMax = TimeSpan.FromSeconds(15);

    private readonly Random _random = new(seed);
    private readonly List<CrashEvent> _earlier = [];
    private long _acknowledgedBatches;

    public long AcknowledgedBatches => Volatile.Read(ref _acknowledgedBatches);

    /// <summary>Sends until told to stop, and then until the last batch is acknowledged.</summary>
    /// <param name="stop">No new batch after this.</param>
    /// <param name="abort">The test is over, whatever is under way.</param>
    public async Task RunAsync(CancellationToken stop, CancellationToken abort)
    {
        using var api = new Api(server, sent.Tenant.Key);
        using var backoff = new PeriodicTimer(Backoff);
        while (!stop.IsCancellationRequested)
        {
            var batch = CrashBatch.Make(_random, _earlier);
            while (!await TryAsync(api, batch, abort))
            {
                if (_random.NextDouble() < GiveUpShare && !stop.IsCancellationRequested)
                {
                    break;
                }

                await backoff.WaitForNextTickAsync(abort);
            }

            _earlier.AddRange(batch.Valid);
            if (_earlier.Count > RememberedMax)
            {
                _earlier.RemoveRange(0, RememberedMax / 2);
            }
        }
    }

    // Any other answer than 202 or one to come back later ends the test: a fault is not the client's.
    private async Task<bool> TryAsync(Api api, CrashBatch batch, CancellationToken abort)
    {
        sent.Begin(batch);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(abort);
        deadline.CancelAfter(AnswerMax);
        try
        {
            if (await api.TryPostEventsAsync(batch.Lines, deadline.Token) is not { } answer)
            {
                return false;
            }

            batch.Check(answer);
            sent.Answered(batch, answer);
            Interlocked.Increment(ref _acknowledgedBatches);
            return true;
        }
        catch (Exception exception)
            when (exception is HttpRequestException or IOException or System.Net.Sockets.SocketException)
        {
            return false; // the connection broke: nobody knows what became of the batch
        }
        catch (OperationCanceledException) when (!abort.IsCancellationRequested)
        {
            return false;
        }
    }
}
