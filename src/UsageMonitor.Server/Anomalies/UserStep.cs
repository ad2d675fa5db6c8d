using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Anomalies;

/// <summary>The part of a step that is about users: some of those who were active on the next finished day.</summary>
internal sealed class UserStep(
    Database database,
    NpgsqlConnection connection,
    EnterpriseInfo enterprise,
    LocalTime local,
    EnterprisePosition position,
    DateTime now
)
{
    private readonly UserRules _rules = new(enterprise.AnomalySensitivity);
    private readonly Peers _peers = new(database, enterprise.EnterpriseId);
    private IReadOnlyList<Finding> _found = [];

    /// <summary>What stood out.</summary>
    public IReadOnlyList<Finding> Found => _found;

    /// <summary>Evaluates and learns, and adds to the batch what is to be written.</summary>
    /// <returns>Whether there is more to do at once.</returns>
    public async Task<bool> RunAsync(NpgsqlBatch batch, DateTime through, CancellationToken cancellationToken)
    {
        position.UserDay ??= await FirstDayAsync(local.DateOf(through), cancellationToken);
        if (position.UserDay is not { } date || local.DayStart(date.AddDays(1)) + AnomalyLimits.LateAllowance > through)
        {
            return false;
        }

        DateTime start = local.DayStart(date);
        DateTime end = local.DayStart(date.AddDays(1));
        UserDay day = await UserDay.ReadAsync(
            connection,
            enterprise.EnterpriseId,
            start,
            position.UserOrdinal,
            cancellationToken
        );
        Dictionary<Guid, UserProfile> profiles = await ReadProfilesAsync(day.Users.Keys, cancellationToken);
        var found = new List<Finding>();
        foreach ((Guid userId, UserDay.Entry entry) in day.Users)
        {
            if (!profiles.TryGetValue(userId, out UserProfile? profile))
            {
                profiles[userId] = profile = new UserProfile();
            }

            await EvaluateAsync(userId, entry, profile, date, found, end > position.WatchedSince, cancellationToken);
        }

        _found =
        [
            .. found
                .OrderByDescending(one => one.Score)
                .Take(AnomalyLimits.UserFindingsPerDayMax - position.UserFindings),
        ];
        if (day.Users.Count > 0)
        {
            batch.BatchCommands.Add(Save(profiles, date));
        }

        foreach (NpgsqlBatchCommand save in FindingStore.Save(enterprise.EnterpriseId, _found))
        {
            batch.BatchCommands.Add(save);
        }

        position.UserFindings += _found.Count;
        position.UserOrdinal = day.NextOrdinal;
        if (!day.HasMore)
        {
            (position.UserDay, position.UserOrdinal, position.UserFindings) = (date.AddDays(1), 0, 0);
        }

        return true;
    }

    private async Task EvaluateAsync(
        Guid userId,
        UserDay.Entry entry,
        UserProfile profile,
        DateOnly date,
        List<Finding> found,
        bool isWatched,
        CancellationToken cancellationToken
    )
    {
        DateTime start = local.DayStart(date);
        List<UserHour> hours =
        [
            .. entry.Hours.Select(hour => new UserHour(
                hour.Minutes,
                ((int)date.DayOfWeek * 24) + local.Show(start.AddMinutes(hour.Minutes)).Hour,
                hour.OthersPercent / 100.0
            )),
        ];
        var features = new List<int>();
        foreach (string feature in entry.Features.Keys.Order(StringComparer.Ordinal))
        {
            if (position.NumberOf(feature, date.DayNumber) is { } number)
            {
                features.Add(number);
            }
        }

        if (_rules.IsOn && isWatched && profile.LastDay < date.DayNumber)
        {
            if (_rules.UnusualHours(profile, date.DayNumber, hours) is { } unusual)
            {
                found.Add(Of(userId, date, unusual, UserWords.UnusualHours(profile, local, start, unusual)));
            }

            if (_rules.SuddenVolume(profile, entry.Events, entry.TopFeature) is { } sudden)
            {
                found.Add(Of(userId, date, sudden, UserWords.SuddenVolume(profile, date, sudden)));
            }

            foreach (int number in features)
            {
                if (
                    _rules.IsNewTo(profile, number, date.DayNumber, position.FeatureDays[number])
                    && await _peers.NoneHasUsedAsync(userId, profile, number, cancellationToken) is { } peers
                )
                {
                    string feature = position.FeatureNames[number];
                    var finding = new UserFinding(
                        AnomalyTerms.NewFeature,
                        feature,
                        1 - (1.0 / (profile.ActiveDays + 1)),
                        entry.Features[feature],
                        0,
                        0
                    );
                    found.Add(Of(userId, date, finding, UserWords.NewFeature(profile, date, finding, peers)));
                }
            }
        }

        profile.Learn(date.DayNumber, hours.Select(hour => hour.HourOfWeek), features, entry.Events);
    }

    private Finding Of(Guid userId, DateOnly date, UserFinding found, string detail) =>
        new()
        {
            AnomalyId = Guid.CreateVersion7(new DateTimeOffset(now)),
            Kind = found.Kind,
            Series = AnomalyTerms.User,
            // The volume is the whole day's; the feature that most of it was is in the words.
            FeatureName = found.Kind == AnomalyTerms.NewFeature ? found.FeatureName : "",
            UserId = userId,
            StartsAt = local.DayStart(date),
            EndsAt = local.DayStart(date.AddDays(1)),
            OpenedAt = now,
            Observed = found.Observed,
            Expected = found.Expected,
            Low = 0,
            High = found.High,
            Score = found.Score,
            Detail = detail,
            IsNew = true,
        };

    private const string ReadFirstDay = """
        SELECT min(time_bucket) FROM active_user_sets WHERE enterprise_id = $1 AND time_bucket >= $2
        """;

    private async Task<DateOnly?> FirstDayAsync(DateOnly today, CancellationToken cancellationToken)
    {
        await using var command = new NpgsqlCommand(ReadFirstDay, connection)
        {
            Parameters =
            {
                new() { Value = enterprise.EnterpriseId },
                new() { Value = local.DayStart(today.AddDays(-AnomalyLimits.HistoryDays)) },
            },
        };
        return await command.ExecuteScalarAsync(cancellationToken) is DateTime first ? local.DateOf(first) : null;
    }

    private const string ReadProfiles = """
        SELECT user_id, state FROM anomaly_users WHERE enterprise_id = $1 AND user_id = ANY ($2)
        """;

    private async Task<Dictionary<Guid, UserProfile>> ReadProfilesAsync(
        IEnumerable<Guid> users,
        CancellationToken cancellationToken
    )
    {
        var profiles = new Dictionary<Guid, UserProfile>();
        await using var command = new NpgsqlCommand(ReadProfiles, connection)
        {
            Parameters =
            {
                new() { Value = enterprise.EnterpriseId },
                new NpgsqlParameter<Guid[]> { TypedValue = [.. users] },
            },
        };
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            profiles[reader.GetGuid(0)] = UserProfile.Read(reader.GetFieldValue<byte[]>(1));
        }

        return profiles;
    }

    private const string SaveProfiles = """
        INSERT INTO anomaly_users (enterprise_id, user_id, last_day, state)
        SELECT $1, user_id, $4, state FROM unnest($2, $3) AS learned (user_id, state)
            ON CONFLICT (enterprise_id, user_id) DO UPDATE SET last_day = excluded.last_day, state = excluded.state
        """;

    private NpgsqlBatchCommand Save(Dictionary<Guid, UserProfile> profiles, DateOnly date)
    {
        List<KeyValuePair<Guid, UserProfile>> rows = [.. profiles.OrderBy(user => user.Key)];
        return new NpgsqlBatchCommand(SaveProfiles)
        {
            Parameters =
            {
                new() { Value = enterprise.EnterpriseId },
                new NpgsqlParameter<Guid[]> { TypedValue = [.. rows.Select(row => row.Key)] },
                new NpgsqlParameter<byte[][]> { TypedValue = [.. rows.Select(row => row.Value.ToArray())] },
                new NpgsqlParameter<DateOnly> { TypedValue = date },
            },
        };
    }
}
