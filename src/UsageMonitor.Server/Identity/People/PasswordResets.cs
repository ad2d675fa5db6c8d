using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.People;

/// <summary>
/// Somebody who is not signed in asks for a new password. The answer is given before the address is looked up, so that
/// neither its words nor its time tell whether there is an account; the look-up, the link and the mail come after it.
/// </summary>
internal sealed partial class PasswordResets(
    Database database,
    EnterpriseDirectory enterprises,
    Users users,
    AccountLinks links,
    AccountMails mails,
    MailOutbox outbox,
    TimeProvider time,
    ILogger<PasswordResets> logger
) : BackgroundService
{
    /// <summary>Requests that wait to be looked up; beyond it everybody is asked to come again.</summary>
    private const int WaitingMax = 1_000;

    /// <summary>From one network address within the hour: an office shares one. (A person's own bound is <see cref="AccountLinks.LinksPerHourMax"/>.)</summary>
    public const int PerAddressAndHourMax = 30;
    private const int AddressesMax = 100_000;

    private readonly Channel<string> _waiting = Channel.CreateBounded<string>(WaitingMax);
    private readonly ConcurrentDictionary<string, int> _asked = new();
    private long _hour;

    /// <summary>Takes a request. False: too many from this address, or altogether.</summary>
    /// <param name="email">Normalized.</param>
    /// <param name="address">Who asks.</param>
    public bool TryAsk(string email, IPAddress? address)
    {
        long hour = time.GetUtcNow().Ticks / TimeSpan.TicksPerHour;
        if (Interlocked.Exchange(ref _hour, hour) != hour || _asked.Count >= AddressesMax)
        {
            _asked.Clear();
        }

        return _asked.AddOrUpdate(Network(address), 1, static (_, count) => count + 1) <= PerAddressAndHourMax
            && _waiting.Writer.TryWrite(email);
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await foreach (string email in _waiting.Reader.ReadAllAsync(stoppingToken))
        {
            // Without mail nothing could be sent, and nobody who asks may be shown the link.
            if (!outbox.IsSetUp)
            {
                continue;
            }

            try
            {
                await SendAsync(email, stoppingToken);
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                Lost(exception);
            }
        }
    }

    private const string FindByEmail = """
        SELECT enterprise_id, user_id FROM users
        WHERE email_hash = $1 AND email IS NOT NULL AND deactivated_at IS NULL AND coalesce(origin, 'LOCAL') <> 'SSO'
        """;

    private async Task SendAsync(string email, CancellationToken cancellationToken)
    {
        byte[] hash = users.EmailHash(email);
        await using ScopedTransaction transaction = await database.OpenLookupAsync(hash, cancellationToken);
        (Guid EnterpriseId, Guid UserId) found;
        await using (NpgsqlCommand command = transaction.Command(FindByEmail, hash))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (!await reader.ReadAsync(cancellationToken))
            {
                return;
            }

            found = (reader.GetGuid(0), reader.GetGuid(1));
        }

        await transaction.SetAsync("app.enterprise_id", found.EnterpriseId.ToString(), cancellationToken);
        if (
            await enterprises.FindAsync(found.EnterpriseId, cancellationToken)
                is not { IsSuspended: false, PasswordSignIn: true } enterprise
            || await links.TryMakeAsync(
                transaction,
                found.EnterpriseId,
                found.UserId,
                LinkPurpose.PasswordReset,
                cancellationToken
            )
                is not { } link
        )
        {
            return;
        }

        await outbox.EnqueueAsync(transaction, enterprise, mails.PasswordReset(email, link), cancellationToken);
        await transaction.CommitAsync(cancellationToken);
    }

    private static string Network(IPAddress? address)
    {
        if (address is { IsIPv4MappedToIPv6: true })
        {
            address = address.MapToIPv4();
        }

        // Whoever has one IPv6 address has the /64 around it.
        return address is { AddressFamily: AddressFamily.InterNetworkV6 }
            ? Convert.ToHexString(address.GetAddressBytes().AsSpan(0, 8))
            : $"{address}";
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "A request for a new password was lost; whoever asked can ask again."
    )]
    private partial void Lost(Exception exception);
}
