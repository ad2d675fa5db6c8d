namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>Who did something. People are told by their internal id alone, so that whoever is erased leaves a pseudonym.</summary>
/// <param name="Kind"><c>USER</c>, <c>API_KEY</c>, <c>SYSTEM</c> or <c>ANONYMOUS</c>.</param>
/// <param name="Id">The person's or the key's; null for the others.</param>
internal sealed record AuditActor(string Kind, Guid? Id)
{
    public static readonly AuditActor System = new("SYSTEM", null);
    public static readonly AuditActor Anonymous = new("ANONYMOUS", null);

    public static AuditActor User(Guid userId) => new("USER", userId);

    public static AuditActor Of(Caller caller) =>
        caller.UserId is { } userId ? User(userId)
        : caller.ApiKeyId is { } apiKeyId ? new("API_KEY", apiKeyId)
        : System;
}

/// <summary>What an act leaves in the audit log.</summary>
/// <param name="Action">What was done, as <c>api_key.created</c>.</param>
/// <param name="TargetKind">What it was done to, as <c>api_key</c>.</param>
/// <param name="TargetId">Which of them; never an address or a name of a person.</param>
internal sealed record AuditEntry(string Action, string? TargetKind = null, string? TargetId = null)
{
    public const string Done = "DONE";
    public const string Failed = "FAILED";
    public const string Refused = "REFUSED";

    /// <summary>How it ended.</summary>
    public string Outcome { get; init; } = Done;

    /// <summary>Who; null: whoever calls.</summary>
    public AuditActor? Actor { get; init; }

    /// <summary>What it was before; members whose names tell that they are secret or personal are masked.</summary>
    public object? Before { get; init; }

    /// <summary>What it is afterwards, or what else is to be known; masked like <see cref="Before"/>.</summary>
    public object? After { get; init; }
}
