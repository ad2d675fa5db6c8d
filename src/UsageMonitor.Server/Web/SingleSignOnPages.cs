using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/single-sign-on</c>: an admin sets up the enterprise's OpenID providers, by the API's own handlers.</summary>
internal static class SingleSignOnPages
{
    public const string Address = "/single-sign-on";
    private const string One = Address + "/{providerId:guid}";

    public static void Map(IEndpointRouteBuilder routes)
    {
        SignOnPages.Map(routes);
        routes.MapPage(Address, Permissions.SettingsRead, ListAsync);
        routes.MapPage(
            Address + "/new",
            Permissions.SettingsWrite,
            (HttpContext context) => ShowAsync(context, null, null, null, null)
        );
        routes.MapForm(Address + "/new", Permissions.SettingsWrite, CreateAsync);
        routes.MapPage(
            One,
            Permissions.SettingsRead,
            (Guid providerId, HttpContext context) => ShowAsync(context, providerId, null, null, null)
        );
        routes.MapForm(One, Permissions.SettingsWrite, UpdateAsync);
        routes.MapForm(One + "/test", Permissions.SettingsWrite, TestAsync);
        routes.MapForm(One + "/delete", Permissions.SettingsWrite, DeleteAsync);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        SignOnAddresses addresses,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        return new RazorComponentResult<SingleSignOnPage>(
            new
            {
                Providers = await IdentityProviderEndpoints.ListAsync(database, addresses, context, cancellationToken),
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        );
    }

    private static async Task<IResult> CreateAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityProviderRules rules,
        SignOnAddresses addresses,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] IFormCollection form,
        CancellationToken cancellationToken
    )
    {
        var body = new JsonBody<IdentityProviderRequest>(IdentityProviderForm.Read(form, isNew: true), null);
        IResult result = await IdentityProviderEndpoints.CreateAsync(
            body,
            database,
            enterprises,
            rules,
            addresses,
            version,
            time,
            context,
            cancellationToken
        );
        FormOutcome<IdentityProviderResponse> outcome = FormOutcome.Of<IdentityProviderResponse>(result);
        return outcome.Value is { } made
            ? Pages.SeeOther(context, $"{Address}/{made.ProviderId}")
            : await ShowAsync(context, null, body.Value, outcome, null);
    }

    private static async Task<IResult> UpdateAsync(
        Guid providerId,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityProviderRules rules,
        SignOnAddresses addresses,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] IFormCollection form,
        CancellationToken cancellationToken
    )
    {
        var body = new JsonBody<IdentityProviderRequest>(IdentityProviderForm.Read(form, isNew: false), null);
        IResult result = await IdentityProviderEndpoints.UpdateAsync(
            providerId,
            body,
            database,
            enterprises,
            rules,
            addresses,
            version,
            time,
            context,
            cancellationToken
        );
        FormOutcome<IdentityProviderResponse> outcome = FormOutcome.Of<IdentityProviderResponse>(result);
        return outcome.Value is not null
            ? await ShowAsync(context, providerId, null, outcome, null)
            : await ShowAsync(context, providerId, body.Value, outcome, null);
    }

    private static async Task<IResult> TestAsync(
        Guid providerId,
        HttpContext context,
        Database database,
        ProviderCheck check,
        [FromForm] IFormCollection form,
        CancellationToken cancellationToken
    )
    {
        IResult result = await IdentityProviderEndpoints.TestAsync(
            providerId,
            database,
            check,
            context,
            cancellationToken
        );
        FormOutcome<IdentityProviderTestResponse> outcome = FormOutcome.Of<IdentityProviderTestResponse>(result);
        return await ShowAsync(context, providerId, null, null, outcome.Value);
    }

    private static async Task<IResult> DeleteAsync(
        Guid providerId,
        HttpContext context,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] IFormCollection form,
        CancellationToken cancellationToken
    )
    {
        IResult result = await IdentityProviderEndpoints.DeleteAsync(
            providerId,
            database,
            version,
            time,
            context,
            cancellationToken
        );
        return result is ProblemHttpResult { StatusCode: StatusCodes.Status403Forbidden } refused
            ? refused
            : Pages.SeeOther(context, Address);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        Guid? providerId,
        IdentityProviderRequest? sent,
        FormOutcome<IdentityProviderResponse>? outcome,
        IdentityProviderTestResponse? test
    )
    {
        IServiceProvider services = context.RequestServices;
        CancellationToken cancellationToken = context.RequestAborted;
        Database database = services.GetRequiredService<Database>();
        SignOnAddresses addresses = services.GetRequiredService<SignOnAddresses>();
        EnterpriseInfo enterprise = await services
            .GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, cancellationToken);
        IdentityProviderResponse? provider = null;
        if (providerId is { } id)
        {
            IResult found = await IdentityProviderEndpoints.GetAsync(
                id,
                database,
                addresses,
                context,
                cancellationToken
            );
            provider = FormOutcome.Of<IdentityProviderResponse>(found).Value;
            if (provider is null)
            {
                return TypedResults.StatusCode(StatusCodes.Status404NotFound);
            }
        }

        return new RazorComponentResult<IdentityProviderPage>(
            new
            {
                Provider = provider,
                Form = sent ?? IdentityProviderForm.Of(provider),
                Roles = await IdentityProviderRules.RolesAsync(database, enterprise.EnterpriseId, cancellationToken),
                RedirectUri = addresses.RedirectUri(context.Request, enterprise.EnterpriseId),
                EnterpriseName = enterprise.Name,
                outcome?.Error,
                IsSaved = outcome?.Value is not null,
                Test = test,
            }
        )
        {
            StatusCode = outcome?.StatusCode,
        };
    }
}
