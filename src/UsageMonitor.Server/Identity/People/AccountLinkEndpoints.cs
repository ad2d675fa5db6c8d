using System.Globalization;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary>What people do with a link from a mail, and how they ask for one.</summary>
internal static class AccountLinkEndpoints
{
    private const int RetryAfterSeconds = 3_600;

    public static IEndpointRouteBuilder MapAccountLinkEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/auth").RequirePermission(Permissions.Anonymous).WithTags("Auth");
        group
            .MapPost("/password-reset", RequestReset)
            .WithName("RequestPasswordReset")
            .WithSummary("Mails a link for a new password; the answer is the same whether or not the address signs in")
            .Produces(202)
            .ProducesProblem(400)
            .ProducesProblem(429);
        group
            .MapPost("/password-reset/complete", CompleteAsync)
            .WithName("CompletePasswordReset")
            .WithSummary("Sets a new password by a mailed link; all of the person's sessions end")
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(403);
        group
            .MapPost("/invitations/accept", AcceptAsync)
            .WithName("AcceptInvitation")
            .WithSummary("Joins by a mailed link, with a first password")
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(403)
            .ProducesProblem(409);
        return routes;
    }

    private static IResult RequestReset(
        JsonBody<PasswordResetRequest> body,
        PasswordResets resets,
        HttpContext context
    ) => body.Problem ?? Ask(body.Value.Email, resets, context);

    /// <returns>202, or a problem that says nothing of the address either.</returns>
    internal static IResult Ask(string? emailText, PasswordResets resets, HttpContext context)
    {
        if (!EmailAddress.TryNormalize(emailText, out string? email))
        {
            return Problems.Problem(400, "invalid_request", "email must be an e-mail address.");
        }

        if (!resets.TryAsk(email, context.Connection.RemoteIpAddress))
        {
            context.Response.Headers.RetryAfter = RetryAfterSeconds.ToString(CultureInfo.InvariantCulture);
            return Problems.Problem(
                429,
                "too_many_attempts",
                "Too many requests for new passwords. Wait, then try again."
            );
        }

        return Results.StatusCode(StatusCodes.Status202Accepted);
    }

    private static async Task<IResult> CompleteAsync(
        JsonBody<CompletePasswordResetRequest> body,
        LinkedAccounts accounts,
        CancellationToken cancellationToken
    ) => body.Problem ?? await accounts.CompleteResetAsync(body.Value.Token, body.Value.Password, cancellationToken);

    private static async Task<IResult> AcceptAsync(
        JsonBody<AcceptInvitationRequest> body,
        LinkedAccounts accounts,
        CancellationToken cancellationToken
    ) =>
        body.Problem
        ?? await accounts.AcceptAsync(body.Value.Token, body.Value.Password, body.Value.DisplayName, cancellationToken);
}
