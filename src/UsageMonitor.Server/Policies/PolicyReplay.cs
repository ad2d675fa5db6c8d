using System.Runtime.InteropServices;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary>The range has more than can be replayed at once, or took too long.</summary>
internal sealed class ReplayTooLargeException(string message) : Exception(message);

/// <summary>
/// Replays policies over what was recorded: the events stored, and the attempts refused, which are events that other policies
/// might have let through. Rows are streamed; what is kept is a count for each user and feature.
/// </summary>
internal sealed class PolicyReplay(Database database, ReadArchivedUses readArchived, TimeProvider time)
{
    /// <summary>Events of one replay.</summary>
    public const long EventsMax = 5_000_000;

    /// <summary>Days of one replay.</summary>
    public const int RangeDaysMax = 31;

    /// <summary>Users and features that are named.</summary>
    public const int NamedMax = 20;

    /// <summary>Replays of this instance at once; others are told to come back.</summary>
    public const int AtOnceMax = 2;

    private static readonly TimeSpan s_longest = TimeSpan.FromSeconds(60);
    private int _running;

    private record struct Refusals(long Count, DateTime FirstAt);

    /// <param name="enterprise">Whose events.</param>
    /// <param name="draft">The policy to try.</param>
    /// <param name="replaces">The policy whose place it takes, or null to add it.</param>
    /// <param name="range">Local days.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>Null when enough replays run already.</returns>
    /// <exception cref="ReplayTooLargeException">The range has more than <see cref="EventsMax"/>, or took too long.</exception>
    public async Task<SimulateResponse?> RunAsync(
        EnterpriseInfo enterprise,
        PolicyDraft draft,
        Guid? replaces,
        LocalDays range,
        CancellationToken cancellationToken
    )
    {
        if (Interlocked.Increment(ref _running) > AtOnceMax)
        {
            Interlocked.Decrement(ref _running);
            return null;
        }

        using var deadline = new CancellationTokenSource(s_longest, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        try
        {
            return await RunNowAsync(enterprise, draft, replaces, range, either.Token);
        }
        catch (FileNotFoundException)
        {
            // An archived day was rewritten meanwhile: its new file is found the second time.
            return await RunNowAsync(enterprise, draft, replaces, range, either.Token);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested)
        {
            throw new ReplayTooLargeException($"took longer than {s_longest.TotalSeconds:0} s; choose fewer days.");
        }
        finally
        {
            Interlocked.Decrement(ref _running);
        }
    }

    private async Task<SimulateResponse> RunNowAsync(
        EnterpriseInfo enterprise,
        PolicyDraft draft,
        Guid? replaces,
        LocalDays range,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        (DateTime from, DateTime to) = (local.DayStart(range.From), local.DayStart(range.To));
        await using ScopedTransaction own = await database.OpenEnterpriseSnapshotAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        (PolicySet asIs, PolicySet tried, IReadOnlyList<string> notReplayed) = await CompileAsync(
            own,
            enterprise,
            draft,
            replaces,
            cancellationToken
        );
        await RefuseTooManyAsync(own, enterprise.EnterpriseId, from, to, cancellationToken);
        var users = new Dictionary<Guid, Refusals>();
        var features = new Dictionary<string, Refusals>(StringComparer.Ordinal);
        (long evaluated, long refused, long newlyRefused, long newlyPermitted) = (0, 0, 0, 0);
        await readArchived(
            own,
            enterprise,
            new ArchivedUsesQuery(from, to, "*", null, EventsMax + 1),
            use => Evaluate(use.UserId, use.FeatureName, use.EventType, use.At),
            cancellationToken
        );
        await using (NpgsqlCommand command = own.Command(ReadAttempts, enterprise.EnterpriseId, from, to))
        {
            command.CommandTimeout = (int)s_longest.TotalSeconds;
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                Evaluate(reader.GetGuid(0), reader.GetString(1), reader.GetString(2), reader.GetDateTime(3));
            }
        }

        return new SimulateResponse(
            evaluated,
            refused,
            newlyRefused,
            newlyPermitted,
            await NameAsync(own, enterprise, local, users, cancellationToken),
            [
                .. Top(features)
                    .Select(feature => new SimulatedFeature(
                        feature.Key,
                        feature.Value.Count,
                        local.Show(feature.Value.FirstAt)
                    )),
            ],
            notReplayed
        );

        void Evaluate(Guid userId, string featureName, string eventType, DateTime timestamp)
        {
            var question = new PolicyQuestion(
                userId,
                null,
                featureName,
                PolicyActions.Record,
                eventType,
                (timestamp.Ticks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerMicrosecond,
                default
            );
            bool wasAllowed = asIs.Decide(question).IsAllowed;
            bool isAllowed = tried.Decide(question).IsAllowed;
            if (++evaluated > EventsMax)
            {
                throw TooMany();
            }

            newlyPermitted += isAllowed && !wasAllowed ? 1 : 0;
            if (!isAllowed)
            {
                refused++;
                newlyRefused += wasAllowed ? 1 : 0;
                Count(users, question.UserId, timestamp);
                Count(features, question.FeatureName, timestamp);
            }
        }
    }

    private static async Task<(PolicySet AsIs, PolicySet Tried, IReadOnlyList<string> NotReplayed)> CompileAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        PolicyDraft draft,
        Guid? replaces,
        CancellationToken cancellationToken
    )
    {
        (List<StoredPolicy> policies, bool isForbidden) = await PolicyStore.ReadActiveAsync(
            own,
            enterprise.EnterpriseId,
            cancellationToken
        );
        var added = new StoredPolicy(
            replaces ?? Guid.Empty,
            0,
            draft.Name,
            draft.Effect,
            draft.Document,
            draft.Status,
            Guid.Empty,
            default,
            default
        );
        List<StoredPolicy> with =
        [
            .. policies.Where(policy => policy.PolicyId != replaces),
            .. draft.Status == PolicyTerms.Active ? [added] : Array.Empty<StoredPolicy>(),
        ];
        PolicyMembers members = await PolicyStore.ReadMembersAsync(
            own,
            enterprise.EnterpriseId,
            [.. policies, added],
            cancellationToken
        );
        List<string> notReplayed = [];
        if (policies.Append(added).Any(policy => policy.Document.Conditions.Networks.Length > 0))
        {
            notReplayed.Add("networks");
        }

        if (policies.Append(added).Any(policy => policy.Document.Principals.ApiKeys.Length > 0))
        {
            notReplayed.Add("apiKeys");
        }

        return (
            new PolicySet(policies, isForbidden, enterprise.TimeZone, members, isReplay: true),
            new PolicySet(with, isForbidden, enterprise.TimeZone, members, isReplay: true),
            notReplayed
        );
    }

