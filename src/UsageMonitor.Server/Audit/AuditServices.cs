namespace UsageMonitor.Server.Audit;

internal static class AuditServices
{
    /// <summary>Reading, checking and exporting of the audit log, for every role.</summary>
    public static IServiceCollection AddAudit(this IServiceCollection services) =>
        services.AddSingleton<AuditCheckpoints>().AddSingleton<AuditExport>().AddSingleton<DestinationWriter>();

    /// <summary>What goes on by itself, for the role that processes.</summary>
    public static IServiceCollection AddAuditWork(this IServiceCollection services) =>
        services
            .AddSingleton<SyslogConnection>()
            .AddHostedService<CheckpointService>()
            .AddHostedService<AuditStreaming>();
}
