using System.Globalization;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary>
/// <c>/api-keys</c>: who may see the keys of the enterprise's programs sees them, and who may change them makes, rotates and
/// revokes them, by the API's own handlers.
/// </summary>
internal static class ApiKeyPages
{
    public const string Address = "/api-keys";
    private static readonly char[] s_betweenNetworks = [' ', ',', ';', '\t', '\r', '\n'];

    private static readonly (string Name, string Explanation)[] s_scopes =
    [
        (Permissions.UsageWrite, "Send events"),
        (Permissions.UsageBackfill, "Send events older than 7 days"),
        (Permissions.UsageCheck, "Ask whether a feature may be used"),
        (Permissions.UsageRead, "Read the dashboard's numbers"),
        (Permissions.DecisionsRead, "Look up why something was refused"),
        (Permissions.ProvisioningWrite, "Provision people and groups (SCIM)"),
    ];

    /// <summary>How long a new key may live.</summary>
    public static readonly IReadOnlyList<(int Days, string Label)> Lifetimes =
    [
        (30, "30 days"),
        (90, "90 days"),
        (365, "1 year"),
        (0, "No end"),
    ];

    /// <summary>How long a key may be used beside the one in its place.</summary>
    public static readonly IReadOnlyList<(int Hours, string Label)> Overlaps =
    [
        (0, "at once"),
        (1, "after 1 hour"),
        (24, "after 1 day"),
        (168, "after 7 days"),
        (ApiKeyEndpoints.OverlapHoursMax, "after 30 days"),
    ];

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.ApiKeysRead, (HttpContext context) => ShowAsync(context, null, null));
        routes.MapForm(Address, Permissions.ApiKeysWrite, CreateAsync);
        routes.MapForm(Address + "/{id:guid}/rotate", Permissions.ApiKeysWrite, RotateAsync);
        routes.MapForm(Address + "/{id:guid}/revoke", Permissions.ApiKeysWrite, RevokeAsync);
    }

    /// <summary>The scopes that the caller may give.</summary>
    public static IEnumerable<(string Name, string Explanation)> ScopesOf(Caller caller) =>
        s_scopes.Where(scope => ApiKeyScopes.FirstBeyond(caller, [scope.Name]) is null);

    private static async Task<IResult> CreateAsync(
        HttpContext context,
        Database database,
        ApiKeys apiKeys,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] string? name,
        [FromForm] StringValues scopes,
        [FromForm] string? days,
        [FromForm] string? networks,
        [FromForm] string? purpose,
        [FromForm] string? legalBasis,
        CancellationToken cancellationToken
    )
    {
        bool ends = int.TryParse(days, NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count > 0;
        string[] from = (networks ?? "").Split(s_betweenNetworks, StringSplitOptions.RemoveEmptyEntries);
        var request = new JsonBody<CreateApiKeyRequest>(
            new CreateApiKeyRequest(
                name,
                [.. scopes.OfType<string>()],
                ends ? time.GetUtcNow().AddDays(Math.Min(count, 10_000)) : null,
                from
            )
            {
                Purpose = purpose,
                LegalBasis = string.IsNullOrEmpty(legalBasis) ? null : legalBasis,
            },
            null
        );
        IResult result = await ApiKeyEndpoints.CreateAsync(
            request,
            database,
            apiKeys,
            version,
            time,
            context,
            cancellationToken
        );
        var sent = new ApiKeyForm(request.Value.Name, request.Value.Scopes!, ends ? count : 0, networks)
        {
            Purpose = purpose,
            LegalBasis = legalBasis,
        };
        return await ShowAsync(context, Outcome(context, result), sent);
    }

    private static async Task<IResult> RotateAsync(
        Guid id,
        HttpContext context,
        Database database,
        ApiKeys apiKeys,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] string? name,
        [FromForm] string? overlapHours,
        CancellationToken cancellationToken
    )
    {
        int hours = int.TryParse(overlapHours, NumberStyles.None, CultureInfo.InvariantCulture, out int read)
            ? read
            : -1;
        IResult result = await ApiKeyEndpoints.RotateAsync(
            id,
            new JsonBody<RotateApiKeyRequest>(new RotateApiKeyRequest(hours), null),
            database,
            apiKeys,
            version,
            time,
            context,
            cancellationToken
        );
        return await ShowAsync(
            context,
            Outcome(context, result),
            new ApiKeyForm(name, [], 0, null) { IsRotation = true }
        );
    }

    private static async Task<IResult> RevokeAsync(
        Guid id,
        HttpContext context,
        Database database,
        ApiKeys apiKeys,
        IdentityVersion version,
        [FromForm] IFormCollection form,
        CancellationToken cancellationToken
    )
    {
        await ApiKeyEndpoints.RevokeAsync(id, database, apiKeys, version, context, cancellationToken);
        return Pages.SeeOther(context, Address);
    }

    private static FormOutcome<CreateApiKeyResponse> Outcome(HttpContext context, IResult result)
    {
        // The page's own is stricter; ASP.NET warns of every header that it overrides.
        context.Response.Headers.Remove(HeaderNames.CacheControl);
        return FormOutcome.Of<CreateApiKeyResponse>(result);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        FormOutcome<CreateApiKeyResponse>? outcome,
        ApiKeyForm? sent
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        string? after = HttpMethods.IsGet(context.Request.Method) ? context.Request.Query["after"] : default;
        return new RazorComponentResult<ApiKeysPage>(
            new
            {
                Keys = await ListAsync(context, after) ?? (await ListAsync(context, null))!,
                IsFirst = after is null,
                Made = outcome?.Value,
                outcome?.Error,
                Sent = sent,
                Now = services.GetRequiredService<TimeProvider>().GetUtcNow(),
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = outcome?.StatusCode,
        };
    }

    // Null: the address had a cursor that nobody gave out.
    private static async Task<ApiKeysResponse?> ListAsync(HttpContext context, string? after) =>
        FormOutcome
            .Of<ApiKeysResponse>(
                await ApiKeyEndpoints.ListAsync(
                    null,
                    after,
                    context.RequestServices.GetRequiredService<Database>(),
                    context,
                    context.RequestAborted
                )
            )
            .Value;
}

/// <summary>What a form of the page has sent, to be shown again when it was wrong.</summary>
public sealed record ApiKeyForm(string? Name, IReadOnlyList<string> Scopes, int Days, string? Networks)
{
    /// <summary>What the data is processed for.</summary>
    public string? Purpose { get; init; }

    /// <summary>What allows it.</summary>
    public string? LegalBasis { get; init; }

    /// <summary>The key was to take the place of another.</summary>
    public bool IsRotation { get; init; }
}
