using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>A meter about to begin to count.</summary>
/// <param name="Enterprise">Whose.</param>
/// <param name="Meter">What it counts.</param>
/// <param name="Holders">Who it counts, when it is a role's.</param>
/// <param name="Windows">The windows whose usage so far is looked up, the oldest first.</param>
internal sealed record NewMeter(
    StepEnterprise Enterprise,
    LimitMeter Meter,
    IReadOnlyCollection<Guid> Holders,
    IReadOnlyList<WindowSpan> Windows
)
{
    /// <summary>Windows that begin here or later are counted in full, those before not at all.</summary>
    public DateTime CountedSince => Windows[0].Start;
}

/// <summary>Begins to count meters in the middle of everything.</summary>
/// <remarks>
/// <para>
/// Invariant: a row of <c>limit_usage</c> is the number of the events stored on its meter in its window, all of them, as of
/// the position that its transaction moved to.
/// </para>
/// <para>
/// It is kept like this. A step that finds a meter without a row looks up what is stored, before it stores its own events,
/// and adds these as every later step does. Nobody else stores events of the enterprise meanwhile: they are all in one
/// partition, whose position the step has locked. So what it looks up is exactly what was before the position, and no event
/// is missed or counted twice. A window that would have to be looked up further back than is bearable is not counted at
/// all, rather than wrongly (<c>counted_since</c>). And a meter that a step finds no use for is dropped by that very step,
/// so that it begins anew when there is a use for it again. A role's meter counts who holds the role when it begins;
/// whoever comes or goes later counts, or no longer counts, from then on.
/// </para>
/// </remarks>
internal static class MeterStarts
{
    /// <summary>
    /// Full hours before the current one whose events are looked at one by one: users' hours have no aggregate. It bounds
    /// how much of <c>usage_events</c> is read under the position's lock.
    /// </summary>
    public const int PastHoursMax = 2;

    /// <summary>Windows ahead of the clock are looked at too: a sender's clock may be ahead.</summary>
    private const int AheadDays = 1;

    public static NewMeter Of(StepEnterprise enterprise, LimitMeter meter, MeterPlan plan, DateTime now)
    {
        bool byEvents = meter is { Window: LimitWindow.Hourly, Scope: not LimitScope.Enterprise };
        DateTime oldest = byEvents ? now.AddHours(-PastHoursMax) : now.AddDays(-MeterTallies.EndedDaysMax);
        var windows = new List<WindowSpan>();
        for (
            WindowSpan window = WindowSpan.Of(meter.Window, enterprise.Local, oldest);
            window.Start <= now.AddDays(AheadDays);
            window = WindowSpan.Of(meter.Window, enterprise.Local, window.End)
        )
        {
            windows.Add(window);
        }

        return new NewMeter(enterprise, meter, plan.HoldersOf(meter), windows);
    }

    private const string DeleteMeters = """
        DELETE FROM limit_meters AS m USING unnest($1, $2) AS dropped (enterprise_id, meter_id)
         WHERE m.enterprise_id = dropped.enterprise_id AND m.meter_id = dropped.meter_id
        """;

    // What is left of an earlier time that the meter was used.
    private const string DeleteUsage = """
        DELETE FROM limit_usage AS u USING unnest($1, $2) AS started (enterprise_id, meter_id)
         WHERE u.enterprise_id = started.enterprise_id AND u.meter_id = started.meter_id
        """;

    private const string InsertMeters = """
        INSERT INTO limit_meters (enterprise_id, meter_id, feature_name, scope, role_name, window_type, counted_since)
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)
        """;

    private const string RaiseVersion =
        "UPDATE log_positions SET meters_version = meters_version + 1 WHERE log_partition = $1";

    /// <summary>Drops meters and begins others; there is at least one.</summary>
    public static async Task WriteAsync(
        NpgsqlConnection connection,
        short partition,
        List<(Guid EnterpriseId, Guid MeterId)> dropped,
        List<NewMeter> started,
        CancellationToken cancellationToken
    )
    {
        await using var batch = new NpgsqlBatch(connection);
        if (dropped.Count > 0)
        {
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(DeleteMeters)
                {
                    Parameters =
                    {
                        Columns.Of(dropped, row => row.EnterpriseId),
                        Columns.Of(dropped, row => row.MeterId),
                    },
                }
            );
        }

