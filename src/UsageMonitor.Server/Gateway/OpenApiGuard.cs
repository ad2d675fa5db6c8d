using System.Globalization;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway;

/// <summary>What <see cref="Guard"/> demands and answers, in the contract of every operation.</summary>
internal static class OpenApiGuard
{
    public const string Scheme = "bearer";
    private const string ProblemType = "application/problem+json";

    public static async Task DescribeAsync(
        OpenApiOperation operation,
        OpenApiOperationTransformerContext context,
        CancellationToken cancellationToken
    )
    {
        operation.Responses ??= [];
        string permission =
            context
                .Description.ActionDescriptor.EndpointMetadata.OfType<PermissionMetadata>()
                .LastOrDefault()
                ?.Permission
            ?? Permissions.Anonymous;
        if (permission == Permissions.Anonymous)
        {
            operation.Security = [];
        }
        else
        {
            operation.Security =
            [
                new OpenApiSecurityRequirement { [new OpenApiSecuritySchemeReference(Scheme, context.Document)] = [] },
            ];
            string needs =
                permission == Permissions.Authenticated
                    ? "Any token or key will do."
                    : $"Needs the permission `{permission}`.";
            operation.Description = string.Join("\n\n", new[] { operation.Description, needs }.OfType<string>());
            context.Document!.AddComponent(
                nameof(ProblemDetails),
                await context.GetOrCreateSchemaAsync(typeof(ProblemDetails), null, cancellationToken)
            );
            AddProblem(
                401,
                "No token or key, or one that is unknown, expired or revoked: `unauthenticated`, `invalid_token`."
            );
            AddProblem(403, "Not allowed: `forbidden`, `enterprise_suspended`.");
            AddProblem(
                503,
                "Who calls cannot be checked at the moment; retry after `Retry-After` seconds: `unavailable`."
            );
        }

        foreach ((string status, IOpenApiResponse response) in operation.Responses)
        {
            if (status is "429" or "503" && response is OpenApiResponse { Headers: null } late)
            {
                late.Headers = new Dictionary<string, IOpenApiHeader>
                {
                    ["Retry-After"] = new OpenApiHeader
                    {
                        Description = "Seconds after which to try again.",
                        Schema = new OpenApiSchema { Type = JsonSchemaType.Integer },
                    },
                };
            }
        }

        operation.Responses = Sorted(operation.Responses);

        void AddProblem(int status, string description)
        {
            string key = status.ToString(CultureInfo.InvariantCulture);
            if (operation.Responses!.TryGetValue(key, out IOpenApiResponse? known))
            {
                known.Description = known.Description == ReasonOf(status) ? description : known.Description;
                return;
            }

            operation.Responses[key] = new OpenApiResponse
            {
                Description = description,
                Content = new Dictionary<string, OpenApiMediaType>
                {
                    [ProblemType] = new()
                    {
                        Schema = new OpenApiSchemaReference(nameof(ProblemDetails), context.Document),
                    },
                },
            };
        }
    }

    private static string ReasonOf(int status) =>
        Microsoft.AspNetCore.WebUtilities.ReasonPhrases.GetReasonPhrase(status);

    private static OpenApiResponses Sorted(OpenApiResponses responses)
    {
        var sorted = new OpenApiResponses();
        foreach (
            (string status, IOpenApiResponse response) in responses.OrderBy(pair => pair.Key, StringComparer.Ordinal)
        )
        {
            sorted[status] = response;
        }

        return sorted;
    }
}
