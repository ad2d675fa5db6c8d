using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>
/// <c>/scim/v2</c>: people and groups as a provisioning system such as Entra ID or Okta keeps them (RFC 7643, RFC 7644).
/// It decides who is there and who is in which of its groups; which roles a group has is decided here and never by it.
/// </summary>
internal static class ScimEndpoints
{
    public const string Address = "/scim/v2";
    public const int CountMax = 200;
    private const int CountDefault = 100;

    public static IEndpointRouteBuilder MapScimEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup(Address)
            .RequirePermission(Permissions.ProvisioningWrite)
            .WithTags("Provisioning")
            .AddEndpointFilter(AnswerAsync);
        group.MapScimDiscovery();
        group.MapScimUsers();
        group.MapScimGroups();
        group.Map("/{**other}", () => Throw(ScimException.NotFound())).ExcludeFromDescription();
        return routes;
    }

    /// <summary>From where (1 is the first) and how many, forgiving as RFC 7644, 3.4.2.4 asks.</summary>
    public static (int StartIndex, int Count) PageOf(HttpRequest request) =>
        (
            Math.Max(Number(request.Query["startIndex"], 1), 1),
            Math.Clamp(Number(request.Query["count"], CountDefault), 0, CountMax)
        );

    public static string AddressOf(HttpRequest request, string kind, object id) =>
        $"{request.Scheme}://{request.Host}{request.PathBase}{Address}/{kind}/{id}";

    /// <summary>The enterprise of the calling key.</summary>
    /// <exception cref="ScimException">It is the platform, whose operators nobody provisions.</exception>
    public static async Task<EnterpriseInfo> OfScimAsync(this EnterpriseDirectory enterprises, HttpContext context)
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        return enterpriseId == Guid.Empty
            ? throw new ScimException(403, null, "Operators are not provisioned.")
            : (await enterprises.FindAsync(enterpriseId, context.RequestAborted))!;
    }

    public static RouteHandlerBuilder Describe<T>(
        this RouteHandlerBuilder builder,
        string name,
        string summary,
        int status = StatusCodes.Status200OK
    )
    {
        builder.WithName(name).WithSummary(summary);
        builder =
            status == StatusCodes.Status204NoContent
                ? builder.Produces(status)
                : builder.Produces<T>(status, ScimJson.MediaType);
        return builder
            .Produces<ScimError>(400, ScimJson.MediaType)
            .Produces<ScimError>(404, ScimJson.MediaType)
            .Produces<ScimError>(409, ScimJson.MediaType);
    }

    private static async ValueTask<object?> AnswerAsync(
        EndpointFilterInvocationContext invocation,
        EndpointFilterDelegate next
    )
    {
        try
        {
            return await next(invocation);
        }
        catch (ScimException exception)
        {
            return ScimJson.Error(exception);
        }
    }

    private static IResult Throw(ScimException exception) => throw exception;

    private static int Number(string? text, int fallback) =>
        int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number)
            ? number
            : fallback;
}
