using System.Collections.Frozen;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>
/// Replays a limit over stored usage. Rows are streamed in the order of time; when there are more than <see cref="EventsMax"/> or it
/// takes longer than <see cref="SecondsMax"/>, the answer says how far it came.
/// </summary>
/// <remarks>
/// Limits by the day or month of a large enterprise are replayed from each user's count of the day instead of from events, which is
/// as exact in everything but the instant of a day's first refusal, and whose it was when many share the limit.
/// </remarks>
internal sealed class LimitBacktest(Database database, ReadArchivedUses readArchived, TimeProvider time)
{
    /// <summary>Local days of one replay.</summary>
    public const int RangeDaysMax = 90;

    /// <summary>Users that are named.</summary>
    public const int UsersMax = 20;

    /// <summary>Windows that are named.</summary>
    public const int WindowsMax = 100;

    /// <summary>Replays of this instance at once; others are told to come back.</summary>
    public const int AtOnceMax = 2;

    /// <summary>Seconds of one replay.</summary>
    public const int SecondsMax = 60;

    private int _running;

    /// <summary>Events that are replayed one by one.</summary>
    public long EventsMax { get; init; } = 2_000_000;

    /// <summary>Users' days that are replayed.</summary>
    public long UserDaysMax { get; init; } = 3_000_000;

    /// <summary>What is asked of every row.</summary>
    /// <param name="Feature">The pattern.</param>
    /// <param name="Users">Only of these users; null: of all.</param>
    private sealed record Wanted(Guid EnterpriseId, string Feature, Guid[]? Users);

    /// <summary>How far a replay has come: everything before is in it.</summary>
    private sealed class Progress(DateTime from)
    {
        public DateTime Through { get; set; } = from;

        public long Rows { get; set; }
    }

    /// <returns>Null when enough replays run already.</returns>
    public async Task<LimitBacktestResponse?> RunAsync(
        EnterpriseInfo enterprise,
        LimitDraft draft,
        LocalDays range,
        CancellationToken cancellationToken
    )
    {
        if (Interlocked.Increment(ref _running) > AtOnceMax)
        {
            Interlocked.Decrement(ref _running);
            return null;
        }

        try
        {
            return await RunNowAsync(enterprise, draft, range, cancellationToken);
        }
        catch (FileNotFoundException)
        {
            // An archived day was rewritten meanwhile: its new file is found the second time.
            return await RunNowAsync(enterprise, draft, range, cancellationToken);
        }
        finally
        {
            Interlocked.Decrement(ref _running);
        }
    }

    private async Task<LimitBacktestResponse> RunNowAsync(
        EnterpriseInfo enterprise,
        LimitDraft draft,
        LocalDays range,
        CancellationToken cancellationToken
    )
    {
        var local = new LocalTime(enterprise.TimeZone);
        DateOnly tomorrow = local.DateOf(time.GetUtcNow().UtcDateTime).AddDays(1);
        DateOnly last = range.To < tomorrow ? range.To : tomorrow;
        DateTime from = local.DayStart(range.From);
        DateTime to = last > range.From ? local.DayStart(last) : from;
        LimitMeter meter = draft.Meter;
        var replay = new LimitReplay(meter.Scope, meter.Window, draft.LimitValue, local);
        var progress = new Progress(from);
        bool fromEvents = true;
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(SecondsMax), time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        try
        {
            await using ScopedTransaction own = await database.OpenEnterpriseSnapshotAsync(
                enterprise.EnterpriseId,
                either.Token
            );
            Wanted wanted = await WantAsync(own, enterprise, draft, either.Token);
            bool isSmall = await CountAsync(own, wanted, from, to, either.Token) <= EventsMax;
            fromEvents = isSmall || meter.Window == LimitWindow.Hourly;
            if (fromEvents)
            {
                // Few events are put in order at once, of many a day at a time.
                await ReplayEventsAsync(
                    own,
                    enterprise,
                    wanted,
                    isSmall ? [(from, to)] : Days(),
                    replay,
                    progress,
                    either.Token
                );
            }
            else
            {
                await ReplayDaysAsync(own, wanted, (from, to), local, replay, progress, either.Token);
            }
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested)
        {
            // What was replayed until now is told, and that it is not all.
        }

        replay.Finish();
        return await AnswerAsync(
            enterprise,
            local,
            replay,
            (range.From, from, to),
            progress,
            fromEvents,
            cancellationToken
        );

        IEnumerable<(DateTime From, DateTime To)> Days()
        {
            for (DateOnly day = range.From; day < last; day = day.AddDays(1))
            {
                yield return (local.DayStart(day), local.DayStart(day.AddDays(1)));
            }
        }
    }

