using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/policies</c>: who may use what, by the API's own handlers; simulated before it is saved.</summary>
internal static class PolicyPages
{
    public const string Address = "/policies";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.PoliciesRead, PageAsync);
        routes.MapForm(
            Address,
            Permissions.PoliciesWrite,
            (HttpContext context, [FromForm] IFormCollection form) =>
                SaveAsync(context, PolicyForm.Read(form, null), form)
        );
        routes.MapForm(
            Address + "/{id:guid}",
            Permissions.PoliciesWrite,
            (Guid id, HttpContext context, [FromForm] IFormCollection form) =>
                SaveAsync(context, PolicyForm.Read(form, id), form)
        );
        routes.MapForm(
            Address + "/{id:guid}/status",
            Permissions.PoliciesWrite,
            (
                Guid id,
                HttpContext context,
                PolicyWriter writer,
                [FromForm] IFormCollection form,
                CancellationToken cancel
            ) =>
                ThenListAsync(
                    context,
                    writer.SetStatusAsync(
                        context.GetCaller(),
                        id,
                        form["status"] == PolicyTerms.Active ? PolicyTerms.Active : PolicyTerms.Inactive,
                        cancel
                    )
                )
        );
        routes.MapForm(
            Address + "/{id:guid}/delete",
            Permissions.PoliciesWrite,
            (
                Guid id,
                HttpContext context,
                PolicyWriter writer,
                [FromForm] IFormCollection _,
                CancellationToken cancel
            ) => ThenListAsync(context, writer.DeleteAsync(context.GetCaller(), id, cancel))
        );
        routes.MapForm(
            Address + "/default",
            Permissions.PoliciesWrite,
            (HttpContext context, PolicyWriter writer, [FromForm] IFormCollection form, CancellationToken cancel) =>
                ThenListAsync(
                    context,
                    writer.SetDefaultAsync(context.GetCaller(), new PolicyDefaultRequest(form["default"]), cancel)
                )
        );
    }

    // A policy that is gone already is gone: the list shows it.
    private static async Task<IResult> ThenListAsync(HttpContext context, Task<IResult> done)
    {
        await done;
        return Pages.SeeOther(context, Address);
    }

    private static async Task<IResult> PageAsync(HttpContext context, Guid? edit) =>
        await ShowAsync(context, edit, null, null, null, null);

    private static async Task<IResult> SaveAsync(HttpContext context, PolicyForm form, IFormCollection sent)
    {
        IServiceProvider services = context.RequestServices;
        if (sent["do"] == PolicyForm.SimulateButton)
        {
            IResult simulated = await SimulateEndpoint.HandleAsync(
                new SimulateRequest(form.Request, null, null, form.PolicyId),
                context,
                services.GetRequiredService<Database>(),
                services.GetRequiredService<EnterpriseDirectory>(),
                services.GetRequiredService<PolicyReplay>(),
                services.GetRequiredService<TimeProvider>(),
                context.RequestAborted
            );
            var replay = FormOutcome.Of<SimulateResponse>(simulated);
            return await ShowAsync(context, null, form, replay.Value, replay.Error, replay.StatusCode);
        }

        PolicyWriter writer = services.GetRequiredService<PolicyWriter>();
        IResult saved = form.PolicyId is { } id
            ? await writer.ChangeAsync(context.GetCaller(), id, form.Request, context.RequestAborted)
            : await writer.CreateAsync(context.GetCaller(), form.Request, context.RequestAborted);
        var outcome = FormOutcome.Of<PolicyResponse>(saved);
        return outcome.Error is null
            ? Pages.SeeOther(context, Address)
            : await ShowAsync(context, null, form, null, outcome.Error, outcome.StatusCode);
    }

    private static async Task<IResult> ShowAsync(
        HttpContext context,
        Guid? edit,
        PolicyForm? form,
        SimulateResponse? simulated,
        string? error,
        int? statusCode
    )
    {
        IServiceProvider services = context.RequestServices;
        Database database = services.GetRequiredService<Database>();
        EnterpriseDirectory enterprises = services.GetRequiredService<EnterpriseDirectory>();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, context.RequestAborted);
        PolicyListResponse list = await PolicyEndpoints.ReadAsync(
            context,
            database,
            enterprises,
            Guid.Empty,
            PolicyStore.PoliciesMax,
            context.RequestAborted
        );
        PolicyNames names;
        await using (
            ScopedTransaction own = await database.OpenEnterpriseAsync(enterprise.EnterpriseId, context.RequestAborted)
        )
        {
            names = await PolicyNames.ReadAsync(own, enterprise.EnterpriseId, list.Policies, context.RequestAborted);
        }

        PolicyResponse? edited = edit is { } id ? list.Policies.FirstOrDefault(policy => policy.PolicyId == id) : null;
        return new RazorComponentResult<PoliciesPage>(
            new
            {
                List = list,
                Rows = (IReadOnlyList<PolicyRow>)
                    [
                        .. list.Policies.Select(policy => new PolicyRow(
                            policy,
                            PolicyWords.Who(policy.Principals, names),
                            PolicyWords.What(policy.Features),
                            PolicyWords.When(policy.Conditions, policy.Actions)
                        )),
                    ],
                Form = form ?? (edited is null ? PolicyForm.New : PolicyForm.Of(edited, names)),
                Simulated = simulated,
                Error = error is null ? null : PolicyForm.Explain(error),
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = statusCode,
        };
    }
}

/// <summary>A policy in words.</summary>
public sealed record PolicyRow(PolicyResponse Policy, string Who, string What, string When);
