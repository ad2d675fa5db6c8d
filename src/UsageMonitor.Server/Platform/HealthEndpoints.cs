using Microsoft.AspNetCore.Mvc;
using Npgsql;
using StackExchange.Redis;

namespace UsageMonitor.Server.Platform;

/// <summary><c>/health/live</c>: the process answers. <c>/health/ready</c>: so do PostgreSQL and Redis.</summary>
internal static class HealthEndpoints
{
    private static readonly TimeSpan CheckTimeMax = TimeSpan.FromSeconds(3);

    private sealed record Liveness(string Status);

    private sealed record Readiness(string Status, string Postgres, string Redis);

    public static void MapHealth(this IEndpointRouteBuilder routes)
    {
        routes
            .MapGet("/health/live", () => TypedResults.Ok(new Liveness("live")))
            .WithTags("Health")
            .WithName("GetLiveness")
            .WithSummary("200 while the process answers")
            .RequirePermission(Permissions.Anonymous);
        routes
            .MapGet("/health/ready", ReadyAsync)
            .WithTags("Health")
            .WithName("GetReadiness")
            .Produces<Readiness>()
            .ProducesProblem(StatusCodes.Status503ServiceUnavailable)
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

        return TypedResults.Ok(new Readiness("ready", Postgres: "up", Redis: redis.IsConnected ? "up" : "down"));
    }
}
