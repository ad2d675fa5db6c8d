using Scalar.AspNetCore;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway;

/// <summary>The contract at <c>/openapi/v1.json</c> and the page that browses it at <c>/docs</c>.</summary>
internal static class OpenApiDocument
{
    public const string Name = "v1";

    public static IServiceCollection AddOpenApiDocument(this IServiceCollection services) =>
        services.AddOpenApi(
            Name,
            options =>
                options.AddDocumentTransformer(
                    (document, _, _) =>
                    {
                        document.Info.Title = "Usage Monitor";
                        document.Info.Version = "v1";
                        document.Info.Description =
                            "Send usage events, read dashboards, manage enterprises and keys. Every call but sign-in carries `Authorization: Bearer <token or API key>`. "
                            + "Errors are RFC 9457 problem details with a stable `code`.";
                        document.Servers?.Clear();
                        return Task.CompletedTask;
                    }
                )
        );

    public static void MapOpenApiDocument(this IEndpointRouteBuilder routes)
    {
        routes.MapOpenApi("/openapi/{documentName}.json").RequirePermission(Permissions.Anonymous);
        routes
            .MapScalarApiReference(
                "/docs",
                options => options.WithTitle("Usage Monitor API").DisableDefaultFonts().DisableTelemetry()
            )
            .RequirePermission(Permissions.Anonymous);
    }
}
