namespace UsageMonitor.Contracts;

/// <summary>Body of <c>PUT /v1/admin/privacy/retention</c>. Days are whole local days; null keeps for ever.</summary>
/// <param name="Archive">Finished days are archived, and no event is deleted before it is.</param>
/// <param name="EventsDays">Events, live and archived.</param>
/// <param name="UserAggregatesDays">What each user used a day, and who was active.</param>
/// <param name="AggregatesDays">Usage by hour and day, and the ledger; no shorter than the events.</param>
/// <param name="AuditDays">The audit log.</param>
/// <param name="DecisionsDays">What was refused.</param>
/// <param name="LegalHold">True: nothing is deleted, whatever the days say.</param>
/// <param name="LegalHoldReason">Why; needed with the hold.</param>
public sealed record RetentionRequest(
    bool? Archive,
    int? EventsDays,
    int? UserAggregatesDays,
    int? AggregatesDays,
    int? AuditDays,
    int? DecisionsDays,
    bool? LegalHold,
    string? LegalHoldReason
);

/// <summary><c>GET /v1/admin/privacy/retention</c>.</summary>
/// <param name="Archive">Finished days are archived, and no event is deleted before it is.</param>
/// <param name="ArchiveAfterDays">How long after its end a day is archived.</param>
/// <param name="LegalHold">Nothing is deleted.</param>
/// <param name="LegalHoldReason">Why.</param>
/// <param name="LegalHoldBy">Who said so.</param>
/// <param name="LegalHoldAt">When.</param>
/// <param name="Classes">What is kept how long, and what is left.</param>
/// <param name="ArchivedEvents">Events in the archive.</param>
/// <param name="ArchivedBytes">… and the bytes of their files.</param>
/// <param name="ArchivedFrom">The first archived day.</param>
/// <param name="ArchivedThrough">The last.</param>
public sealed record RetentionResponse(
    bool Archive,
    int ArchiveAfterDays,
    bool LegalHold,
    string? LegalHoldReason,
    Guid? LegalHoldBy,
    DateTimeOffset? LegalHoldAt,
    IReadOnlyList<RetentionClass> Classes,
    long ArchivedEvents,
    long ArchivedBytes,
    DateOnly? ArchivedFrom,
    DateOnly? ArchivedThrough
);

/// <summary>A class of data.</summary>
/// <param name="DataClass"><c>EVENTS</c>, <c>USER_AGGREGATES</c>, <c>AGGREGATES</c>, <c>AUDIT</c> or <c>DECISIONS</c>.</param>
/// <param name="Days">How long it is kept; null: for ever.</param>
/// <param name="OldestKept">Nothing from before this is left; null: nothing was ever deleted.</param>
/// <param name="DeletedRows">Rows deleted so far: the sum of the runs.</param>
/// <param name="LastRunAt">When something was deleted last.</param>
public sealed record RetentionClass(
    string DataClass,
    int? Days,
    DateTimeOffset? OldestKept,
    long DeletedRows,
    DateTimeOffset? LastRunAt
);

/// <summary><c>GET /v1/admin/privacy/retention/runs</c>: what was deleted when, the newest first.</summary>
public sealed record RetentionRunsResponse(IReadOnlyList<RetentionRunSummary> Runs, Guid? Next);

/// <summary>A deletion.</summary>
/// <param name="RunId">UUIDv7.</param>
/// <param name="DataClass">Of which class.</param>
/// <param name="Table">From where; <c>archive_files</c>: files of the archive with their events.</param>
/// <param name="DeletedBefore">Everything from before this.</param>
/// <param name="DeletedRows">How many.</param>
/// <param name="DeletedBytes">Bytes of files.</param>
/// <param name="WholePartition">Together with everybody else's of the month.</param>
/// <param name="RanAt">When.</param>
public sealed record RetentionRunSummary(
    Guid RunId,
    string DataClass,
    string Table,
    DateTimeOffset DeletedBefore,
    long DeletedRows,
    long DeletedBytes,
    bool WholePartition,
    DateTimeOffset RanAt
);
