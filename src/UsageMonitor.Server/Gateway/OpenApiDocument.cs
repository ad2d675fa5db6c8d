using System.Text.Json.Serialization;
using Microsoft.OpenApi;
using Scalar.AspNetCore;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway;

/// <summary>
/// The contract at <c>/openapi/v1.json</c> and the page that browses it at <c>/docs</c>. <c>api/openapi.json</c> is a
/// snapshot of it that a test holds it to.
/// </summary>
internal static class OpenApiDocument
{
    public const string Name = "v1";

    private static readonly (string Name, string Description)[] s_tags =
    [
        ("Auth", "Sign in, refresh and check tokens; invitations and forgotten passwords."),
        ("Own account", "One's own name, password, second factors and sessions."),
        ("Platform", "What the platform's operator does: enterprises and keys."),
        ("People", "Who signs in, what they may do, and their sessions."),
        ("Roles", "Built-in and own roles, made of permissions."),
        ("Groups", "Groups of people, and the roles they give."),
        ("Security settings", "What an enterprise asks of those who sign in."),
        ("Single sign-on", "The enterprise's own OpenID Connect providers."),
        ("Provisioning", "SCIM 2.0 (RFC 7644): people and groups, kept by the enterprise's directory."),
        ("API keys", "The keys with which an enterprise's programs call."),
        ("Policies", "Who may use which feature when, and what was refused."),
        ("Usage", "Send usage events, and ask whether a user may use a feature."),
        (
            "Dashboard",
            "Numbers of ranges of local days: `from` inclusive, `to` exclusive, in the enterprise's time zone."
        ),
        ("Ledger", "What was received, and what became of it."),
        ("Health", "For load balancers and operators."),
    ];

    public static IServiceCollection AddOpenApiDocument(this IServiceCollection services)
    {
        // A number is a number, never a text of one; otherwise the contract would have to say "integer or string".
        services.ConfigureHttpJsonOptions(json => json.SerializerOptions.NumberHandling = JsonNumberHandling.Strict);
        return services.AddOpenApi(
            Name,
            options =>
                options
                    .AddDocumentTransformer((document, _, _) => DescribeAsync(document))
                    .AddOperationTransformer(OpenApiGuard.DescribeAsync)
                    .AddSchemaTransformer(OpenApiSchemas.MendAsync)
        );
    }

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

    private static Task DescribeAsync(Microsoft.OpenApi.OpenApiDocument document)
    {
        document.Info.Title = "Usage Monitor";
        document.Info.Version = Name;
        document.Info.License = new OpenApiLicense { Name = "Apache-2.0", Identifier = "Apache-2.0" };
        document.Info.Description =
            "Send usage events, read dashboards, manage enterprises and keys. Every call but sign-in carries "
            + "`Authorization: Bearer <access token or API key>`. Errors are RFC 9457 problem details "
            + "(`application/problem+json`) with a stable `code` for programs and a `detail` for people.";
        document.Servers?.Clear();
        document.Components ??= new OpenApiComponents();
        document.Components.SecuritySchemes ??= new Dictionary<string, IOpenApiSecurityScheme>();
        document.Components.SecuritySchemes[OpenApiGuard.Scheme] = new OpenApiSecurityScheme
        {
            Type = SecuritySchemeType.Http,
            Scheme = "bearer",
            Description =
                "An access token of a person (`POST /v1/auth/login`, good for 15 minutes) or an API key "
                + "(`POST /v1/admin/api-keys`, good until it is revoked).",
        };
        var used = document.Tags?.Select(tag => tag.Name).ToHashSet(StringComparer.Ordinal) ?? [];
        var described = s_tags
            .Where(tag => used.Contains(tag.Name))
            .Select(tag => new OpenApiTag { Name = tag.Name, Description = tag.Description });
        document.Tags = described.ToHashSet();
        return Task.CompletedTask;
    }
}
