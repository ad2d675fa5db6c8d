namespace UsageMonitor.Server.Archive.Retention;

/// <summary>A table whose rows grow old.</summary>
/// <param name="Name">The table.</param>
/// <param name="TimeColumn">By which a row's age is told.</param>
/// <param name="IsMonthly">Partitioned by that column, by month.</param>
internal sealed record AgingTable(string Name, string TimeColumn, bool IsMonthly = true)
{
    /// <summary>What more a row must be to be deleted: SQL of ours, the table's alias is <c>kept</c>.</summary>
    public string Condition { get; init; } = "true";

    /// <summary>Days kept, the same for everybody; null: the class's, of each enterprise.</summary>
    public int? FixedDays { get; init; }
}

/// <summary>What is kept how long: the one list of it.</summary>
internal static class RetentionClasses
{
    public const string Events = "EVENTS";
    public const string UserAggregates = "USER_AGGREGATES";
    public const string Aggregates = "AGGREGATES";
    public const string Audit = "AUDIT";
    public const string Decisions = "DECISIONS";

    /// <summary>What serves no one for long, and is nobody's to decide.</summary>
    public const string Operational = "OPERATIONAL";

    private const int ExpectationsDays = 100;
    private const int DeliveriesDays = 100;

    /// <summary>The longest window of a limit and a month more: counting anew looks at nothing older.</summary>
    private const int ReservationsDays = 62;

    /// <summary>
    /// Who was active on a day, one by one, goes with the users' aggregates: such days have no numbers of active users any more.
    /// </summary>
    public static readonly IReadOnlyList<(string Class, AgingTable Table)> Tables =
    [
        (Events, new AgingTable("usage_events", "event_timestamp")),
        (UserAggregates, new AgingTable("user_usage_aggregates", "time_bucket")),
        (UserAggregates, new AgingTable("active_user_sets", "time_bucket")),
        (Aggregates, new AgingTable("usage_aggregates", "time_bucket")),
        (Aggregates, new AgingTable("usage_ledger", "time_bucket")),
        (Aggregates, new AgingTable("usage_restatements", "day_start", IsMonthly: false)),
        (Decisions, new AgingTable("decisions", "decided_at")),
        (Operational, new AgingTable("anomaly_expectations", "time_bucket") { FixedDays = ExpectationsDays }),
        (
            Operational,
            new AgingTable("alert_delivery_attempts", "started_at", IsMonthly: false) { FixedDays = DeliveriesDays }
        ),
        (
            Operational,
            new AgingTable("alert_deliveries", "created_at", IsMonthly: false)
            {
                FixedDays = DeliveriesDays,
                Condition = "kept.next_attempt_at IS NULL",
            }
        ),
        (
            Operational,
            new AgingTable("usage_reservations", "created_at", IsMonthly: false)
            {
                FixedDays = ReservationsDays,
                Condition = "kept.expires_at < now()",
            }
        ),
    ];

    /// <summary>The classes that an enterprise decides on.</summary>
    public static readonly string[] Own = [Events, UserAggregates, Aggregates, Audit, Decisions];
}
