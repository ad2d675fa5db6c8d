using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Ingestion.Admission;
using UsageMonitor.Server.Ingestion.Admission.Reservations;
using UsageMonitor.Server.Ingestion.PropertyRules;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion;

internal static class IngestionServices
{
    public static IServiceCollection AddIngestion(this IServiceCollection services) =>
        services
            .AddSingleton<Backlog>()
            .AddHostedService(provider => provider.GetRequiredService<Backlog>())
            .AddSingleton<EventAdmission>()
            .AddSingleton<Reserving>()
            .AddSingleton<ReservationSweep>()
            .AddHostedService(provider => provider.GetRequiredService<ReservationSweep>())
            .AddSingleton<GroupCommit>()
            .AddHostedService(provider => provider.GetRequiredService<GroupCommit>());

    /// <summary>What counts on limits, and what admins do with events; in every process, as the log is.</summary>
    public static IServiceCollection AddAdmission(this IServiceCollection services) =>
        services
            .AddSingleton<LogTail>()
            .AddSingleton<CounterBase>()
            .AddSingleton<CounterStore>()
            .AddSingleton<LimitCounters>()
            .AddSingleton<Reclassifying>()
            .AddSingleton<PropertyRuleSets>()
            .AddSingleton<PropertyRuleWriter>();

    /// <summary><c>GET /health/pipeline</c>: how far processing is behind, for the operator.</summary>
    public static void MapPipelineHealth(this IEndpointRouteBuilder routes) =>
        routes
            .MapGet(
                "/health/pipeline",
                async ([FromServices] Backlog backlog, CancellationToken cancellationToken) =>
                    TypedResults.Ok(await backlog.ReadAsync(cancellationToken))
            )
            .WithTags("Health")
            .WithName("GetPipelineHealth")
            .WithSummary("Events ever appended to the log and ever processed")
            .RequirePermission(Permissions.EnterprisesWrite);
}
