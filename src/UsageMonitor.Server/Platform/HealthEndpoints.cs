using Microsoft.AspNetCore.Mvc;
using Npgsql;
using StackExchange.Redis;

namespace UsageMonitor.Server.Platform;

/// <summary><c>/health/live</c>: the process answers. <c>/health/ready</c>: so do PostgreSQL and Redis.</summary>
internal static class HealthEndpoints
{
    private static readonly TimeSpan CheckTimeMax = TimeSpan.FromSeconds(3);

    public static void MapHealth(this IEndpointRouteBuilder routes)
    {
        routes
            .MapGet("/health/live", () => TypedResults.Ok(new { status = "live" }))
            .WithTags("Health")
            .RequirePermission(Permissions.Anonymous);
        routes
            .MapGet("/health/ready", ReadyAsync)
            .WithTags("Health")
            .WithSummary("200 when requests can be served; Redis may be away, dashboards are then slower")
            .RequirePermission(Permissions.Anonymous);
    }

    private static async Task<IResult> ReadyAsync(
        [FromServices] Database database,
        [FromServices] IConnectionMultiplexer redis,
        CancellationToken cancellationToken
    )
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(CheckTimeMax);
        try
        {
            await using NpgsqlCommand command = database.App.CreateCommand("SELECT 1");
            await command.ExecuteScalarAsync(deadline.Token);
        }
        catch (Exception exception) when (exception is NpgsqlException or OperationCanceledException)
        {
            return Problems.Problem(
                StatusCodes.Status503ServiceUnavailable,
                "not_ready",
                "PostgreSQL does not answer."
            );
        }

        return TypedResults.Ok(
            new
            {
                status = "ready",
                postgres = "up",
                redis = redis.IsConnected ? "up" : "down",
            }
        );
    }
}