    // Days are local in the aggregates too, so this is the number of events, without reading them.
    private const string CountEvents = """
        SELECT coalesce(sum(value), 0)::bigint FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'day' AND feature_name = ''
           AND time_bucket >= $2 AND time_bucket < $3
        """;

    private static async Task RefuseTooManyAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(CountEvents, enterpriseId, from, to);
        if ((long)(await command.ExecuteScalarAsync(cancellationToken))! > EventsMax)
        {
            throw TooMany();
        }
    }

    private const string ReadAttempts = """
        SELECT user_id, feature_name, event_type, event_timestamp FROM usage_events
         WHERE enterprise_id = $1 AND event_timestamp >= $2 AND event_timestamp < $3
        UNION ALL
        SELECT user_id, feature_name, event_type, event_timestamp FROM decisions
         WHERE enterprise_id = $1 AND decided_at >= $2 AND decided_at < $3 AND source = 'INGEST'
        """;

    private const string ReadExternalIds = """
        SELECT user_id, external_id FROM users WHERE enterprise_id = $1 AND user_id = ANY ($2) AND external_id IS NOT NULL
        """;

    private static async Task<IReadOnlyList<SimulatedUser>> NameAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        LocalTime local,
        Dictionary<Guid, Refusals> users,
        CancellationToken cancellationToken
    )
    {
        KeyValuePair<Guid, Refusals>[] top = [.. Top(users)];
        var names = new Dictionary<Guid, string>();
        Guid[] ids = [.. top.Select(user => user.Key)];
        await using NpgsqlCommand command = own.Command(ReadExternalIds, enterprise.EnterpriseId, ids);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            names[reader.GetGuid(0)] = ExternalIds.Open(enterprise, reader.GetFieldValue<byte[]>(1));
        }

        return
        [
            .. top.Select(user => new SimulatedUser(
                names.GetValueOrDefault(user.Key, user.Key.ToString()),
                user.Value.Count,
                local.Show(user.Value.FirstAt)
            )),
        ];
    }

    private static IEnumerable<KeyValuePair<TKey, Refusals>> Top<TKey>(Dictionary<TKey, Refusals> refusals)
        where TKey : notnull =>
        refusals.OrderByDescending(entry => entry.Value.Count).ThenBy(entry => entry.Value.FirstAt).Take(NamedMax);

    private static void Count<TKey>(Dictionary<TKey, Refusals> refusals, TKey key, DateTime at)
        where TKey : notnull
    {
        ref Refusals entry = ref CollectionsMarshal.GetValueRefOrAddDefault(refusals, key, out bool known);
        entry = new Refusals(entry.Count + 1, known && entry.FirstAt < at ? entry.FirstAt : at);
    }

    private static ReplayTooLargeException TooMany() =>
        new($"has more than {EventsMax:#,0} events; choose fewer days.");
}
