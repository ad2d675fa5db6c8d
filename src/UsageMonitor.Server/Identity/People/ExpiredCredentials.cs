using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>
/// Deletes what is over: sessions, refresh tokens, links, mail. Hourly, by one instance at a time, enterprise by enterprise
/// in its own scope, some rows at a time so that nothing waits long for it.
/// </summary>
internal sealed partial class ExpiredCredentials(
    Database database,
    TimeProvider time,
    ILogger<ExpiredCredentials> logger
) : BackgroundService
{
    public static readonly TimeSpan Interval = TimeSpan.FromHours(1);

    /// <summary>So long a session that has ended can still be looked at.</summary>
    public static readonly TimeSpan SessionsKept = TimeSpan.FromDays(30);
    public static readonly TimeSpan LinksKept = TimeSpan.FromDays(7);
    public static readonly TimeSpan MailsKept = TimeSpan.FromDays(30);

    /// <summary>Rows deleted in one transaction.</summary>
    public const int BatchRowsMax = 1_000;
    private const int EnterprisesAtOnce = 1_000;
    private const long ClearingLock = 0x756d636c656172; // "umclear"

    // A used token that comes again ends its session: it is kept as long as there is a session to end.
    private const string DeleteRefreshTokens = """
        DELETE FROM refresh_tokens WHERE enterprise_id = $1 AND token_hash IN (
            SELECT t.token_hash FROM refresh_tokens t
            WHERE t.enterprise_id = $1 AND t.expires_at < $2
              AND (t.used_at IS NULL OR NOT EXISTS (
                SELECT FROM sessions s WHERE s.enterprise_id = $1 AND s.session_id = t.session_id
                  AND s.revoked_at IS NULL AND s.expires_at > $2))
            LIMIT $3)
        """;

    private const string DeleteSessions = """
        DELETE FROM sessions WHERE enterprise_id = $1 AND session_id IN (
            SELECT session_id FROM sessions WHERE enterprise_id = $1 AND (revoked_at < $2 OR expires_at < $2) LIMIT $3)
        """;

    private const string DeleteLinks = """
        DELETE FROM account_links WHERE enterprise_id = $1 AND token_hash IN (
            SELECT token_hash FROM account_links WHERE enterprise_id = $1 AND expires_at < $2 LIMIT $3)
        """;

    // Sent, given up, or left lying on a platform that sends no mail any more.
    private const string DeleteMails = """
        DELETE FROM mail_outbox WHERE enterprise_id = $1 AND mail_id IN (
            SELECT mail_id FROM mail_outbox WHERE enterprise_id = $1 AND created_at < $2 LIMIT $3)
        """;

    private static readonly (string Sql, TimeSpan Kept)[] s_deletes =
    [
        (DeleteRefreshTokens, TimeSpan.Zero),
        (DeleteSessions, SessionsKept),
        (DeleteLinks, LinksKept),
        (DeleteMails, MailsKept),
    ];

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do
        {
            try
            {
                await ClearAsync(stoppingToken);
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                ClearingFailed(exception);
            }
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    private const string TryLock = "SELECT pg_try_advisory_xact_lock($1)";

    private const string ReadEnterprises = """
        SELECT enterprise_id FROM enterprises WHERE enterprise_id > $1 OR $1 IS NULL ORDER BY enterprise_id LIMIT $2
        """;

    /// <summary>Deletes everything that is over, unless another instance is at it.</summary>
    public async Task ClearAsync(CancellationToken cancellationToken)
    {
        // The lock is the transaction's, which does nothing else: it ends with it, whatever happens.
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using (var take = new NpgsqlCommand(TryLock, connection, transaction))
        {
            take.Parameters.Add(new NpgsqlParameter<long> { TypedValue = ClearingLock });
            if (await take.ExecuteScalarAsync(cancellationToken) is not true)
            {
                return;
            }
        }

        DateTimeOffset now = time.GetUtcNow();
        Guid? after = null;
        do
        {
            Guid[] enterprises = await EnterprisesAsync(after, cancellationToken);
            foreach (Guid enterpriseId in enterprises)
            {
                await ClearAsync(enterpriseId, now, cancellationToken);
            }

            after = enterprises.Length == EnterprisesAtOnce ? enterprises[^1] : null;
        } while (after is not null);
    }

    private async Task ClearAsync(Guid enterpriseId, DateTimeOffset now, CancellationToken cancellationToken)
    {
        foreach ((string sql, TimeSpan kept) in s_deletes)
        {
            int deleted;
            do
            {
                await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
                deleted = await own.ExecuteAsync(sql, [enterpriseId, now - kept, BatchRowsMax], cancellationToken);
                await own.CommitAsync(cancellationToken);
            } while (deleted == BatchRowsMax);
        }
    }

    private async Task<Guid[]> EnterprisesAsync(Guid? after, CancellationToken cancellationToken)
    {
        var enterprises = new List<Guid>();
        await using NpgsqlCommand command = database.Pipeline.CreateCommand(ReadEnterprises);
        command.Parameters.Add(
            new NpgsqlParameter { Value = (object?)after ?? DBNull.Value, NpgsqlDbType = NpgsqlTypes.NpgsqlDbType.Uuid }
        );
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = EnterprisesAtOnce });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            enterprises.Add(reader.GetGuid(0));
        }

        return [.. enterprises];
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "What has expired could not be deleted; it is tried again in an hour."
    )]
    private partial void ClearingFailed(Exception exception);
}
