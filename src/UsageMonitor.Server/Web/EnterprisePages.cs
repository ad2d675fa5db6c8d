using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/enterprises</c>: the platform's operator sees all enterprises and makes new ones, by the API's own handlers.</summary>
internal static class EnterprisePages
{
    public const string Address = "/enterprises";
    private const int EnterprisesPerPage = 200;

    /// <summary>What the form offers; the API takes any IANA zone.</summary>
    public static IReadOnlyList<string> TimeZones { get; } =
    [
        .. TimeZoneInfo
            .GetSystemTimeZones()
            .Where(zone => zone.HasIanaId && (zone.Id == "UTC" || zone.Id.Contains('/', StringComparison.Ordinal)))
            .Select(zone => zone.Id)
            .Order(StringComparer.Ordinal),
    ];

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.EnterprisesWrite,
            (HttpContext context, Database database) => ShowAsync(context, database, null, null)
        );
        routes.MapForm(Address, Permissions.EnterprisesWrite, CreateAsync);
    }

    private static async Task<IResult> CreateAsync(
        HttpContext context,
        Database database,
        Enterprises enterprises,
        Users users,
        Passwords passwords,
        IdentityVersion version,
        [FromForm] string? name,
        [FromForm] string? timeZone,
        [FromForm] string? adminEmail,
        CancellationToken cancellationToken
    )
    {
        var request = new JsonBody<CreateEnterpriseRequest>(
            new CreateEnterpriseRequest(name, timeZone, adminEmail),
            null
        );
        IResult result = await EnterpriseEndpoints.CreateAsync(
            request,
            database,
            enterprises,
            users,
            passwords,
            version,
            cancellationToken
        );
        return await ShowAsync(context, database, FormOutcome.Of<CreateEnterpriseResponse>(result), request.Value);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        Database database,
        FormOutcome<CreateEnterpriseResponse>? outcome,
        CreateEnterpriseRequest? sent
    )
    {
        string? cursor = HttpMethods.IsGet(context.Request.Method) ? context.Request.Query["cursor"].ToString() : null;
        PageCursor? after = null;
        _ = cursor is not null && PageCursor.TryParse(cursor, out after);
        (IReadOnlyList<EnterpriseSummary> enterprises, string? next) = await EnterpriseEndpoints.ListAsync(
            database,
            after,
            EnterprisesPerPage,
            context.RequestAborted
        );
        return new RazorComponentResult<EnterprisesPage>(
            new
            {
                Enterprises = enterprises,
                Next = next,
                Made = outcome?.Value,
                outcome?.Error,
                Sent = sent,
                Formats = Formats.For(context.Request, TimeZoneInfo.Utc),
            }
        )
        {
            StatusCode = outcome?.StatusCode,
        };
    }
}
