using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/people</c>: who signs in, what they may do, and from where they are signed in; by what the API does.</summary>
internal static class PeoplePages
{
    public const string Address = "/people";
    private const string PersonAddress = Address + "/{userId:guid}";
    private const int PeoplePerPage = 50;

    /// <summary>What a person form does.</summary>
    private delegate Task<IResult> Act(HttpContext context, Guid userId, CancellationToken cancellationToken);

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.PeopleRead, (HttpContext context) => ShowListAsync(context, null, null));
        routes.MapForm(Address, Permissions.PeopleWrite, InviteAsync);
        routes.MapPage(
            PersonAddress,
            Permissions.PeopleRead,
            (Guid userId, HttpContext context) => ShowPersonAsync(context, userId, null, null)
        );
        routes.MapForm(PersonAddress, Permissions.PeopleWrite, UpdateAsync);
        MapAct(routes, "/deactivate", services => SetActive(services, isActive: false));
        MapAct(routes, "/reactivate", services => SetActive(services, isActive: true));
        MapAct(routes, "/remove", services => services.GetRequiredService<PeopleChanges>().RemoveAsync);
        MapAct(routes, "/invitation", services => services.GetRequiredService<Invitations>().InviteAgainAsync);
        MapAct(routes, "/password-reset", services => services.GetRequiredService<Invitations>().SendResetAsync);
        MapAct(routes, "/sessions/end", services => EndSessions(services, null));
        routes.MapForm(
            PersonAddress + "/sessions/{sessionId:guid}/end",
            Permissions.PeopleWrite,
            (Guid userId, Guid sessionId, HttpContext context, [FromForm] IFormCollection _) =>
                DoAsync(context, userId, EndSessions(context.RequestServices, sessionId))
        );
    }

    private static void MapAct(IEndpointRouteBuilder routes, string act, Func<IServiceProvider, Act> of) =>
        routes.MapForm(
            PersonAddress + act,
            Permissions.PeopleWrite,
            (Guid userId, HttpContext context, [FromForm] IFormCollection _) =>
                DoAsync(context, userId, of(context.RequestServices))
        );

    private static Act SetActive(IServiceProvider services, bool isActive) =>
        (context, userId, cancellationToken) =>
            services
                .GetRequiredService<PeopleChanges>()
                .UpdateAsync(context, userId, new PersonChange { IsActive = isActive }, cancellationToken);

    private static Act EndSessions(IServiceProvider services, Guid? sessionId) =>
        (context, userId, cancellationToken) =>
            services
                .GetRequiredService<PeopleChanges>()
                .EndSessionsAsync(context, userId, sessionId, cancellationToken);

    private static async Task<IResult> InviteAsync(
        HttpContext context,
        Invitations invitations,
        [FromForm] string? email,
        [FromForm] string? displayName,
        [FromForm] StringValues roles,
        CancellationToken cancellationToken
    )
    {
        var request = new InviteUserRequest(email, displayName, [.. roles.OfType<string>()]);
        IResult result = await invitations.InviteAsync(context, request, cancellationToken);
        // The page's own is stricter; ASP.NET warns of every header that it overrides.
        context.Response.Headers.Remove(HeaderNames.CacheControl);
        return await ShowListAsync(context, FormOutcome.Of<SentLinkResponse>(result), request);
    }

    private static Task<IResult> UpdateAsync(
        Guid userId,
        HttpContext context,
        PeopleChanges people,
        [FromForm] string? displayName,
        [FromForm] StringValues roles
    )
    {
        var change = new PersonChange
        {
            SetsDisplayName = true,
            DisplayName = displayName,
            Roles = [.. roles.OfType<string>()],
        };
        return DoAsync(
            context,
            userId,
            (_, _, cancellationToken) => people.UpdateAsync(context, userId, change, cancellationToken)
        );
    }

    private static async Task<IResult> DoAsync(HttpContext context, Guid userId, Act act)
    {
        IResult result = await act(context, userId, context.RequestAborted);
        context.Response.Headers.Remove(HeaderNames.CacheControl);
        if (result is ProblemHttpResult problem)
        {
            return await ShowPersonAsync(context, userId, null, problem);
        }

        if (result is IValueHttpResult { Value: SentLinkResponse sent })
        {
            return await ShowPersonAsync(context, userId, sent, null);
        }

        bool isGone =
            await context
                .RequestServices.GetRequiredService<PeopleList>()
                .FindAsync(context.GetCaller().EnterpriseId, userId, context.RequestAborted)
            is null;
        return Pages.SeeOther(context, isGone ? Address : $"{Address}/{userId}");
    }

    private static async Task<IResult> ShowListAsync(
        HttpContext context,
        FormOutcome<SentLinkResponse>? outcome,
        InviteUserRequest? sent
    )
    {
        PeopleList people = context.RequestServices.GetRequiredService<PeopleList>();
        EnterpriseInfo enterprise = await EnterpriseAsync(context);
        IQueryCollection asked = context.Request.Query;
        string? email = asked["email"].ToString() is { Length: > 0 } text ? text : null;
        _ = PageCursor.TryParse(asked["cursor"].ToString(), out PageCursor? after);
        var query = new PeopleQuery(email, null, after, PeoplePerPage);
        return new RazorComponentResult<PeoplePage>(
            new
            {
                People = await people.ReadAsync(enterprise.EnterpriseId, query, context.RequestAborted),
                Roles = await people.RolesAsync(enterprise.EnterpriseId, context.RequestAborted),
                SearchedEmail = email,
                Made = outcome?.Value,
                outcome?.Error,
                Sent = sent,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = outcome?.StatusCode,
        };
    }

    private static async Task<IResult> ShowPersonAsync(
        HttpContext context,
        Guid userId,
        SentLinkResponse? link,
        ProblemHttpResult? problem
    )
    {
        PeopleList people = context.RequestServices.GetRequiredService<PeopleList>();
        EnterpriseInfo enterprise = await EnterpriseAsync(context);
        Guid enterpriseId = enterprise.EnterpriseId;
        if (
            await people.FindAsync(enterpriseId, userId, context.RequestAborted) is not { } person
            || await people.SessionsAsync(context.GetCaller(), userId, context.RequestAborted) is not { } sessions
        )
        {
            return PeopleRules.NotFound;
        }

        return new RazorComponentResult<PersonPage>(
            new
            {
                Person = person,
                Sessions = sessions,
                Roles = await people.RolesAsync(enterpriseId, context.RequestAborted),
                Link = link,
                Error = problem?.ProblemDetails.Detail,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = problem?.StatusCode,
        };
    }

    private static async Task<EnterpriseInfo> EnterpriseAsync(HttpContext context) =>
        await context
            .RequestServices.GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
}
