using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/limits</c>: how much may be used, by the API's own handlers; tried on the last 30 days before it is saved.</summary>
internal static class LimitPages
{
    public const string Address = "/limits";

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(Address, Permissions.LimitsRead, PageAsync);
        routes.MapForm(
            Address,
            Permissions.LimitsWrite,
            (HttpContext context, [FromForm] IFormCollection form) => SaveAsync(context, form, null)
        );
        routes.MapForm(
            Address + "/{limitId:guid}",
            Permissions.LimitsWrite,
            (Guid limitId, HttpContext context, [FromForm] IFormCollection form) => SaveAsync(context, form, limitId)
        );
        routes.MapForm(
            Address + "/{limitId:guid}/status",
            Permissions.LimitsWrite,
            (
                Guid limitId,
                HttpContext context,
                LimitWriter writer,
                [FromForm] IFormCollection form,
                CancellationToken cancel
            ) =>
                ThenListAsync(
                    context,
                    writer.SetStatusAsync(
                        context.GetCaller(),
                        limitId,
                        form["status"] == LimitTerms.Active ? LimitTerms.Active : LimitTerms.Inactive,
                        cancel
                    )
                )
        );
        routes.MapForm(
            Address + "/{limitId:guid}/delete",
            Permissions.LimitsWrite,
            (
                Guid limitId,
                HttpContext context,
                LimitWriter writer,
                [FromForm] IFormCollection _,
                CancellationToken cancel
            ) => ThenListAsync(context, writer.DeleteAsync(context.GetCaller(), limitId, cancel))
        );
        routes.MapForm(
            Address + "/settings",
            Permissions.LimitsWrite,
            (HttpContext context, LimitWriter writer, [FromForm] IFormCollection form, CancellationToken cancel) =>
                ThenListAsync(
                    context,
                    writer.SetSettingsAsync(context.GetCaller(), new LimitSettings(form["whenUncounted"]), cancel)
                )
        );
    }

    // A limit that is gone already is gone: the list shows it.
    private static async Task<IResult> ThenListAsync(HttpContext context, Task<IResult> done)
    {
        await done;
        return Pages.SeeOther(context, Address);
    }

    private static Task<IResult> PageAsync(HttpContext context, Guid? edit, Guid? after) =>
        ShowAsync(context, new Shown { Edit = edit, After = after });

    private static async Task<IResult> SaveAsync(HttpContext context, IFormCollection sent, Guid? limitId)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseDirectory enterprises = services.GetRequiredService<EnterpriseDirectory>();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, context.RequestAborted);
        LimitForm form = LimitForm.Read(sent, limitId, enterprise.TimeZone, out string? wrong);
        if (wrong is not null)
        {
            return await ShowAsync(
                context,
                new Shown
                {
                    Form = form,
                    Error = wrong,
                    StatusCode = StatusCodes.Status400BadRequest,
                }
            );
        }

        if (sent["do"] == LimitForm.BacktestButton)
        {
            IResult replayed = await LimitBacktestEndpoint.HandleAsync(
                new LimitBacktestRequest(form.Request),
                context,
                services.GetRequiredService<Database>(),
                enterprises,
                services.GetRequiredService<LimitBacktest>(),
                services.GetRequiredService<TimeProvider>(),
                context.RequestAborted
            );
            var replay = FormOutcome.Of<LimitBacktestResponse>(replayed);
            return await ShowAsync(
                context,
                new Shown
                {
                    Form = form,
                    Backtest = replay.Value,
                    Error = replay.Error,
                    StatusCode = replay.StatusCode,
                }
            );
        }

        LimitWriter writer = services.GetRequiredService<LimitWriter>();
        IResult saved = limitId is { } id
            ? await writer.ChangeAsync(context.GetCaller(), id, form.Request, context.RequestAborted)
            : await writer.CreateAsync(context.GetCaller(), form.Request, context.RequestAborted);
        var outcome = FormOutcome.Of<LimitResponse>(saved);
        return outcome.Error is null
            ? Pages.SeeOther(context, Address)
            : await ShowAsync(
                context,
                new Shown
                {
                    Form = form,
                    Error = outcome.Error,
                    StatusCode = outcome.StatusCode,
                }
            );
    }

    /// <summary>What the page is asked to show beside the list.</summary>
    private sealed record Shown
    {
        public Guid? Edit { get; init; }

        public Guid? After { get; init; }

        public LimitForm? Form { get; init; }

        public LimitBacktestResponse? Backtest { get; init; }

        public string? Error { get; init; }

        public int? StatusCode { get; init; }
    }

    private static async Task<IResult> ShowAsync(HttpContext context, Shown shown)
    {
        IServiceProvider services = context.RequestServices;
        EnterpriseDirectory enterprises = services.GetRequiredService<EnterpriseDirectory>();
        LimitStates states = services.GetRequiredService<LimitStates>();
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, context.RequestAborted);
        LimitListResponse list = await LimitEndpoints.ReadAsync(
            context,
            enterprises,
            states,
            default,
            new PageQuery(shown.After, LimitStates.LimitsMax),
            context.RequestAborted
        );
        LimitResponse? edited = shown.Edit is { } id
            ? list.Limits.FirstOrDefault(limit => limit.LimitId == id)
                ?? await LimitEndpoints.FindAsync(id, context, enterprises, states, context.RequestAborted)
            : null;
        var formats = Formats.For(context.Request, enterprise.TimeZone);
        DateTimeOffset now = services.GetRequiredService<TimeProvider>().GetUtcNow();
        return new RazorComponentResult<LimitsPage>(
            new
            {
                Rows = (IReadOnlyList<LimitRow>)[.. list.Limits.Select(limit => LimitRow.Of(limit, formats, now))],
                list.Next,
                IsFirst = shown.After is null,
                Settings = await LimitEndpoints.ReadSettingsAsync(
                    enterprise.EnterpriseId,
                    services.GetRequiredService<Database>(),
                    context.RequestAborted
                ),
                Form = shown.Form ?? (edited is null ? LimitForm.New : LimitForm.Of(edited)),
                shown.Backtest,
                Error = shown.Error is null ? null : LimitForm.Explain(shown.Error),
                EnterpriseName = enterprise.Name,
                Formats = formats,
            }
        )
        {
            StatusCode = shown.StatusCode,
        };
    }
}
