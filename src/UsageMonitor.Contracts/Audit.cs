using System.Text.Json;

namespace UsageMonitor.Contracts;

/// <summary>An entry of the audit log.</summary>
/// <param name="Sequence">1, 2, … in the enterprise's chain, without a gap.</param>
/// <param name="OccurredAt">When.</param>
/// <param name="Action">What was done, as <c>api_key.created</c>.</param>
/// <param name="Outcome"><c>DONE</c>, <c>FAILED</c> or <c>REFUSED</c>.</param>
/// <param name="ActorKind"><c>USER</c>, <c>API_KEY</c>, <c>SYSTEM</c> or <c>ANONYMOUS</c>.</param>
/// <param name="ActorId">The person's or the key's id.</param>
/// <param name="TargetKind">What it was done to.</param>
/// <param name="TargetId">Which of them.</param>
/// <param name="RequestId">The request's id.</param>
/// <param name="TraceId">The trace's id.</param>
/// <param name="PreviousHash">Of the entry before, hexadecimal.</param>
/// <param name="Hash">SHA-256 of the previous hash and this entry, hexadecimal.</param>
/// <param name="Content">
/// <c>address</c>, <c>before</c> and <c>after</c>, with secrets masked; null when the key that sealed it was destroyed.
/// </param>
public sealed record AuditEntryResponse(
    long Sequence,
    DateTimeOffset OccurredAt,
    string Action,
    string Outcome,
    string ActorKind,
    Guid? ActorId,
    string? TargetKind,
    string? TargetId,
    string? RequestId,
    string? TraceId,
    string PreviousHash,
    string Hash,
    JsonElement? Content
);

/// <summary>A page of the audit log, the newest first.</summary>
/// <param name="Entries">The entries.</param>
/// <param name="Next">What to give as <c>before</c> for the next page, or null.</param>
public sealed record AuditListResponse(IReadOnlyList<AuditEntryResponse> Entries, long? Next);

/// <summary>A signed statement of how far the chain went.</summary>
/// <param name="Sequence">The last entry.</param>
/// <param name="Hash">Its hash, hexadecimal.</param>
/// <param name="SignedAt">When.</param>
/// <param name="KeyId">By which key; see <c>/v1/audit/keys</c>.</param>
/// <param name="Jws">JWS in compact form, ES256.</param>
public sealed record AuditCheckpointResponse(
    long Sequence,
    string Hash,
    DateTimeOffset SignedAt,
    string KeyId,
    string Jws
);

/// <summary>A page of checkpoints, the newest first.</summary>
/// <param name="Checkpoints">The checkpoints.</param>
/// <param name="Next">What to give as <c>before</c> for the next page, or null.</param>
public sealed record AuditCheckpointListResponse(IReadOnlyList<AuditCheckpointResponse> Checkpoints, long? Next);

/// <summary>The public keys of checkpoints, as a JSON Web Key Set (RFC 7517).</summary>
/// <param name="Keys">JSON Web Keys, those that sign no more too.</param>
public sealed record AuditKeysResponse(IReadOnlyList<JsonElement> Keys);

/// <summary>Which part of the chain is to be checked.</summary>
/// <param name="FromSequence">The first entry; 1 when left out.</param>
/// <param name="ToSequence">The last entry; as far as one request goes when left out.</param>
public sealed record AuditVerifyRequest(long? FromSequence = null, long? ToSequence = null);

/// <summary>What the check has found.</summary>
/// <param name="IsWhole">Nothing is wrong in what was checked.</param>
/// <param name="Entries">How many entries were checked.</param>
/// <param name="FirstSequence">The first of them, or 0.</param>
/// <param name="LastSequence">The last of them, or 0.</param>
/// <param name="AnchoredTo">The newest of them that a checkpoint confirms, or 0.</param>
/// <param name="Fault">The first thing that is wrong, or null.</param>
/// <param name="NextSequence">Where to go on, or null: everything there is was checked.</param>
public sealed record AuditVerifyResponse(
    bool IsWhole,
    long Entries,
    long FirstSequence,
    long LastSequence,
    long AnchoredTo,
    AuditFaultResponse? Fault,
    long? NextSequence
);

/// <summary>The first thing that is wrong with the chain.</summary>
/// <param name="Kind"><c>ALTERED</c>, <c>REMOVED</c>, <c>INSERTED</c>, <c>REORDERED</c> or <c>REWRITTEN</c>.</param>
/// <param name="Sequence">Of the first entry that is not what it was.</param>
/// <param name="Detail">In words.</param>
public sealed record AuditFaultResponse(string Kind, long Sequence, string Detail);

/// <summary>Where the audit log is to be streamed to.</summary>
/// <param name="Name">For people.</param>
/// <param name="Kind"><c>WEBHOOK</c> or <c>SYSLOG</c> (RFC 5424 over TLS).</param>
/// <param name="Address">A webhook's https address, or a syslog receiver's <c>host:port</c>.</param>
/// <param name="Status"><c>ACTIVE</c> (the default) or <c>INACTIVE</c>.</param>
/// <param name="Certificate">SYSLOG: PEM of the authority its certificate must come from; left out: the system's.</param>
public sealed record AuditDestinationRequest(
    string? Name,
    string? Kind,
    string? Address,
    string? Status = null,
    string? Certificate = null
);

/// <summary>Where the audit log is streamed to.</summary>
/// <param name="DestinationId">The destination.</param>
/// <param name="Name">For people.</param>
/// <param name="Kind"><c>WEBHOOK</c> or <c>SYSLOG</c>.</param>
/// <param name="Address">Without what may be secret in it.</param>
/// <param name="Status"><c>ACTIVE</c> or <c>INACTIVE</c>.</param>
/// <param name="CursorSequence">The last entry it has taken.</param>
/// <param name="Failures">Attempts in a row that it did not take.</param>
/// <param name="LastError">Why not.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="UpdatedAt">When it was changed.</param>
public sealed record AuditDestinationResponse(
    Guid DestinationId,
    string Name,
    string Kind,
    string? Address,
    string Status,
    long CursorSequence,
    int Failures,
    string? LastError,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary>A destination that was just made.</summary>
/// <param name="Destination">The destination.</param>
/// <param name="Secret">Signs what a webhook is sent (Standard Webhooks); shown this once. Null of a syslog receiver.</param>
public sealed record AuditDestinationSecretResponse(AuditDestinationResponse Destination, string? Secret);

/// <summary>The destinations as they were made; there are few.</summary>
/// <param name="Destinations">The destinations.</param>
public sealed record AuditDestinationListResponse(IReadOnlyList<AuditDestinationResponse> Destinations);

/// <summary>From where on a destination is to be sent everything again.</summary>
/// <param name="FromSequence">The first entry.</param>
public sealed record AuditReplayRequest(long FromSequence);
