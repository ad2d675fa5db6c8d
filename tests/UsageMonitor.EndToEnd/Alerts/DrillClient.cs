using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>
/// Sends events of users who come and go, so that thresholds are crossed all the time; each batch again and again with the same
/// event ids until it is acknowledged, so that what is acknowledged is all there is.
/// </summary>
internal sealed class DrillClient(Uri server, DrillTenant tenant, int seed)
{
    private const int BatchEventsMax = 20;
    private const int UsersAtOnce = 4;
    private const int BatchesOfUsersMax = 12;
    private const double LateShare = 0.1;
    private const double SearchShare = 0.6;
    private const double ExportShare = 0.3;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(80);
    private static readonly TimeSpan AnswerMax = TimeSpan.FromSeconds(15);
    private readonly Random _random = new(seed);
    private Guid[] _users = [];
    private int _batchesLeft;
    private long _acknowledgedBatches;

    public long AcknowledgedBatches => Volatile.Read(ref _acknowledgedBatches);

    /// <summary>Answers that said that limits could not be counted just then.</summary>
    public int Uncounted { get; private set; }

    /// <summary>Sends until told to stop, and then until the last batch is acknowledged.</summary>
    public async Task RunAsync(CancellationToken stop, CancellationToken abort)
    {
        using var api = new Api(server, tenant.Tenant.Key);
        using var pause = new PeriodicTimer(Pause);
        while (!stop.IsCancellationRequested)
        {
            (DrillEvent[] events, string lines) = Make();
            IngestResponse? answer;
            while ((answer = await TryAsync(api, lines, abort)) is null)
            {
                await pause.WaitForNextTickAsync(abort);
            }

            Assert.Empty(answer.Rejected);
            HashSet<int> blocked = [.. (answer.Blocked ?? []).Select(one => one.Index)];
            Assert.Equal(events.Length - blocked.Count, answer.Accepted);
            for (int i = 0; i < events.Length; i++)
            {
                tenant.Acknowledged.Enqueue(events[i] with { IsBlocked = blocked.Contains(i) });
            }

            Uncounted += answer.LimitsUncounted == true ? 1 : 0;
            Interlocked.Increment(ref _acknowledgedBatches);
            await pause.WaitForNextTickAsync(abort);
        }
    }

    private (DrillEvent[] Events, string Lines) Make()
    {
        if (_batchesLeft-- == 0)
        {
            _batchesLeft = _random.Next(BatchesOfUsersMax);
            _users = [.. Enumerable.Range(0, UsersAtOnce).Select(_ => NextId())];
        }

        // More than one: a single event that is refused is answered in another way.
        var events = new DrillEvent[_random.Next(2, BatchEventsMax)];
        for (int i = 0; i < events.Length; i++)
        {
            double kind = _random.NextDouble();
            string feature =
                kind < SearchShare ? DrillTenant.Searched
                : kind < SearchShare + ExportShare ? DrillTenant.Exported
                : "other";
            // What is limited by BLOCK is of today; the rest is late now and then.
            TimeSpan age =
                feature != DrillTenant.Exported && _random.NextDouble() < LateShare
                    ? TimeSpan.FromMinutes(_random.Next(26 * 60, 50 * 60))
                    : TimeSpan.FromSeconds(_random.Next(600));
            DateTimeOffset at = DateTimeOffset.UtcNow - age;
            events[i] = new DrillEvent(_users[_random.Next(_users.Length)], feature, at, false);
        }

        return (events, string.Join('\n', events.Select(Line)));
    }

    private string Line(DrillEvent one) =>
        JsonSerializer.Serialize(
            new
            {
                eventId = NextId(),
                userId = one.UserId,
                featureName = one.Feature,
                eventTimestamp = one.At.UtcDateTime,
            }
        );

    private static async Task<IngestResponse?> TryAsync(Api api, string lines, CancellationToken abort)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(abort);
        deadline.CancelAfter(AnswerMax);
        try
        {
            return await api.TryPostEventsAsync(lines, deadline.Token);
        }
        catch (Exception exception)
            when (exception is HttpRequestException or IOException or System.Net.Sockets.SocketException)
        {
            return null; // the connection broke: nobody knows what became of the batch
        }
        catch (OperationCanceledException) when (!abort.IsCancellationRequested)
        {
            return null;
        }
    }

    private Guid NextId()
    {
        byte[] bytes = new byte[16];
        _random.NextBytes(bytes);
        return new Guid(bytes);
    }
}
