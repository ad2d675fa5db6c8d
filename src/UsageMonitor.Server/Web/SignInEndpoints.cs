using System.Text.Json;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary>The way in and out for people; plain forms, so that all but passkeys needs no JavaScript.</summary>
internal static class SignInEndpoints
{
    public const string Address = "/sign-in";
    public const string SecondFactorAddress = "/sign-in/second-factor";
    public const string PasskeyAddress = "/sign-in/passkey";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.Anonymous,
            (string? returnUrl) => new RazorComponentResult<SignInPage>(new { ReturnUrl = returnUrl })
        );
        routes.MapForm(Address, Permissions.Anonymous, SignInAsync);
        routes.MapForm(PasskeyAddress, Permissions.Anonymous, SignInWithPasskeyAsync);
        routes.MapPage(
            SecondFactorAddress,
            Permissions.Anonymous,
            (HttpContext context, BrowserSessions sessions, string? returnUrl) =>
                AskAsync(context, sessions, returnUrl, null)
        );
        routes.MapForm(SecondFactorAddress, Permissions.Anonymous, AnswerAsync);
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

    /// <summary>What the page's script put into a form's field, or null.</summary>
    public static JsonElement? Credential(string? json)
    {
        try
        {
            return string.IsNullOrEmpty(json) ? null : JsonSerializer.Deserialize<JsonElement>(json);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>A field that was left empty was not given.</summary>
    public static string? Given(string? text) => string.IsNullOrWhiteSpace(text) ? null : text;

    private static async Task<IResult> SignInAsync(
        HttpContext context,
        BrowserSessions sessions,
        [FromForm] string? email,
        [FromForm] string? password,
        [FromForm] string? returnUrl
    )
    {
        LoginResult result = await sessions.SignInAsync(context, email, password);
        return result.Outcome switch
        {
            SignInOutcome.SignedIn => Pages.SeeOther(context, returnUrl),
            SignInOutcome.SecondFactorRequired => Pages.SeeOther(
                context,
                SecondFactorAddress + "?returnUrl=" + Uri.EscapeDataString(Pages.LocalOrHome(returnUrl))
            ),
            _ => BeginAgain(returnUrl, email, result),
        };
    }

    private static async Task<IResult> SignInWithPasskeyAsync(
        HttpContext context,
        BrowserSessions sessions,
        [FromForm] string? challenge,
        [FromForm] string? passkey,
        [FromForm] string? returnUrl
    )
    {
        var given = new GivenFactor(null, null, Credential(passkey));
        LoginResult result = await sessions.SignInWithPasskeyAsync(context, challenge, given);
        return result.Outcome == SignInOutcome.SignedIn
            ? Pages.SeeOther(context, returnUrl)
            : BeginAgain(returnUrl, null, result);
    }

    private static async Task<IResult> AskAsync(
        HttpContext context,
        BrowserSessions sessions,
        string? returnUrl,
        LoginResult? last
    ) =>
        await sessions.CurrentChallengeAsync(context) is { } challenge
            ? new RazorComponentResult<SignInSecondFactorPage>(
                new
                {
                    challenge.Methods,
                    challenge.PasskeyOptions,
                    ReturnUrl = returnUrl,
                    Error = last is null ? null : Explain(last),
                }
            )
            {
                StatusCode = last is null ? null : StatusCodes.Status422UnprocessableEntity,
            }
            : Pages.SeeOther(context, Address + "?returnUrl=" + Uri.EscapeDataString(Pages.LocalOrHome(returnUrl)));

    private static async Task<IResult> AnswerAsync(
        HttpContext context,
        BrowserSessions sessions,
        [FromForm] string? code,
        [FromForm] string? recoveryCode,
        [FromForm] string? passkey,
        [FromForm] string? returnUrl
    )
    {
        var given = new GivenFactor(Given(code), Given(recoveryCode), Credential(passkey));
        LoginResult result = given.IsOne
            ? await sessions.AnswerAsync(context, given)
            : new LoginResult(SignInOutcome.InvalidSecondFactor);
        return result.Outcome switch
        {
            SignInOutcome.SignedIn => Pages.SeeOther(context, returnUrl),
            SignInOutcome.InvalidSecondFactor or SignInOutcome.TooManyAttempts => await AskAsync(
                context,
                sessions,
                returnUrl,
                result
            ),
            _ => BeginAgain(returnUrl, null, result),
        };
    }

    private static RazorComponentResult<SignInPage> BeginAgain(string? returnUrl, string? email, LoginResult result) =>
        new(
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

    // An unknown address and a wrong password read the same: nobody learns here who has an account.
    private static string Explain(LoginResult result) =>
        result.Outcome switch
        {
            SignInOutcome.TooManyAttempts =>
                $"Too many attempts. Try again in {Math.Ceiling(result.RetryAfter.TotalMinutes):0} min.",
            SignInOutcome.EnterpriseSuspended => "Your enterprise is suspended. Ask your operator.",
            SignInOutcome.CrossSite =>
                "Your browser sent this form from another site. Open this page anew and try again.",
            SignInOutcome.InvalidSecondFactor => "That was not right, or was used before. Try again.",
            SignInOutcome.ChallengeOver => "That took too long or went wrong too often. Sign in again.",
            _ => "The e-mail or the password is not right.",
        };
}
