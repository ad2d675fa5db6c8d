using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/sign-in/sso</c>: the way to an enterprise's OpenID provider and back.</summary>
internal static class SignOnPages
{
    public const string Address = SignOnAddresses.SignInPath;
    private const string NoStore = "no-store";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.Anonymous, AskAsync);
        routes.MapForm(Address, Permissions.Anonymous, FindAsync);
        routes.MapPage(Address + "/{providerId:guid}", Permissions.Anonymous, LeaveAsync);
        routes.MapPage(SignOnAddresses.CallbackPath + "/{enterpriseId:guid}", Permissions.Anonymous, ComeBackAsync);
    }

    private static Task<IResult> AskAsync(
        HttpContext context,
        SingleSignOn singleSignOn,
        Guid? provider,
        string? returnUrl
    ) =>
        provider is { } providerId
            ? LeaveAsync(providerId, context, singleSignOn, returnUrl)
            : Task.FromResult<IResult>(Ask(returnUrl, null, null, StatusCodes.Status200OK));

    private static async Task<IResult> FindAsync(
        HttpContext context,
        SingleSignOn singleSignOn,
        [FromForm] string? email,
        [FromForm] string? returnUrl
    )
    {
        if (await singleSignOn.FindProviderAsync(email, context.RequestAborted) is not { } providerId)
        {
            // The same for a domain that nobody has claimed and for what is no address: it tells of no person.
            const string Unknown =
                "Single sign-on is not set up for this address. Check it, or sign in with your password.";
            return Ask(returnUrl, email, Unknown, StatusCodes.Status422UnprocessableEntity);
        }

        (string? location, SignOnFailure? failure) = await singleSignOn.BeginAsync(
            context,
            providerId,
            returnUrl,
            email
        );
        if (location is null)
        {
            return Failed(failure!.Value, returnUrl);
        }

        // Browsers hold the redirects of a form against the policy's form-action, and a provider may be anywhere. So the
        // form's answer is a page of ours, and the way on from there is no part of the form.
        context.Response.Headers["Refresh"] = "0;url=" + location;
        return new RazorComponentResult<SignOnLeavingPage>(new { Location = location });
    }

    private static async Task<IResult> LeaveAsync(
        Guid providerId,
        HttpContext context,
        SingleSignOn singleSignOn,
        string? returnUrl
    )
    {
        (string? location, SignOnFailure? failure) = await singleSignOn.BeginAsync(
            context,
            providerId,
            returnUrl,
            loginHint: null
        );
        if (location is null)
        {
            return Failed(failure!.Value, returnUrl);
        }

        context.Response.Headers.CacheControl = NoStore;
        return TypedResults.Redirect(location);
    }

    private static async Task<IResult> ComeBackAsync(
        Guid enterpriseId,
        HttpContext context,
        SingleSignOn singleSignOn,
        string? state,
        string? code,
        string? iss,
        string? error
    )
    {
        var callback = new SignOnCallback(state, code, iss, error);
        SignOnResult result = await singleSignOn.CompleteAsync(context, enterpriseId, callback);
        if (result.Failure is { } failure)
        {
            return Failed(failure, result.ReturnUrl);
        }

        context.Response.Headers.CacheControl = NoStore;
        return Pages.SeeOther(context, result.ReturnUrl);
    }

    private static RazorComponentResult<SignOnPage> Ask(string? returnUrl, string? email, string? error, int status) =>
        new(
            new
            {
                ReturnUrl = returnUrl,
                Email = email,
                Error = error,
            }
        )
        {
            StatusCode = status,
        };

    private static RazorComponentResult<SignOnPage> Failed(SignOnFailure failure, string? returnUrl)
    {
        (int status, string text) = Explain(failure);
        return Ask(returnUrl, null, text, status);
    }

    private static (int Status, string Text) Explain(SignOnFailure failure) =>
        failure switch
        {
            SignOnFailure.UnknownProvider => (
                404,
                "This sign-in link leads nowhere any more. Enter your work e-mail instead."
            ),
            SignOnFailure.NotBegunHere => (
                400,
                "This sign-in was not begun in this browser, took too long, or is done already. Begin again."
            ),
            SignOnFailure.RefusedByProvider => (403, "Your company's sign-in did not let you in. Begin again."),
            SignOnFailure.ProviderUnavailable => (
                503,
                "Your company's sign-in does not answer. Try again in a moment, or tell your administrator."
            ),
            SignOnFailure.AnswerNotValid => (
                502,
                "Your company's sign-in gave an answer that cannot be trusted. Begin again, or tell your administrator."
            ),
            SignOnFailure.EmailMissing => (
                403,
                "Your company's sign-in did not tell your e-mail address. Tell your administrator."
            ),
            SignOnFailure.EmailNotVerified => (
                403,
                "Your company's sign-in has not verified your e-mail address. Tell your administrator."
            ),
            SignOnFailure.AddressNotUsable => (
                403,
                "Your e-mail address cannot be used with this sign-in. Tell your administrator."
            ),
            SignOnFailure.LinkedToAnother => (
                403,
                "Your e-mail address belongs to another account of your company's sign-in. Tell your administrator."
            ),
            SignOnFailure.NotInvited => (403, "You have no account here yet. Ask your administrator for one."),
            SignOnFailure.Deactivated => (403, "Your account is deactivated. Ask your administrator."),
            SignOnFailure.EnterpriseSuspended => (403, "Your enterprise is suspended. Ask your operator."),
            _ => throw new ArgumentOutOfRangeException(nameof(failure)),
        };
}
