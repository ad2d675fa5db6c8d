using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Platform.Auditing
{
    /// <summary>An endpoint that changes things and yet is no act, with the reason.</summary>
    /// <param name="Reason">Why.</param>
    /// <param name="HasScope">Whether it may write entries of its own; without, it costs nothing.</param>
    internal sealed record NotAuditedMetadata(string Reason, bool HasScope);

    /// <summary>An endpoint that shows something whose every reading is audited.</summary>
    internal sealed record AuditedReadMetadata(string Action, string TargetKind);
}

namespace UsageMonitor.Server.Platform
{
    internal static class AuditMetadataExtensions
    {
        /// <summary>Calls of the endpoint leave no entry.</summary>
        /// <param name="builder">The endpoint, which takes a method that changes things.</param>
        /// <param name="reason">Why not.</param>
        /// <param name="hasScope">Whether what it does may write entries all the same.</param>
        public static TBuilder NotAudited<TBuilder>(this TBuilder builder, string reason, bool hasScope = true)
            where TBuilder : IEndpointConventionBuilder =>
            builder.WithMetadata(new NotAuditedMetadata(reason, hasScope));

        /// <summary>Every call of the endpoint leaves an entry, before it answers.</summary>
        public static TBuilder AuditedRead<TBuilder>(this TBuilder builder, string action, string targetKind)
            where TBuilder : IEndpointConventionBuilder =>
            builder.WithMetadata(new AuditedReadMetadata(action, targetKind));

        /// <summary>Adds what an act in this transaction leaves in the audit log; it is written when the transaction commits.</summary>
        public static void Audit(
            this ScopedTransaction own,
            string action,
            string targetKind,
            object? targetId,
            object? before = null,
            object? after = null
        ) => own.Audit(new AuditEntry(action, targetKind, targetId?.ToString()) { Before = before, After = after });
    }
}
