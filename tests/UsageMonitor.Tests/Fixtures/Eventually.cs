using Xunit;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>Waits for what another process or thread brings about: asks again until it is so, and fails after a deadline.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    /// <param name="condition">Asked again and again; an exception counts as no.</param>
    /// <param name="expectation">What is waited for, for the message.</param>
    public static async Task TrueAsync(Func<Task<bool>> condition, string expectation)
    {
        using var timer = new PeriodicTimer(Interval);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        deadline.CancelAfter(Patience);
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
            catch (Exception exception) when (exception is not OperationCanceledException)
            {
                last = exception;
            }
        } while (await TickAsync(timer, deadline.Token));

        Assert.Fail($"not within {Patience.TotalSeconds:0} s: {expectation}. {last?.Message}");
    }

    public static Task TrueAsync(Func<bool> condition, string expectation) =>
        TrueAsync(() => Task.FromResult(condition()), expectation);

    /// <summary>Asks until there is an answer instead of an exception.</summary>
    public static async Task<T> ValueAsync<T>(Func<Task<T>> ask)
    {
        T? value = default;
        await TrueAsync(
            async () =>
            {
                value = await ask();
                return true;
            },
            "there is an answer"
        );
        return value!;
    }

    private static async Task<bool> TickAsync(PeriodicTimer timer, CancellationToken deadline)
    {
        try
        {
            return await timer.WaitForNextTickAsync(deadline);
        }
        catch (OperationCanceledException) when (!TestContext.Current.CancellationToken.IsCancellationRequested)
        {
            return false;
        }
    }
}
