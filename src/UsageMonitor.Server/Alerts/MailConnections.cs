using System.Collections.Concurrent;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Alerts;

/// <summary>Connections to the mail server that outlive a mail, so that a burst does not shake hands for each.</summary>
internal sealed class MailConnections(SmtpSettings settings, TimeProvider time) : IDisposable
{
    /// <summary>Connecting, signing in and sending together.</summary>
    public static readonly TimeSpan AttemptTimeMax = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan TrustedFor = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan IdleTimeMax = TimeSpan.FromSeconds(5);

    private readonly ConcurrentStack<(SmtpConnection Connection, DateTimeOffset IdleSince)> _idle = new();

    /// <returns>When the server has taken responsibility for the mail.</returns>
    /// <exception cref="Exception">As of <see cref="SmtpConnection.SendAsync"/>.</exception>
    public async Task SendAsync(MailMessage message, Guid deliveryId, CancellationToken cancellationToken)
    {
        using var attempt = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        attempt.CancelAfter(AttemptTimeMax);
        SmtpConnection connection = await RentAsync(attempt.Token);
        try
        {
            await connection.SendAsync(message, deliveryId, attempt.Token);
        }
        catch
        {
            connection.Dispose();
            throw;
        }

        _idle.Push((connection, time.GetUtcNow()));
    }

    /// <summary>Says goodbye on those that nobody needs any more.</summary>
    public async Task CloseIdleAsync(CancellationToken cancellationToken)
    {
        // The one on top was used last: when it is old, all are.
        while (_idle.TryPeek(out (SmtpConnection, DateTimeOffset IdleSince) top) && IsOld(top.IdleSince, IdleTimeMax))
        {
            if (!_idle.TryPop(out (SmtpConnection Connection, DateTimeOffset) popped))
            {
                return;
            }

            using SmtpConnection connection = popped.Connection;
            try
            {
                await connection.CloseAsync(cancellationToken);
            }
            catch (Exception exception) when (MailSender.IsDeliveryFailure(exception))
            {
                // Everything it carried has been answered for.
            }
        }
    }

    public void Dispose()
    {
        while (_idle.TryPop(out (SmtpConnection Connection, DateTimeOffset) popped))
        {
            popped.Connection.Dispose();
        }
    }

    private async Task<SmtpConnection> RentAsync(CancellationToken cancellationToken)
    {
        while (_idle.TryPop(out (SmtpConnection Connection, DateTimeOffset IdleSince) popped))
        {
            if (!IsOld(popped.IdleSince, TrustedFor) || await popped.Connection.IsAliveAsync(cancellationToken))
            {
                return popped.Connection;
            }

            popped.Connection.Dispose();
        }

        return new SmtpConnection(settings);
    }

    private bool IsOld(DateTimeOffset idleSince, TimeSpan limit) => time.GetUtcNow() - idleSince > limit;
}
