using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission.Reservations;

/// <summary>Gives back what expired reservations hold, and finishes what a release began. Any number of instances may.</summary>
internal sealed partial class ReservationSweep(
    Reserving reserving,
    EnterpriseDirectory enterprises,
    Database database,
    TimeProvider time,
    ILogger<ReservationSweep> logger
) : BackgroundService
{
    /// <summary>Reservations of one transaction, which holds their rows meanwhile.</summary>
    public const int BatchMax = 100;

    /// <summary>Clocks of instances differ: one takes for expired only what no other can still commit.</summary>
    public static readonly TimeSpan ClockDifferenceMax = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(2);

    private const string LockExpired = """
        SELECT enterprise_id, reservation_id, user_id, feature_name, created_at, expires_at
          FROM usage_reservations WHERE state = 'HELD' AND expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        """;

    private const string Release = """
        UPDATE usage_reservations AS kept SET state = 'RELEASED', ended_at = $1
          FROM unnest($2, $3) AS done (enterprise_id, reservation_id)
         WHERE kept.enterprise_id = done.enterprise_id AND kept.reservation_id = done.reservation_id
        """;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                while (await SweepAsync(stoppingToken) == BatchMax) { }
            }
            catch (Exception exception) when (exception is NpgsqlException or EventLogUnavailableException)
            {
                LogFailed(exception);
            }
        }
    }

    /// <summary>Sweeps a batch.</summary>
    /// <returns>How many were released.</returns>
    public async Task<int> SweepAsync(CancellationToken cancellationToken)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        var released = new List<(Guid EnterpriseId, Guid ReservationId)>();
        foreach ((Guid enterpriseId, Reservation expired) in await LockAsync(connection, now, cancellationToken))
        {
            if (
                await enterprises.FindAsync(enterpriseId, cancellationToken) is { } enterprise
                && await reserving.GiveBackAsync(enterprise, expired, cancellationToken)
            )
            {
                released.Add((enterpriseId, expired.ReservationId));
            }
        }

        if (released.Count == 0)
        {
            return 0;
        }

        await using var command = new NpgsqlCommand(Release, connection, transaction);
        command.Parameters.Add(new NpgsqlParameter<DateTime> { TypedValue = now });
        command.Parameters.Add(
            new NpgsqlParameter<Guid[]> { TypedValue = [.. released.Select(one => one.EnterpriseId)] }
        );
        command.Parameters.Add(
            new NpgsqlParameter<Guid[]> { TypedValue = [.. released.Select(one => one.ReservationId)] }
        );
        await command.ExecuteNonQueryAsync(cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return released.Count;
    }

    private static async Task<List<(Guid EnterpriseId, Reservation Reservation)>> LockAsync(
        NpgsqlConnection connection,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        var expired = new List<(Guid, Reservation)>();
        await using var command = new NpgsqlCommand(LockExpired, connection);
        command.Parameters.Add(new NpgsqlParameter<DateTime> { TypedValue = now - ClockDifferenceMax });
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = BatchMax });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            expired.Add(
                (
                    reader.GetGuid(0),
                    new Reservation(
                        reader.GetGuid(1),
                        reader.GetGuid(2),
                        null,
                        reader.GetString(3),
                        EventText.EventTypeDefault,
                        Reservation.Held,
                        reader.GetFieldValue<DateTime>(4),
                        reader.GetFieldValue<DateTime>(5),
                        null
                    )
                )
            );
        }

        return expired;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Expired reservations could not be given back; it is tried again")]
    private partial void LogFailed(Exception exception);
}
