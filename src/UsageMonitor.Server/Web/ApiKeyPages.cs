using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/api-keys</c>: an admin makes and revokes the keys of the enterprise's programs, by the API's own handlers.</summary>
internal static class ApiKeyPages
{
    public const string Address = "/api-keys";

    public static readonly IReadOnlyList<(string Name, string Explanation)> Scopes =
    [
        (Permissions.UsageWrite, "Send events"),
        (Permissions.UsageBackfill, "Send events older than 7 days"),
        (Permissions.UsageRead, "Read the dashboard's numbers"),
    ];

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.ApiKeysWrite, (HttpContext context) => ShowAsync(context, null, null));
        routes.MapForm(Address, Permissions.ApiKeysWrite, CreateAsync);
        routes.MapForm(Address + "/{id:guid}/revoke", Permissions.ApiKeysWrite, RevokeAsync);
    }

    private static async Task<IResult> CreateAsync(
        HttpContext context,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] string? name,
        [FromForm] StringValues scopes,
        CancellationToken cancellationToken
    )
    {
        var request = new JsonBody<CreateApiKeyRequest>(
            new CreateApiKeyRequest(name, [.. scopes.OfType<string>()]),
            null
        );
        IResult result = await ApiKeyEndpoints.CreateAsync(
            request,
            database,
            version,
            time,
            context,
            cancellationToken
        );
        // The page's own is stricter; ASP.NET warns of every header that it overrides.
        context.Response.Headers.Remove(HeaderNames.CacheControl);
        return await ShowAsync(context, FormOutcome.Of<CreateApiKeyResponse>(result), request.Value);
    }

    private static async Task<IResult> RevokeAsync(
        Guid id,
        HttpContext context,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] IFormCollection form,
        CancellationToken cancellationToken
    )
    {
        await ApiKeyEndpoints.RevokeAsync(id, database, version, time, context, cancellationToken);
        return Pages.SeeOther(context, Address);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        FormOutcome<CreateApiKeyResponse>? outcome,
        CreateApiKeyRequest? sent
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        IReadOnlyList<ApiKeySummary> keys = await ApiKeyEndpoints.ListAsync(
            services.GetRequiredService<Database>(),
            context,
            context.RequestAborted
        );
        return new RazorComponentResult<ApiKeysPage>(
            new
            {
                Keys = keys,
                Made = outcome?.Value,
                outcome?.Error,
                Sent = sent,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = outcome?.StatusCode,
        };
    }
}
