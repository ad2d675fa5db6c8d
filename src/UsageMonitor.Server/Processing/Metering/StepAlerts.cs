using System.Runtime.InteropServices;
using Npgsql;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Limits;

namespace UsageMonitor.Server.Processing.Metering;

/// <summary>
/// Opens alerts and raises them from LOW to HIGH, each once, and writes a delivery for every recipient: all in the step's
/// transaction.
/// </summary>
/// <remarks>
/// Invariant: one alert per rule, limit, subject and window, told once when it is opened and once when it is raised. The
/// unique key of <c>alert_events</c> decides which step opened it and the row's severity which step raised it, and their
/// deliveries are in the same transaction: a step that is repeated finds the row, or neither row nor deliveries.
/// </remarks>
internal sealed class StepAlerts
{
    /// <summary>Remembered alerts of one worker; beyond, it starts over. About 100 bytes each.</summary>
    public const int RememberedAlertsMax = 200_000;

    /// <summary>Deliveries of one statement.</summary>
    public const int StatementDeliveriesMax = 2_000;

    // What is known to be in alert_events, and whether it is HIGH there: a count that stays beyond its threshold asks nothing.
    private readonly Dictionary<AlertKey, bool> _told = [];
    private List<DueAlert> _telling = [];
    private List<Guid> _ids = [];

    /// <summary>A step begins: what the last one told stands only if it was remembered.</summary>
    public void Begin() => _telling = [];

    /// <summary>Whether an alert is known to stand as it should.</summary>
    public bool IsTold(DueAlert alert) =>
        _told.TryGetValue(alert.Key, out bool isHigh) && (isHigh || !alert.IsLimitReached);

    private const string Open = """
        INSERT INTO alert_events
            (enterprise_id, alert_event_id, alert_id, limit_id, subject_id, feature_name, scope, role_name, window_type, window_start,
             window_end, severity, threshold, limit_value, used, opened_at)
        SELECT enterprise_id, alert_event_id, alert_id, limit_id, subject_id, feature_name, scope, role_name, window_type, window_start,
               window_end, severity, threshold, limit_value, used, $16
          FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
               AS due (enterprise_id, alert_event_id, alert_id, limit_id, subject_id, feature_name, scope, role_name, window_type,
                       window_start, window_end, severity, threshold, limit_value, used)
            ON CONFLICT (enterprise_id, alert_id, limit_id, subject_id, window_start) DO NOTHING
        RETURNING alert_event_id
        """;

    private const string Raise = """
        UPDATE alert_events AS a
           SET severity = 'HIGH', raised_at = $7, used = due.used, limit_value = due.limit_value
          FROM unnest($1, $2, $3, $4, $5, $6, $8, $9)
               AS due (enterprise_id, alert_id, limit_id, subject_id, window_start, used, limit_value, place)
         WHERE a.enterprise_id = due.enterprise_id AND a.alert_id = due.alert_id AND a.limit_id = due.limit_id
           AND a.subject_id = due.subject_id AND a.window_start = due.window_start
           AND a.severity = 'LOW'
        RETURNING due.place, a.alert_event_id
        """;

