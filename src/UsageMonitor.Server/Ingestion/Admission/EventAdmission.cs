using System.Net;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>Who sends events.</summary>
/// <param name="ApiKeyId">The key, or null for a person.</param>
/// <param name="Address">Where from; null when it is this server itself.</param>
internal readonly record struct EventSender(Guid? ApiKeyId, IPAddress? Address);

/// <summary>Nobody can tell at the moment which limits there are, or they changed too often while they were asked.</summary>
internal sealed class LimitsUnavailableException(Exception? inner = null)
    : Exception(
        "The usage limits cannot be asked at the moment. Send the events again, with the same event ids.",
        inner
    );

/// <summary>The way of parsed events into the log: property rules, policies, limits, commit.</summary>
internal sealed class EventAdmission(
    PropertyRuleSets propertyRules,
    PolicySets policies,
    LimitSets limits,
    LimitCounters counters,
    GroupCommit commit
)
{
    /// <summary>How often the counters may prove worthless between counting and appending.</summary>
    private const int AttemptsMax = 8;

    /// <summary>Decides on the events and makes them durable, the refused as attempts; returns when they are.</summary>
    /// <exception cref="PropertyRulesUnavailableException">Nobody knows at the moment what must not be kept.</exception>
    /// <exception cref="PoliciesUnavailableException">Nobody knows the policies at the moment.</exception>
    /// <exception cref="LimitsUnavailableException">Nobody knows the limits at the moment.</exception>
    /// <exception cref="EventLogUnavailableException">The log failed or the queue is full; the caller should retry.</exception>
    public async Task CommitAsync(
        EnterpriseInfo enterprise,
        ParsedBatch batch,
        EventSender sender,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        // Before anybody copies an event: what refuses one keeps it as an attempt, with the same properties.
        (await propertyRules.FindAsync(enterprise.EnterpriseId, cancellationToken)).Apply(batch);
        PolicySet policySet = await policies.FindAsync(enterprise, cancellationToken);
        if (!policySet.IsOpen)
        {
            PolicyGate.Apply(batch, policySet, sender, now);
        }

        LimitSet limitSet;
        try
        {
            limitSet = await limits.FindAsync(enterprise.EnterpriseId, cancellationToken);
        }
        catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
        {
            throw new LimitsUnavailableException(exception);
        }

        if (limitSet.HasBlocking)
        {
            var gate = new LimitGate(enterprise, limitSet, batch, now);
            if (gate.Plan.Uses.Count > 0)
            {
                await CommitLimitedAsync(gate, enterprise, batch, sender, now, cancellationToken);
                return;
            }
        }

        await commit.CommitAsync(enterprise, batch);
    }

    private async Task CommitLimitedAsync(
        LimitGate gate,
        EnterpriseInfo enterprise,
        ParsedBatch batch,
        EventSender sender,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            try
            {
                AdmissionResult result = await counters.AdmitAsync(gate.Plan, cancellationToken);
                gate.Apply(result, sender, now);
                await commit.CommitAsync(enterprise, batch);
                if (result.State is { } state)
                {
                    counters.Confirm(enterprise.EnterpriseId, state.Fence, gate.AdmittedIds(result));
                }

                return;
            }
            catch (EventLogFencedException)
            {
                // Nothing was appended. What was counted, was counted on counters that nobody reads any more.
                await counters.FencedAsync(enterprise, batch.Fence ?? 0);
            }
            catch (Exception exception) when (exception is NpgsqlException or TimeoutException)
            {
                throw new LimitsUnavailableException(exception);
            }
        }

        throw new LimitsUnavailableException();
    }
}
