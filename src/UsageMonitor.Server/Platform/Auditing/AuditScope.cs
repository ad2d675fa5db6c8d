namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>
/// On whose behalf acts are done just now. Within it every transaction that commits a change leaves an entry: those that it was
/// told, or one that says as much as the scope knows. So an act that forgets its entry has one all the same.
/// </summary>
internal sealed class AuditScope(AuditTrail trail, AuditActor actor)
{
    private static readonly AsyncLocal<AuditScope?> s_current = new();

    /// <summary>The scope of the running request or job, or null: what is done is no act.</summary>
    public static AuditScope? Current
    {
        get => s_current.Value;
        set => s_current.Value = value;
    }

    public AuditTrail Trail { get; } = trail;

    public AuditActor Actor { get; } = actor;

    /// <summary>From where.</summary>
    public string? Address { get; init; }

    public string? RequestId { get; init; }

    /// <summary>What to write for a transaction that changed something and said nothing.</summary>
    public AuditEntry? Otherwise { get; init; }

    /// <summary>Something of this scope has been committed with its entry.</summary>
    public bool HasEntry { get; set; }

    /// <summary>A scope of the server's own acts, until disposed.</summary>
    public static IDisposable OfSystem(AuditTrail trail)
    {
        var before = new Restoring(Current);
        Current = new AuditScope(trail, AuditActor.System);
        return before;
    }

    private sealed class Restoring(AuditScope? before) : IDisposable
    {
        public void Dispose() => Current = before;
    }
}
