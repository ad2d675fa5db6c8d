using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission.Reservations;

/// <summary>What became of the wish to hold a use.</summary>
/// <param name="Plan">The limits it had to find room on.</param>
/// <param name="Verdict">Null: there was nothing to count on, or it could not be counted.</param>
/// <param name="IsHeld">The row is there.</param>
/// <param name="IsUncounted">It could not be counted.</param>
internal readonly record struct ReserveOutcome(AdmissionPlan Plan, UseVerdict? Verdict, bool IsHeld, bool IsUncounted);

/// <summary>Holds uses and gives them back.</summary>
/// <remarks>
/// <para>A held use is counted as an event is: by its id, under a fence. Its row is made under that fence too, so that whoever
/// begins to count anew either sees the row or has made this admission void. The row counts until it says RELEASED, whatever
/// its expiry: giving up is first written down (nobody can commit it any more), then done in Redis, then finished in the row.
/// So a count that is loaded in between is at most too high, never too low.</para>
/// <para>A committed row counts for <see cref="CounterBase.CommitTimeMax"/>, within which its event reaches the log or never does.
/// That is why the event needs no admission of its own, and no fence.</para>
/// </remarks>
internal sealed partial class Reserving(
    LimitSets limits,
    LimitCounters counters,
    IEventLog log,
    Database database,
    TimeProvider time,
    ILogger<Reserving> logger
)
{
    /// <summary>How often the counters may prove worthless between counting and making the row.</summary>
    private const int AttemptsMax = 8;

    /// <exception cref="LimitsUnavailableException">The counters changed too often.</exception>
    /// <exception cref="NpgsqlException">PostgreSQL is away.</exception>
    /// <exception cref="EventLogUnavailableException">The log is away.</exception>
    public async Task<ReserveOutcome> ReserveAsync(
        EnterpriseInfo enterprise,
        Reservation reservation,
        Guid? apiKeyId,
        CancellationToken cancellationToken
    )
    {
        AdmissionPlan plan = await PlanAsync(enterprise, reservation, cancellationToken);
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            if (plan.Uses.Count == 0)
            {
                await InsertAsync(enterprise, reservation, apiKeyId, null, cancellationToken);
                return new ReserveOutcome(plan, null, IsHeld: true, IsUncounted: false);
            }

            AdmissionResult result = await counters.AdmitAsync(plan, cancellationToken);
            if (result.State is not { } state)
            {
                return await ReserveUncountedAsync(plan, reservation, apiKeyId, cancellationToken);
            }

            if (!result.Verdicts[0].IsAdmitted)
            {
                return new ReserveOutcome(plan, result.Verdicts[0], IsHeld: false, IsUncounted: false);
            }

            bool isHeld;
            try
            {
                isHeld = await InsertAsync(enterprise, reservation, apiKeyId, state.Fence, cancellationToken);
            }
            catch
            {
                // Whether the row is there is not known, and its id was told to nobody: it is given up either way.
                await DiscardAsync(enterprise, reservation);
                throw;
            }

            if (isHeld)
            {
                counters.Confirm(enterprise.EnterpriseId, state.Fence, [reservation.ReservationId]);
                return new ReserveOutcome(plan, result.Verdicts[0], IsHeld: true, IsUncounted: false);
            }

            await counters.FencedAsync(enterprise, state.Fence);
        }

        throw new LimitsUnavailableException();
    }

    /// <summary>Gives back what a reservation that can no longer be committed has taken.</summary>
    /// <returns>False: Redis is away, and it must be done later.</returns>
    public async Task<bool> GiveBackAsync(
        EnterpriseInfo enterprise,
        Reservation reservation,
        CancellationToken cancellationToken
    )
    {
        AdmissionPlan plan = await PlanAsync(enterprise, reservation, cancellationToken);
        return plan.Uses.Count == 0 || await counters.ReleaseAsync(plan, reservation.ReservationId, cancellationToken);
    }

    /// <summary>
    /// Gives back what a reservation has taken whose row says already that it is given up: nobody can commit it any more, so whatever
    /// fails here the sweep does later.
    /// </summary>
    public async Task EndAsync(EnterpriseInfo enterprise, Reservation reservation, CancellationToken cancellationToken)
    {
        try
        {
            if (!await GiveBackAsync(enterprise, reservation, cancellationToken))
            {
                return;
            }

            await using ScopedTransaction own = await database.OpenEnterpriseAsync(
                enterprise.EnterpriseId,
                cancellationToken
            );
            await ReservationStore.ReleaseAsync(
                own,
                enterprise.EnterpriseId,
                reservation.ReservationId,
                time.GetUtcNow().UtcDateTime,
                cancellationToken
            );
            await own.CommitAsync(cancellationToken);
        }
        catch (Exception exception) when (exception is NpgsqlException or EventLogUnavailableException)
        {
            LogNotEnded(exception, reservation.ReservationId);
        }
    }

    private async Task<AdmissionPlan> PlanAsync(
        EnterpriseInfo enterprise,
        Reservation reservation,
        CancellationToken cancellationToken
    )
    {
        var plan = new AdmissionPlan(enterprise, await limits.FindAsync(enterprise.EnterpriseId, cancellationToken));
        plan.Add(
            0,
            reservation.ReservationId,
            reservation.UserId,
            reservation.FeatureName,
            reservation.TimestampMicroseconds
        );
        return plan;
    }

    // Counters that are still somewhere do not know of it: they are made worthless, so that they are counted anew with its row.
    private async Task<ReserveOutcome> ReserveUncountedAsync(
        AdmissionPlan plan,
        Reservation reservation,
        Guid? apiKeyId,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = plan.Enterprise;
        if (enterprise.IsClosedWhenUncounted)
        {
            return new ReserveOutcome(plan, null, IsHeld: false, IsUncounted: true);
        }

        await InsertAsync(enterprise, reservation, apiKeyId, null, cancellationToken);
        await log.RaiseFenceAsync(enterprise.LogPartition, enterprise.EnterpriseId, cancellationToken);
        return new ReserveOutcome(plan, null, IsHeld: true, IsUncounted: true);
    }

    private async Task<bool> InsertAsync(
        EnterpriseInfo enterprise,
        Reservation reservation,
        Guid? apiKeyId,
        long? fence,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        if (!await ReservationStore.TryInsertAsync(own, enterprise, reservation, apiKeyId, fence, cancellationToken))
        {
            return false;
        }

        await own.CommitAsync(cancellationToken);
        return true;
    }

    // A row that is there after all is swept when its time is over; what was counted was never confirmed, so counting begins anew
    // without it in a minute.
    private async Task DiscardAsync(EnterpriseInfo enterprise, Reservation reservation)
    {
        try
        {
            await using ScopedTransaction own = await database.OpenEnterpriseAsync(
                enterprise.EnterpriseId,
                CancellationToken.None
            );
            await ReservationStore.GiveUpAsync(
                own,
                enterprise.EnterpriseId,
                reservation.ReservationId,
                CancellationToken.None
            );
            await own.CommitAsync(CancellationToken.None);
        }
        catch (NpgsqlException exception)
        {
            LogNotEnded(exception, reservation.ReservationId);
            return;
        }

        await EndAsync(enterprise, reservation, CancellationToken.None);
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Reservation {ReservationId} could not be given back at once; the sweep does it when it has expired"
    )]
    private partial void LogNotEnded(Exception exception, Guid reservationId);
}
