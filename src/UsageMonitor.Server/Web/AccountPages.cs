using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/account</c>: one's own name, password, factors and sessions, by the API's own handlers.</summary>
internal static class AccountPages
{
    public const string Address = "/account";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.Person,
            (HttpContext context, string? after) => ShowAsync(context, after, null, null)
        );
        routes.MapForm(Address + "/name", Permissions.Person, ChangeNameAsync);
        routes.MapForm(Address + "/password", Permissions.Person, ChangePasswordAsync);
        routes.MapForm(
            Address + "/sessions/{sessionId:guid}/end",
            Permissions.Person,
            async (Guid sessionId, HttpContext context, OwnSessions sessions, [FromForm] IFormCollection _) =>
            {
                await sessions.TryEndAsync(context.GetCaller(), sessionId, context.RequestAborted);
                return Pages.SeeOther(context, Address);
            }
        );
        routes.MapForm(
            Address + "/sessions/end-others",
            Permissions.Person,
            async (HttpContext context, OwnSessions sessions, [FromForm] IFormCollection _) =>
            {
                await sessions.EndOthersAsync(context.GetCaller(), context.RequestAborted);
                return Pages.SeeOther(context, Address);
            }
        );
    }

    private static async Task<IResult> ChangeNameAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        [FromForm] string? displayName
    )
    {
        IResult result = await OwnAccountEndpoints.ChangeAsync(
            new JsonBody<ChangeMeRequest>(new ChangeMeRequest(SignInEndpoints.Given(displayName)), null),
            database,
            enterprises,
            time,
            context,
            context.RequestAborted
        );
        return result is ProblemHttpResult problem
            ? await ShowAsync(context, null, problem, null)
            : Pages.SeeOther(context, Address);
    }

    private static async Task<IResult> ChangePasswordAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        Passwords passwords,
        RecentProof proof,
        AccountNotices notices,
        IdentityVersion version,
        TimeProvider time,
        [FromForm] string? current,
        [FromForm] string? changed
    )
    {
        IResult result = await OwnAccountEndpoints.ChangePasswordAsync(
            new JsonBody<ChangePasswordRequest>(new ChangePasswordRequest(current, changed), null),
            database,
            enterprises,
            passwords,
            proof,
            notices,
            version,
            time,
            context,
            context.RequestAborted
        );
        return result is ProblemHttpResult problem
            ? await ShowAsync(context, null, null, problem)
            : Pages.SeeOther(context, Address);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        string? after,
        ProblemHttpResult? nameProblem,
        ProblemHttpResult? passwordProblem
    )
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseDirectory enterprises = services.GetRequiredService<EnterpriseDirectory>();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, context.RequestAborted);
        OwnSessions sessions = services.GetRequiredService<OwnSessions>();
        Caller caller = context.GetCaller();
        SessionsResponse page =
            await sessions.ListAsync(caller, OwnSessions.ListedDefault, after, context.RequestAborted)
            ?? (await sessions.ListAsync(caller, OwnSessions.ListedDefault, null, context.RequestAborted))!;
        return new RazorComponentResult<AccountPage>(
            new
            {
                Me = await OwnAccountEndpoints.ReadAsync(
                    services.GetRequiredService<Database>(),
                    enterprises,
                    context,
                    context.RequestAborted
                ),
                Factors = await services.GetRequiredService<OwnFactors>().DescribeAsync(context),
                Sessions = page,
                NameError = nameProblem is null ? null : FormOutcome.Sentence(nameProblem),
                PasswordError = passwordProblem is null ? null : FormOutcome.Sentence(passwordProblem),
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = (nameProblem ?? passwordProblem)?.StatusCode,
        };
    }
}
