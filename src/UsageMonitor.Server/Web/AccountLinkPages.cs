using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary>The pages behind mailed links: join with a first password, or choose a new one; and where to ask for one.</summary>
/// <remarks>
/// The token leaves the address at once, for a cookie that scripts cannot read and only this page is sent: an address stays
/// in histories, logs and on screens. Only the form uses a link up, so that a mail scanner that opens it does no harm.
/// </remarks>
internal static class AccountLinkPages
{
    public const string ForgotPasswordAddress = "/forgot-password";
    private const string TokenCookie = "um_link";
    private static readonly TimeSpan s_tokenKept = TimeSpan.FromMinutes(30);

    public static void Map(IEndpointRouteBuilder routes)
    {
        Map(routes, AccountMails.InvitationPath, LinkPurpose.Invitation);
        Map(routes, AccountMails.ResetPath, LinkPurpose.PasswordReset);
        routes.MapPage(
            ForgotPasswordAddress,
            Permissions.Anonymous,
            (MailOutbox outbox) => new RazorComponentResult<ForgotPasswordPage>(new { SendsMail = outbox.IsSetUp })
        );
        routes.MapForm(ForgotPasswordAddress, Permissions.Anonymous, Forgot);
    }

    private static void Map(IEndpointRouteBuilder routes, string address, LinkPurpose purpose)
    {
        routes.MapPage(
            address,
            Permissions.Anonymous,
            (string? token, HttpContext context, LinkedAccounts accounts) =>
                OpenAsync(token, address, purpose, context, accounts)
        );
        routes.MapForm(
            address,
            Permissions.Anonymous,
            (
                [FromForm] string? password,
                [FromForm] string? displayName,
                HttpContext context,
                LinkedAccounts accounts
            ) => UseAsync(password, displayName, address, purpose, context, accounts)
        );
    }

    private static async Task<IResult> OpenAsync(
        string? token,
        string address,
        LinkPurpose purpose,
        HttpContext context,
        LinkedAccounts accounts
    )
    {
        context.Response.Headers["Referrer-Policy"] = "no-referrer";
        if (token is not null)
        {
            context.Response.Headers.CacheControl = "no-store";
            context.Response.Cookies.Append(TokenCookie, token, Cookie(context, address, s_tokenKept));
            return Pages.SeeOther(context, address);
        }

        return await ShowAsync(address, purpose, context, accounts, error: null, displayName: null);
    }

    private static async Task<IResult> UseAsync(
        string? password,
        string? displayName,
        string address,
        LinkPurpose purpose,
        HttpContext context,
        LinkedAccounts accounts
    )
    {
        context.Response.Headers["Referrer-Policy"] = "no-referrer";
        string? token = context.Request.Cookies[TokenCookie];
        IResult result =
            purpose == LinkPurpose.Invitation
                ? await accounts.AcceptAsync(token, password, displayName, context.RequestAborted)
                : await accounts.CompleteResetAsync(token, password, context.RequestAborted);
        if (result is ProblemHttpResult problem)
        {
            return await ShowAsync(address, purpose, context, accounts, problem, displayName);
        }

        context.Response.Cookies.Delete(TokenCookie, Cookie(context, address, null));
        return new RazorComponentResult<AccountLinkPage>(new { Address = address, IsDone = true });
    }

    private static async Task<IResult> ShowAsync(
        string address,
        LinkPurpose purpose,
        HttpContext context,
        LinkedAccounts accounts,
        ProblemHttpResult? error,
        string? displayName
    )
    {
        (LinkOwner? owner, IResult? problem) = await accounts.FindAsync(
            context.Request.Cookies[TokenCookie],
            purpose,
            context.RequestAborted
        );
        ProblemHttpResult? shown = error ?? problem as ProblemHttpResult;
        return new RazorComponentResult<AccountLinkPage>(
            new
            {
                Address = address,
                owner?.Email,
                EnterpriseName = owner?.Enterprise.Name,
                Error = shown?.ProblemDetails.Detail,
                DisplayName = displayName ?? owner?.DisplayName,
            }
        )
        {
            StatusCode = shown is null ? null : StatusCodes.Status422UnprocessableEntity,
        };
    }

    private static RazorComponentResult<ForgotPasswordPage> Forgot(
        [FromForm] string? email,
        HttpContext context,
        PasswordResets resets,
        MailOutbox outbox
    )
    {
        var problem = AccountLinkEndpoints.Ask(email, resets, context) as ProblemHttpResult;
        return new RazorComponentResult<ForgotPasswordPage>(
            new
            {
                SendsMail = outbox.IsSetUp,
                Email = email,
                IsSent = problem is null,
                Error = problem?.ProblemDetails.Detail,
            }
        )
        {
            StatusCode = problem is null ? null : StatusCodes.Status422UnprocessableEntity,
        };
    }

    // Lax: the link is followed from a mail program's page, and Strict would leave the cookie out of the very next request.
    private static CookieOptions Cookie(HttpContext context, string address, TimeSpan? maxAge) =>
        new()
        {
            HttpOnly = true,
            IsEssential = true,
            MaxAge = maxAge,
            Path = context.Request.PathBase + address,
            SameSite = SameSiteMode.Lax,
            Secure = context.Request.IsHttps,
        };
}