    // Who held a role when is not kept: those who hold it now are taken.
    private static async Task<Wanted> WantAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        LimitDraft draft,
        CancellationToken cancellationToken
    )
    {
        Guid[]? users = draft.SubjectUserId is { } one ? [one] : null;
        if (draft.Meter.RoleName is { } role)
        {
            FrozenDictionary<string, FrozenSet<Guid>> holders = await LimitSets.ReadHoldersAsync(
                own,
                enterprise.EnterpriseId,
                [draft.Stored(Guid.Empty, 0, Guid.Empty, default, default)]
            );
            users = holders.TryGetValue(role, out FrozenSet<Guid>? who) ? [.. who] : [];
        }

        return new Wanted(enterprise.EnterpriseId, draft.Meter.FeatureName, users);
    }

    // Days are local in the aggregates too. Of all users, so it may be more than there is to replay.
    private const string CountEvents = """
        SELECT coalesce(sum(value), 0)::bigint FROM usage_aggregates
         WHERE enterprise_id = $1 AND metric_type = 'usage_count' AND granularity = 'day'
           AND CASE WHEN $2 = '*' THEN feature_name = ''
                    WHEN right($2, 1) = '*' THEN feature_name <> '' AND starts_with(feature_name, left($2, -1))
                    ELSE feature_name = $2 END
           AND time_bucket >= $3 AND time_bucket < $4
        """;

    private static async Task<long> CountAsync(
        ScopedTransaction own,
        Wanted wanted,
        DateTime from,
        DateTime to,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(CountEvents, wanted.EnterpriseId, wanted.Feature, from, to);
        return (long)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    private const string ReadEvents = """
        SELECT user_id, event_timestamp FROM usage_events
         WHERE enterprise_id = $1 AND event_timestamp >= $4 AND event_timestamp < $5
           AND (feature_name = $2 OR (right($2, 1) = '*' AND starts_with(feature_name, left($2, -1))))
           AND ($3::uuid[] IS NULL OR user_id = ANY ($3))
         ORDER BY event_timestamp, event_id LIMIT $6
        """;

    private async Task ReplayEventsAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Wanted wanted,
        IEnumerable<(DateTime From, DateTime To)> spans,
        LimitReplay replay,
        Progress progress,
        CancellationToken cancellationToken
    )
    {
        foreach ((DateTime from, DateTime to) in spans)
        {
            // Archived events first, then the live ones between them: days that late events came for have both.
            var archived = new Queue<ArchivedUse>();
            await readArchived(
                own,
                enterprise,
                new ArchivedUsesQuery(from, to, wanted.Feature, wanted.Users, EventsMax - progress.Rows + 1),
                archived.Enqueue,
                cancellationToken
            );
            await using NpgsqlCommand command = own.Command(
                ReadEvents,
                wanted.EnterpriseId,
                wanted.Feature,
                wanted.Users,
                from,
                to,
                EventsMax - progress.Rows + 1
            );
            command.CommandTimeout = 2 * SecondsMax; // the deadline comes first
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            while (await reader.ReadAsync(cancellationToken))
            {
                DateTime at = reader.GetDateTime(1);
                if (!TakeArchived(at) || !Take(reader.GetGuid(0), at))
                {
                    return;
                }
            }

            if (!TakeArchived(to))
            {
                return;
            }

            bool TakeArchived(DateTime before)
            {
                while (archived.TryPeek(out ArchivedUse next) && next.At < before)
                {
                    archived.Dequeue();
                    if (!Take(next.UserId, next.At))
                    {
                        return false;
                    }
                }

                return true;
            }

            progress.Through = to;
        }

        bool Take(Guid userId, DateTime at)
        {
            progress.Through = at;
            if (++progress.Rows > EventsMax)
            {
                return false;
            }

            replay.Add(userId, at);
            return true;
        }
    }

    private const string ReadDays = """
        SELECT time_bucket, user_id, sum(usage_count)::bigint, min(first_at) FROM user_usage_aggregates
         WHERE enterprise_id = $1 AND time_bucket >= $4 AND time_bucket < $5
           AND (feature_name = $2 OR (right($2, 1) = '*' AND starts_with(feature_name, left($2, -1))))
           AND ($3::uuid[] IS NULL OR user_id = ANY ($3))
         GROUP BY time_bucket, user_id ORDER BY time_bucket LIMIT $6
        """;

    private async Task ReplayDaysAsync(
        ScopedTransaction own,
        Wanted wanted,
        (DateTime From, DateTime To) range,
        LocalTime local,
        LimitReplay replay,
        Progress progress,
        CancellationToken cancellationToken
    )
    {
        // A month at a time, as the table is parted: PostgreSQL puts no more in order than that.
        for (DateTime from = range.From; from < range.To; )
        {
            DateTime month = WindowSpan.Of(LimitWindow.Monthly, local, from).End;
            DateTime to = month < range.To ? month : range.To;
            var day = new List<UserDay>();
            await using NpgsqlCommand command = own.Command(
                ReadDays,
                wanted.EnterpriseId,
                wanted.Feature,
                wanted.Users,
                from,
                to,
                UserDaysMax - progress.Rows + 1
            );
            command.CommandTimeout = 2 * SecondsMax;
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            DateTime current = from;
            while (await reader.ReadAsync(cancellationToken))
            {
                DateTime bucket = reader.GetDateTime(0);
                if (bucket != current)
                {
                    replay.AddDay(current, day);
                    day.Clear();
                    (current, progress.Through) = (bucket, bucket);
                }

                if (++progress.Rows > UserDaysMax)
                {
                    return;
                }

                day.Add(new UserDay(reader.GetGuid(1), reader.GetInt64(2), reader.GetDateTime(3)));
            }

            replay.AddDay(current, day);
            (progress.Through, from) = (to, to);
        }
    }

    private async Task<LimitBacktestResponse> AnswerAsync(
        EnterpriseInfo enterprise,
        LocalTime local,
        LimitReplay replay,
        (DateOnly Day, DateTime From, DateTime To) range,
        Progress progress,
        bool fromEvents,
        CancellationToken cancellationToken
    )
    {
        KeyValuePair<Guid, ReplayedUser>[] users =
        [
            .. replay
                .Users.OrderByDescending(user => user.Value.Blocked)
                .ThenBy(user => user.Value.FirstAt)
                .ThenBy(user => user.Key)
                .Take(UsersMax),
        ];
        Dictionary<Guid, string> names;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, cancellationToken)
        )
        {
            names = await new LimitUsageReader(own, enterprise.EnterpriseId).ReadNamesAsync(
                [.. users.Select(user => user.Key)],
                enterprise,
                cancellationToken
            );
        }

        return new LimitBacktestResponse(
            progress.Through > range.From
                ? local.DateOf(progress.Through.AddTicks(-1)).DayNumber - range.Day.DayNumber + 1
                : 0,
            replay.Events,
            replay.Blocked,
            replay.WindowsEvaluated,
            replay.WindowsReached,
            replay.Users.Count,
            replay.FirstAt is { } first ? local.Show(first) : null,
            [
                .. users.Select(user => new BacktestUser(
                    names[user.Key],
                    user.Value.Blocked,
                    user.Value.Windows,
                    local.Show(user.Value.FirstAt)
                )),
            ],
            [
                .. replay
                    .Windows.OrderByDescending(window => window.Blocked)
                    .ThenBy(window => window.Span.Start)
                    .Take(WindowsMax)
                    .Select(window => new BacktestWindow(
                        local.Show(window.Span.Start),
                        local.Show(window.Span.End),
                        window.Attempts,
                        window.Blocked,
                        window.Users,
                        local.Show(window.FirstAt)
                    )),
            ],
            replay.Unattributed,
            fromEvents,
            progress.Through == range.To,
            local.Show(progress.Through)
        );
    }
}
