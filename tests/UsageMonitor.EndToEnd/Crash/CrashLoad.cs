using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>Clients at work, on whose progress the moments of a test depend.</summary>
internal sealed class CrashLoad(CrashClient[] clients, IEnumerable<Task> running)
{
    private static readonly TimeSpan RecoveryMax = TimeSpan.FromSeconds(120);
    private readonly Task[] _running = [.. running];

    /// <summary>Returns when they have so many more batches acknowledged.</summary>
    public Task MoreAcknowledgedAsync(int batches)
    {
        long target = clients.Sum(client => client.AcknowledgedBatches) + batches;
        return WhileRunningAsync(() => clients.Sum(client => client.AcknowledgedBatches) >= target);
    }

    /// <summary>Two more of every client: one of them was not on its way yet.</summary>
    public Task EachAcknowledgedAsync()
    {
        long[] before = [.. clients.Select(client => client.AcknowledgedBatches)];
        return WhileRunningAsync(() => clients.Zip(before).All(one => one.First.AcknowledgedBatches >= one.Second + 2));
    }

    /// <summary>Waits for the clients, told to stop, to have their last batches acknowledged.</summary>
    public Task EndAsync() => Task.WhenAll(_running).WaitAsync(RecoveryMax, TestContext.Current.CancellationToken);

    private Task WhileRunningAsync(Func<bool> condition) =>
        Eventually.TrueAsync(
            async () =>
            {
                if (Array.Find(_running, client => client.IsCompleted) is { } ended)
                {
                    await ended; // by itself it ends only when something is wrong
                }

                return condition();
            },
            () => "more batches are acknowledged",
            RecoveryMax
        );
}
