using System.Text.Json.Nodes;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary>What the parameters of the dashboard's operations may be.</summary>
internal static class DashboardContract
{
    public static Task DescribeAsync(
        OpenApiOperation operation,
        OpenApiOperationTransformerContext context,
        CancellationToken cancellationToken
    )
    {
        foreach (OpenApiParameter parameter in (operation.Parameters ?? []).OfType<OpenApiParameter>())
        {
            (string? description, OpenApiSchema? schema) = parameter.Name switch
            {
                "from" => ("The first local day; 30 days before `to` unless given.", Date()),
                "to" => ("The local day after the last; tomorrow unless given.", Date()),
                "interval" => (
                    $"How wide a bucket is. By the hour a range may have {LocalDays.HourlyDaysMax} days.",
                    new OpenApiSchema
                    {
                        Type = JsonSchemaType.String,
                        Enum = [.. Buckets.Intervals.Select(interval => JsonValue.Create(interval))],
                        Default = JsonValue.Create(Buckets.Day),
                    }
                ),
                "feature" => ("Only this feature; all unless given.", null),
                "userId" => ("The user as the events name them: a UUID or the enterprise's own id.", null),
                _ => ((string?)null, (OpenApiSchema?)null),
            };
            parameter.Description ??= description;
            parameter.Schema = schema ?? parameter.Schema;
        }

        if (
            operation.Responses?.GetValueOrDefault("200")?.Content is { } content
            && content.TryGetValue("text/event-stream", out OpenApiMediaType? stream)
        )
        {
            stream.Schema = new OpenApiSchema
            {
                Type = JsonSchemaType.String,
                Description =
                    "Events `hello` (at once), `usage` (new numbers) and `heartbeat` (nothing new for a while), each with the data "
                    + "`{\"asOf\": instant}`. The stream ends after a while; open it again, as browsers do by themselves.",
            };
        }

        return Task.CompletedTask;
    }

    private static OpenApiSchema Date() => new() { Type = JsonSchemaType.String, Format = "date" };
}
