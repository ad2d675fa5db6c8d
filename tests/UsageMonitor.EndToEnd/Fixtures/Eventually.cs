using System.Diagnostics;
using Xunit;

namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>Waits for what another process brings about: asks again until it is so, and fails after a deadline.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan PatienceDefault = TimeSpan.FromSeconds(60);

    /// <param name="condition">Asked again and again; an exception of the network counts as no.</param>
    /// <param name="expectation">What is waited for, for the message.</param>
    /// <param name="patience">How long; a minute unless told, because the machine may be busy.</param>
    public static async Task TrueAsync(Func<Task<bool>> condition, Func<string> expectation, TimeSpan? patience = null)
    {
        TimeSpan limit = patience ?? PatienceDefault;
        long started = Stopwatch.GetTimestamp();
        using var timer = new PeriodicTimer(Interval);
        Exception? last = null;
        do
        {
            try
            {
                if (await condition())
                {
                    return;
                }
            }
            catch (Exception exception)
                when (exception
                        is HttpRequestException
                            or IOException
                            or System.Net.Sockets.SocketException
                            or ApiException
                )
            {
                last = exception;
            }

            if (Stopwatch.GetElapsedTime(started) > limit)
            {
                Assert.Fail($"not within {limit.TotalSeconds:0} s: {expectation()}. {last?.Message}");
            }
        } while (await timer.WaitForNextTickAsync(TestContext.Current.CancellationToken));
    }

    public static Task TrueAsync(Func<bool> condition, string expectation, TimeSpan? patience = null) =>
        TrueAsync(() => Task.FromResult(condition()), () => expectation, patience);
}