        if (started.Count > 0)
        {
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(DeleteUsage)
                {
                    Parameters =
                    {
                        Columns.Of(started, row => row.Enterprise.Id),
                        Columns.Of(started, row => row.Meter.MeterId),
                    },
                }
            );
            batch.BatchCommands.Add(
                new NpgsqlBatchCommand(InsertMeters)
                {
                    Parameters =
                    {
                        Columns.Of(started, row => row.Enterprise.Id),
                        Columns.Of(started, row => row.Meter.MeterId),
                        Columns.Of(started, row => row.Meter.FeatureName),
                        Columns.Of(started, row => row.Meter.Scope.Word()),
                        Columns.Of(started, row => row.Meter.RoleName),
                        Columns.Of(started, row => row.Meter.Window.Word()),
                        Columns.Of(started, row => row.CountedSince),
                    },
                }
            );
            started.ForEach(meter => batch.BatchCommands.Add(LookUp(meter)));
        }

        batch.BatchCommands.Add(
            new NpgsqlBatchCommand(RaiseVersion)
            {
                Parameters = { new NpgsqlParameter<short> { TypedValue = partition } },
            }
        );
        await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    private const string Target = """
        INSERT INTO limit_usage (enterprise_id, meter_id, subject_id, window_start, window_end, used, first_at, last_at)
        """;

    // The constant bound $5 lets PostgreSQL look into the few months that matter.
    private const string ByUserDays = $"""
        {Target}
        SELECT $1, $2, s.subject_id, w.window_start, w.window_end, sum(s.usage_count)::bigint, min(s.first_at), max(s.last_at)
          FROM unnest($3, $4) AS w (window_start, window_end)
          JOIN (SELECT CASE WHEN $8 THEN user_id ELSE '00000000-0000-0000-0000-000000000000' END AS subject_id,
                       time_bucket, usage_count, first_at, last_at
                  FROM user_usage_aggregates
                 WHERE enterprise_id = $1 AND time_bucket >= $5 AND (feature_name = $6 OR starts_with(feature_name, $7))
                   AND ($8 OR user_id = ANY ($9))) AS s
            ON s.time_bucket >= w.window_start AND s.time_bucket < w.window_end
         GROUP BY s.subject_id, w.window_start, w.window_end
        """;

    private const string ByUserEvents = $"""
        {Target}
        SELECT $1, $2, s.subject_id, w.window_start, w.window_end, count(*), min(s.event_timestamp), max(s.event_timestamp)
          FROM unnest($3, $4) AS w (window_start, window_end)
          JOIN (SELECT CASE WHEN $8 THEN user_id ELSE '00000000-0000-0000-0000-000000000000' END AS subject_id, event_timestamp
                  FROM usage_events
                 WHERE enterprise_id = $1 AND event_timestamp >= $5 AND (feature_name = $6 OR starts_with(feature_name, $7))
                   AND ($8 OR user_id = ANY ($9))) AS s
            ON s.event_timestamp >= w.window_start AND s.event_timestamp < w.window_end
         GROUP BY s.subject_id, w.window_start, w.window_end
        """;

    // An aggregate does not say when in its hour or day the first event came; its beginning is said instead.
    private const string OfEverybody = $"""
        {Target}
        SELECT $1, $2, '00000000-0000-0000-0000-000000000000', w.window_start, w.window_end, sum(s.value)::bigint, min(s.time_bucket), max(s.time_bucket)
          FROM unnest($3, $4) AS w (window_start, window_end)
          JOIN usage_aggregates AS s ON s.time_bucket >= w.window_start AND s.time_bucket < w.window_end
         WHERE s.enterprise_id = $1 AND s.time_bucket >= $5 AND s.metric_type = 'usage_count' AND s.granularity = $8
           AND (s.feature_name = $6 OR (s.feature_name <> '' AND starts_with(s.feature_name, $7)))
         GROUP BY w.window_start, w.window_end
        """;

    private static NpgsqlBatchCommand LookUp(NewMeter started)
    {
        (LimitMeter meter, IReadOnlyList<WindowSpan> windows) = (started.Meter, started.Windows);
        bool isOfAll = meter.Scope == LimitScope.Enterprise;
        string sql =
            isOfAll ? OfEverybody
            : meter.Window == LimitWindow.Hourly ? ByUserEvents
            : ByUserDays;
        bool isPattern = meter.FeatureName.EndsWith('*');

        // All features together have an aggregate of their own, under no name; users' aggregates have none.
        bool isSum = isOfAll && meter.FeatureName == LimitTerms.AnyFeature;
        var command = new NpgsqlBatchCommand(sql)
        {
            Parameters =
            {
                new NpgsqlParameter<Guid> { TypedValue = started.Enterprise.Id },
                new NpgsqlParameter<Guid> { TypedValue = meter.MeterId },
                new NpgsqlParameter<DateTime[]> { TypedValue = [.. windows.Select(window => window.Start)] },
                new NpgsqlParameter<DateTime[]> { TypedValue = [.. windows.Select(window => window.End)] },
                Columns.Value(started.CountedSince),
                Text(
                    isSum ? ""
                    : isPattern ? null
                    : meter.FeatureName
                ),
                Text(isPattern && !isSum ? meter.FeatureName[..^1] : null),
            },
        };
        if (isOfAll)
        {
            command.Parameters.Add(Text(meter.Window == LimitWindow.Hourly ? "hour" : "day"));
        }
        else
        {
            command.Parameters.Add(new NpgsqlParameter<bool> { TypedValue = meter.Scope == LimitScope.User });
            command.Parameters.Add(new NpgsqlParameter<Guid[]> { TypedValue = [.. started.Holders] });
        }

        return command;
    }

    private static NpgsqlParameter Text(string? value) =>
        new() { Value = (object?)value ?? DBNull.Value, NpgsqlDbType = NpgsqlDbType.Text };
}
