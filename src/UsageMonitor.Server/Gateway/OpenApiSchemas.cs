using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;

namespace UsageMonitor.Server.Gateway;

/// <summary>Says in schemas what the types behind them do not.</summary>
internal static class OpenApiSchemas
{
    public static Task MendAsync(
        OpenApiSchema schema,
        OpenApiSchemaTransformerContext context,
        CancellationToken cancellationToken
    )
    {
        Type type = context.JsonTypeInfo.Type;
        if (type == typeof(ProblemDetails))
        {
            schema.Description = "RFC 9457 problem details.";
            schema.Properties ??= new Dictionary<string, IOpenApiSchema>();
            schema.Properties.Remove("instance");
            schema.Properties["code"] = new OpenApiSchema
            {
                Type = JsonSchemaType.String,
                Description = "What programs compare: stable, in snake_case.",
            };
            schema.Required = new HashSet<string> { "status", "code", "detail" };
            foreach ((string name, IOpenApiSchema property) in schema.Properties)
            {
                NotNull(property);
                property.Description ??= name switch
                {
                    "detail" => "For people: what happened and what to do.",
                    "status" => "The HTTP status.",
                    _ => null,
                };
            }
        }
        else if (type.Name.EndsWith("Request", StringComparison.Ordinal))
        {
            // Nullable in the code so that their absence is answered with a clear error; a caller must send them.
            foreach (string name in schema.Required ?? new HashSet<string>())
            {
                NotNull(schema.Properties![name]);
            }
        }

        return Task.CompletedTask;
    }

    private static void NotNull(IOpenApiSchema property)
    {
        if (property is OpenApiSchema { Type: { } types } schema)
        {
            schema.Type = types & ~JsonSchemaType.Null;
        }
    }
}
