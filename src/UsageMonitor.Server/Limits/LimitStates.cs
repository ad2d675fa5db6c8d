using System.Collections.Frozen;
using UsageMonitor.Contracts;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>Limits with what is used of them, who uses it, and when they will be reached.</summary>
internal sealed class LimitStates(Database database, IEventLog log, TimeProvider time)
{
    /// <summary>Limits whose usage is read at once.</summary>
    public const int LimitsMax = 50;

    /// <param name="enterprise">Whose limits.</param>
    /// <param name="find">Finds them, in the transaction that reads their usage.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<List<LimitResponse>> ReadAsync(
        EnterpriseInfo enterprise,
        Func<ScopedTransaction, Task<List<StoredLimit>>> find,
        CancellationToken cancellationToken
    )
    {
        // The order is what makes asOf true: see Watermark.
        DateTime now = time.GetUtcNow().UtcDateTime;
        long head = await Watermark.HeadAsync(log, enterprise, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        DateTimeOffset asOf = await Watermark.ReadAsync(own, enterprise, now, head, cancellationToken);
        List<StoredLimit> limits = await find(own);
        if (limits.Count == 0)
        {
            return [];
        }

        var reader = new LimitUsageReader(own, enterprise.EnterpriseId);
        var page = new Page(
            enterprise,
            reader,
            now,
            await reader.ReadCountedAsync(
                [.. limits.Select(limit => limit.Meter.MeterId).Distinct()],
                cancellationToken
            ),
            await reader.ReadExceptionsAsync(now, cancellationToken),
            await LimitSets.ReadHoldersAsync(own, enterprise.EnterpriseId, limits)
        );
        var states = new List<State>(limits.Count);
        foreach (StoredLimit limit in limits)
        {
            states.Add(await page.ReadAsync(limit, cancellationToken));
        }

        Dictionary<Guid, string> names = await reader.ReadNamesAsync(
            [.. states.SelectMany(state => state.Users?.Top ?? []).Select(user => user.UserId)],
            enterprise,
            cancellationToken
        );
        return
        [
            .. limits.Zip(
                states,
                (limit, state) =>
                    LimitAnswers.Of(limit, enterprise, page.Local) with
                    {
                        Used = state.Used,
                        Remaining = state.Used is { } used ? Math.Max(0, limit.LimitValue - used) : null,
                        WindowStart = page.Local.Show(state.Window.Start),
                        ResetsAt = page.Local.Show(state.Window.End),
                        AsOf = asOf,
                        Forecast = state.Forecast,
                        Contributors = state.Users is { } users
                            ?
                            [
                                .. users.Top.Select(user => new LimitContributor(
                                    names[user.UserId],
                                    user.Used,
                                    Share(
                                        user.Used,
                                        limit.Meter.Scope == LimitScope.User ? limit.LimitValue : users.Total
                                    )
                                )),
                            ]
                            : null,
                    }
            ),
        ];
    }

    private static double Share(long used, long of) =>
        of > 0 ? (double)used / of
        : used > 0 ? 1
        : 0;

    private sealed record State(WindowSpan Window, long? Used, UserParts? Users, LimitForecast Forecast);

    /// <summary>What limits of one page share.</summary>
    private sealed class Page(
        EnterpriseInfo enterprise,
        LimitUsageReader reader,
        DateTime now,
        HashSet<Guid> counted,
        ILookup<(string Feature, string Window, string Action), Guid> exceptions,
        FrozenDictionary<string, FrozenSet<Guid>> holders
    )
    {
        private readonly Dictionary<string, Dictionary<DateTime, long>> _hours = new(StringComparer.Ordinal);
        private readonly Dictionary<(string, string?, DateTime, DateTime), UserParts?> _top = [];

        public LocalTime Local { get; } = new(enterprise.TimeZone);

        public async Task<State> ReadAsync(StoredLimit limit, CancellationToken cancellationToken)
        {
            var window = WindowSpan.Of(limit.Meter.Window, Local, now);
            bool isEach = limit.Meter.Scope == LimitScope.User && limit.SubjectUserId is null;
            UserParts? users = isEach
                ? await ReadNearestAsync(limit, window, cancellationToken)
                : await ReadContributorsAsync(limit, window, cancellationToken);
            Guid? one = isEach && users?.Top is [var nearest, ..] ? nearest.UserId : limit.SubjectUserId;
            Dictionary<DateOnly, long>? days =
                isEach && one is null ? [] : await ReadDaysAsync(limit, one, cancellationToken);
            long? used = isEach
                ? users is null
                    ? null
                    : users.Top.Select(user => user.Used).FirstOrDefault()
                : await ReadUsedAsync(limit, window, days, cancellationToken);
            if (limit.SubjectUserId is { } named && used is { } its)
            {
                users = new UserParts([new UserPart(named, its)], its);
            }

            return new State(window, used, users, await ForecastAsync(limit, window, used, days, cancellationToken));
        }

        private Guid[] HoldersOf(StoredLimit limit) =>
            holders.TryGetValue(limit.Meter.RoleName!, out FrozenSet<Guid>? who) ? [.. who] : [];

        // Of limits for each user, only those users count to whom no limit of their own applies.
        private async Task<UserParts?> ReadNearestAsync(
            StoredLimit limit,
            WindowSpan window,
            CancellationToken cancellationToken
        )
        {
            LimitMeter meter = limit.Meter;
            Guid[] except = [.. exceptions[(meter.FeatureName, meter.Window.Word(), limit.Action.Word())]];
            return counted.Contains(meter.MeterId)
                    ? await reader.ReadMeterTopAsync(meter, window, except, cancellationToken)
                : meter.Window == LimitWindow.Hourly ? null
                : await reader.ReadTopAsync(meter.FeatureName, window, window.Start, null, except, cancellationToken);
        }

        private async Task<UserParts?> ReadContributorsAsync(
            StoredLimit limit,
            WindowSpan window,
            CancellationToken cancellationToken
        )
        {
            LimitMeter meter = limit.Meter;
            if (meter.Scope == LimitScope.User)
            {
                return null;
            }

            WindowSpan days =
                meter.Window == LimitWindow.Hourly ? WindowSpan.Of(LimitWindow.Daily, Local, now) : window;
            (string, string?, DateTime, DateTime) key = (meter.FeatureName, meter.RoleName, days.Start, window.Start);
            if (!_top.TryGetValue(key, out UserParts? users))
            {
                _top[key] = users = await reader.ReadTopAsync(
                    meter.FeatureName,
                    days,
                    window.Start,
                    meter.Scope == LimitScope.Role ? HoldersOf(limit) : null,
                    [],
                    cancellationToken
                );
            }

            return users;
        }

        /// <summary>The subject's usage by local day, of the weeks before and of the window; null: too much to read.</summary>
        private async Task<Dictionary<DateOnly, long>?> ReadDaysAsync(
            StoredLimit limit,
            Guid? userId,
            CancellationToken cancellationToken
        )
        {
            LimitMeter meter = limit.Meter;
            Dictionary<DateTime, long>? found;
            if (meter.Scope == LimitScope.Enterprise)
            {
                found = await ReadHoursAsync(meter.FeatureName, cancellationToken);
            }
            else
            {
                found = await reader.ReadDaysAsync(
                    userId is { } one ? [one] : HoldersOf(limit),
                    meter.FeatureName,
                    Earliest,
                    Local.DayStart(Local.DateOf(now).AddDays(1)),
                    cancellationToken
                );
            }

            return found
                ?.GroupBy(bucket => Local.DateOf(bucket.Key))
                .ToDictionary(day => day.Key, day => day.Sum(bucket => bucket.Value));
        }

        // As far back as is learned from, which may be in the month before; or to the beginning of a long month.
        private DateTime Earliest
        {
            get
            {
                DateTime learned = Local.DayStart(Local.DateOf(now).AddDays(-UsageRhythm.DaysMax));
                DateTime month = Local.MonthStart(now);
                return month < learned ? month : learned;
            }
        }

        private async Task<Dictionary<DateTime, long>> ReadHoursAsync(
            string feature,
            CancellationToken cancellationToken
        )
        {
            if (!_hours.TryGetValue(feature, out Dictionary<DateTime, long>? hours))
            {
                DateTime tomorrow = Local.DayStart(Local.DateOf(now).AddDays(1));
                _hours[feature] = hours = await reader.ReadHoursAsync(feature, Earliest, tomorrow, cancellationToken);
            }

            return hours;
        }

        private async Task<long?> ReadUsedAsync(
            StoredLimit limit,
            WindowSpan window,
            Dictionary<DateOnly, long>? days,
            CancellationToken cancellationToken
        )
        {
            LimitMeter meter = limit.Meter;
            if (counted.Contains(meter.MeterId))
            {
                return await reader.ReadMeterAsync(meter, limit.SubjectUserId ?? Guid.Empty, window, cancellationToken);
            }

            // Aggregates of users are of days: what an hour brought is known of everybody together only.
            if (meter.Window == LimitWindow.Hourly)
            {
                return meter.Scope == LimitScope.Enterprise
                    ? (await ReadHoursAsync(meter.FeatureName, cancellationToken)).GetValueOrDefault(window.Start)
                    : null;
            }

            DateOnly first = Local.DateOf(window.Start);
            return days?.Where(day => day.Key >= first).Sum(day => day.Value);
        }

        private async Task<LimitForecast> ForecastAsync(
            StoredLimit limit,
            WindowSpan window,
            long? used,
            Dictionary<DateOnly, long>? days,
            CancellationToken cancellationToken
        )
        {
            if (used is not { } known)
            {
                return new LimitForecast(LimitOutcomes.Unknown, null, null, null, null, null, null, 0);
            }

            DateOnly today = Local.DateOf(now);
            UsageRhythm? rhythm = days is null
                ? null
                : UsageRhythm.Learn(
                    today,
                    days,
                    await ReadHoursAsync(limit.Meter.FeatureName, cancellationToken),
                    Local
                );
            bool isHourly = limit.Meter.Window == LimitWindow.Hourly;
            return LimitForecaster.Of(
                rhythm,
                Local,
                new LimitStanding(
                    window,
                    now,
                    known,
                    limit.LimitValue,
                    isHourly ? known : days?.GetValueOrDefault(today) ?? 0,
                    isHourly ? window.Start : Local.DayStart(today)
                )
            );
        }
    }
}
