using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Alerts;

/// <summary><c>/v1/dashboard/alerts</c>: what was told, to whom, and whether it arrived.</summary>
internal static class AlertDashboardEndpoints
{
    public static void MapAlertDashboard(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/dashboard/alerts").WithTags("Alerts");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.AlertsRead)
            .WithName("ListAlertEvents")
            .WithSummary("Alerts, the newest first, with the states of their deliveries")
            .Produces<AlertEventListResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/{alertEventId:guid}", GetAsync)
            .RequirePermission(Permissions.AlertsRead)
            .WithName("GetAlertEvent")
            .WithSummary("An alert with each attempt to deliver it")
            .Produces<AlertEventResponse>()
            .ProducesProblem(404);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        AlertEventReader reader,
        string? open,
        string? severity,
        string? feature,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    ) =>
        Read(open, severity, feature, out AlertEventFilter filter)
        ?? PageQuery.Read("before", before, limit, out PageQuery page)
        ?? Results.Ok(await reader.ListAsync(context.GetCaller(), filter, page.Beyond, page.Limit, cancellationToken));

    private static async Task<IResult> GetAsync(
        Guid alertEventId,
        HttpContext context,
        AlertEventReader reader,
        CancellationToken cancellationToken
    ) =>
        await reader.FindAsync(context.GetCaller(), alertEventId, cancellationToken) is { } alert
            ? Results.Ok(alert)
            : Problems.Problem(404, "not_found", "Your enterprise has no such alert.");

    /// <returns>The problem to answer instead, or null.</returns>
    internal static IResult? Read(string? open, string? severity, string? feature, out AlertEventFilter filter)
    {
        filter = new AlertEventFilter(
            string.IsNullOrEmpty(open) ? null : open == "true",
            string.IsNullOrEmpty(severity) ? null : severity,
            string.IsNullOrEmpty(feature) ? null : feature
        );
        return open is not (null or "" or "true" or "false")
                ? Problems.Problem(400, "invalid_request", "open: must be true or false.")
            : filter.Severity is not (null or AlertNotice.Low or AlertNotice.High)
                ? Problems.Problem(400, "invalid_request", "severity: must be LOW or HIGH.")
            : filter.FeatureName is { } name && EventText.Fault(name, EventText.NameCharactersMax + 1) is { } fault
                ? Problems.Problem(400, "invalid_request", $"feature: {fault}.")
            : null;
    }
}
