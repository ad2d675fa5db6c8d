using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary>The way in and out for people; plain forms, so that it needs no JavaScript.</summary>
internal static class SignInEndpoints
{
    public const string Address = "/sign-in";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.Anonymous,
            (string? returnUrl) => new RazorComponentResult<SignInPage>(new { ReturnUrl = returnUrl })
        );
        routes.MapForm(Address, Permissions.Anonymous, SignInAsync);
        routes.MapForm(
            "/sign-out",
            Permissions.Anonymous,
            async ([FromForm] IFormCollection _, HttpContext context, BrowserSessions sessions) =>
            {
                await sessions.SignOutAsync(context);
                return Pages.SeeOther(context, Address);
            }
        );
    }

    private static async Task<IResult> SignInAsync(
        HttpContext context,
        BrowserSessions sessions,
        [FromForm] string? email,
        [FromForm] string? password,
        [FromForm] string? returnUrl
    )
    {
        LoginResult result = await sessions.SignInAsync(context, email, password);
        if (result.Outcome == SignInOutcome.SignedIn)
        {
            return Pages.SeeOther(context, returnUrl);
        }

        return new RazorComponentResult<SignInPage>(
            new
            {
                ReturnUrl = returnUrl,
                Email = email,
                Error = Explain(result),
            }
        )
        {
            StatusCode = StatusCodes.Status422UnprocessableEntity,
        };
    }

    // An unknown address and a wrong password read the same: nobody learns here who has an account.
    private static string Explain(LoginResult result) =>
        result.Outcome switch
        {
            SignInOutcome.TooManyAttempts =>
                $"Too many attempts. Try again in {Math.Ceiling(result.RetryAfter.TotalMinutes):0} min.",
            SignInOutcome.EnterpriseSuspended => "Your enterprise is suspended. Ask your operator.",
            SignInOutcome.PasswordSignInOff => "Your enterprise signs in by single sign-on only.",
            SignInOutcome.CrossSite =>
                "Your browser sent this form from another site. Open this page anew and try again.",
            _ => "The e-mail or the password is not right.",
        };
}