    /// <summary>The statements that open and raise what is due; <see cref="ReadAsync"/> reads their results.</summary>
    public List<NpgsqlBatchCommand> Statements(List<DueAlert> due, DateTime now)
    {
        _telling = due;
        _ids = due.ConvertAll(_ => Guid.CreateVersion7(now));
        if (due.Count == 0)
        {
            return [];
        }

        var commands = new List<NpgsqlBatchCommand>
        {
            new(Open)
            {
                Parameters =
                {
                    Columns.Of(due, alert => alert.Enterprise.Id),
                    new NpgsqlParameter<Guid[]> { TypedValue = [.. _ids] },
                    Columns.Of(due, alert => alert.Key.AlertId),
                    Columns.Of(due, alert => alert.Key.LimitId),
                    Columns.Of(due, alert => alert.Key.SubjectId),
                    Columns.Of(due, alert => alert.Meter.FeatureName),
                    Columns.Of(due, alert => alert.Meter.Scope.Word()),
                    Columns.Of(due, alert => alert.Meter.RoleName),
                    Columns.Of(due, alert => alert.Meter.Window.Word()),
                    Columns.Of(due, alert => alert.Key.WindowStart),
                    Columns.Of(due, alert => alert.WindowEnd),
                    Columns.Of(due, alert => alert.Severity),
                    Columns.Of(due, alert => alert.Threshold),
                    Columns.Of(due, alert => alert.Limit?.LimitValue),
                    Columns.Of(due, alert => alert.Used),
                    Columns.Value(now),
                },
            },
        };
        List<int> high = [.. Enumerable.Range(0, due.Count).Where(place => due[place].IsLimitReached)];
        if (high.Count > 0)
        {
            commands.Add(
                new NpgsqlBatchCommand(Raise)
                {
                    Parameters =
                    {
                        Columns.Of(high, place => due[place].Enterprise.Id),
                        Columns.Of(high, place => due[place].Key.AlertId),
                        Columns.Of(high, place => due[place].Key.LimitId),
                        Columns.Of(high, place => due[place].Key.SubjectId),
                        Columns.Of(high, place => due[place].Key.WindowStart),
                        Columns.Of(high, place => due[place].Used),
                        Columns.Value(now),
                        Columns.Of(high, place => due[place].Limit?.LimitValue),
                        new NpgsqlParameter<int[]> { TypedValue = [.. high] },
                    },
                }
            );
        }

        return commands;
    }

    /// <summary>Reads what <see cref="Statements"/> did.</summary>
    /// <param name="reader">At the result of the first of them.</param>
    /// <param name="names">What subjects are called.</param>
    /// <param name="now">The step's.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>The deliveries to write.</returns>
    public async Task<List<NewDelivery>> ReadAsync(
        NpgsqlDataReader reader,
        SubjectNames names,
        DateTime now,
        CancellationToken cancellationToken
    )
    {
        var deliveries = new List<NewDelivery>();
        var places = new Dictionary<Guid, int>(_ids.Count);
        for (int place = 0; place < _ids.Count; place++)
        {
            places[_ids[place]] = place;
        }

        while (await reader.ReadAsync(cancellationToken))
        {
            Guid alertEventId = reader.GetGuid(0);
            Tell(_telling[places[alertEventId]], alertEventId, NewDelivery.Opened);
        }

        if (await reader.NextResultAsync(cancellationToken))
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                Tell(_telling[reader.GetInt32(0)], reader.GetGuid(1), NewDelivery.Raised);
            }
        }

        return deliveries;

        void Tell(DueAlert alert, Guid alertEventId, string cause)
        {
            AlertNotice notice = NoticeOf(alert, alertEventId, names, now);
            deliveries.AddRange(
                alert.Rule.Recipients.Select(recipient => new NewDelivery(
                    alert.Enterprise.Enterprise,
                    alert.Rule.Channel,
                    recipient,
                    notice,
                    cause
                ))
            );
        }
    }

    /// <summary>The step has committed: what it told stands.</summary>
    public void Remember()
    {
        if (_told.Count > RememberedAlertsMax)
        {
            _told.Clear();
        }

        foreach (DueAlert alert in _telling)
        {
            ref bool isHigh = ref CollectionsMarshal.GetValueRefOrAddDefault(_told, alert.Key, out _);
            isHigh |= alert.IsLimitReached;
        }

        _telling = [];
    }

    private static AlertNotice NoticeOf(DueAlert alert, Guid alertEventId, SubjectNames names, DateTime now) =>
        new(
            alertEventId,
            AlertNotice.Limit,
            alert.Severity,
            alert.Meter.FeatureName,
            alert.Meter.Scope.Word(),
            names.Of(alert.Enterprise, alert.Meter, alert.Key.SubjectId),
            alert.Meter.Window.Word(),
            alert.Key.WindowStart,
            alert.WindowEnd,
            alert.Threshold,
            alert.Rule.ThresholdPct,
            alert.Limit?.LimitValue,
            alert.Limit?.Action == LimitAction.Block,
            alert.Used,
            alert.FirstAt,
            now
        );
}
