namespace UsageMonitor.Server.Web;

internal static class WebEndpoints
{
    /// <summary>Comes before routing and the guard, whose refusals it turns into pages.</summary>
    public static IApplicationBuilder UsePages(this IApplicationBuilder app) =>
        app.UseResponseCompression().UseMiddleware<PageErrors>();

    /// <summary>The pages, each with the permission it demands. The forms need <c>UseAntiforgery</c> after the guard.</summary>
    public static void MapWeb(this IEndpointRouteBuilder routes)
    {
        PageAssets.Map(routes);
        Theme.Map(routes);
        SignInEndpoints.Map(routes);
        SecondFactorPages.Map(routes);
        SingleSignOnPages.Map(routes);
        AccountLinkPages.Map(routes);
        AccountPages.Map(routes);
        PeoplePages.Map(routes);
        PolicyPages.Map(routes);
        LimitPages.Map(routes);
        ViolationPages.Map(routes);
        DecisionPages.Map(routes);
        AlertPages.Map(routes);
        AnomalyPages.Map(routes);
        AuditPages.Map(routes);
        OverviewEndpoint.Map(routes);
        PropertyRulePages.Map(routes);
        RestatementPages.Map(routes);
        ApiKeyPages.Map(routes);
        EnterprisePages.Map(routes);
    }
}
