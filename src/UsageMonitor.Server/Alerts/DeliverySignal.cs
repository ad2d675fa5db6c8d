namespace UsageMonitor.Server.Alerts;

/// <summary>Tells this process's sender that deliveries were committed, so that it need not wait for its next look.</summary>
internal sealed class DeliverySignal : IDisposable
{
    private readonly SemaphoreSlim _signal = new(0, 1);

    public void Wake()
    {
        try
        {
            _signal.Release();
        }
        catch (SemaphoreFullException)
        {
            // It is awake already.
        }
    }

    /// <summary>Returns when woken, or after the time at the latest.</summary>
    public Task WaitAsync(TimeSpan atMost, CancellationToken cancellationToken) =>
        _signal.WaitAsync(atMost, cancellationToken);

    public void Dispose() => _signal.Dispose();
}
