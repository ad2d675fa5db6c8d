using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.PropertyRules;

/// <summary><c>/v1/admin/privacy/property-rules</c>: what of events' properties is kept.</summary>
internal static class PropertyRuleEndpoints
{
    private const int ChangesShownMax = 200;

    public static void MapPropertyRuleEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/privacy/property-rules").WithTags("Privacy");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.PrivacyRead)
            .WithName("ListPropertyRules")
            .WithSummary("Lists the property rules as they were made, and what happens otherwise")
            .Produces<PropertyRulesResponse>()
            .ProducesProblem(400);
        group
            .MapPost(
                "",
                (
                    JsonBody<PropertyRuleRequest> body,
                    HttpContext context,
                    PropertyRuleWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.CreateAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.PrivacyWrite)
            .WithName("CreatePropertyRule")
            .WithSummary(
                "Says what happens to a property before its event is durable; within a second every instance obeys"
            )
            .Produces<PropertyRuleResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapPut(
                "/{id:guid}",
                (
                    Guid id,
                    JsonBody<PropertyRuleRequest> body,
                    HttpContext context,
                    PropertyRuleWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ChangeAsync(context.GetCaller(), id, body.Value, cancel)
            )
            .RequirePermission(Permissions.PrivacyWrite)
            .WithName("ChangePropertyRule")
            .WithSummary("Changes a property rule as a whole")
            .Produces<PropertyRuleResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete(
                "/{id:guid}",
                (Guid id, HttpContext context, PropertyRuleWriter writer, CancellationToken cancel) =>
                    writer.DeleteAsync(context.GetCaller(), id, cancel)
            )
            .RequirePermission(Permissions.PrivacyWrite)
            .WithName("DeletePropertyRule")
            .WithSummary("Ends a property rule")
            .Produces(204)
            .ProducesProblem(404);
        group
            .MapPut(
                "/defaults",
                (
                    JsonBody<PropertyDefaultsRequest> body,
                    HttpContext context,
                    PropertyRuleWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.SetDefaultsAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.PrivacyWrite)
            .WithName("SetPropertyDefaults")
            .WithSummary(
                "Says what happens to properties that no rule is about, and to values that look like an address, a card or a token"
            )
            .Produces<PropertyDefaults>()
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapPost("/preview", PreviewAsync)
            .RequirePermission(Permissions.PrivacyRead)
            .NotAudited("changes nothing and shows nothing but what was sent", hasScope: false)
            .WithName("PreviewPropertyRules")
            .WithSummary("Answers what would be kept of an event's properties; keeps nothing")
            .Produces<PropertyPreviewResponse>()
            .ProducesProblem(400)
            .ProducesProblem(503);
    }

    private const string ReadPage = $"""
        SELECT {StoredPropertyRule.Columns} FROM property_rules
        WHERE enterprise_id = $1 AND rule_id > $2 ORDER BY rule_id LIMIT $3
        """;

    public static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        string? after,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("after", after, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        StoredPropertyDefaults defaults = await PropertyRuleSets.ReadDefaultsAsync(
            own,
            enterpriseId,
            cancellationToken
        );
        var rules = new List<PropertyRuleResponse>();
        await using NpgsqlCommand command = own.Command(
            ReadPage,
            enterpriseId,
            page.Beyond ?? Guid.Empty,
            page.Limit + 1
        );
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            rules.Add(Answer(StoredPropertyRule.Read(reader)));
        }

        return Results.Ok(
            rules.Count <= page.Limit
                ? new PropertyRulesResponse(Answer(defaults), rules, null)
                : new PropertyRulesResponse(Answer(defaults), rules[..page.Limit], rules[page.Limit - 1].RuleId)
        );
    }

    public static async Task<IResult> PreviewAsync(
        JsonBody<PropertyPreviewRequest> body,
        HttpContext context,
        PropertyRuleSets sets,
        TimeProvider time,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (body.Value.Event is not { ValueKind: JsonValueKind.Object } given)
        {
            return Problems.Problem(400, "invalid_request", "event must be an event.");
        }

        // Checked as any event is, old ones too: only what would be taken can be rewritten.
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        byte[] text = JsonSerializer.SerializeToUtf8Bytes(new[] { given });
        ParseOutcome parsed = EventParser.Parse(text, false, enterpriseId, time.GetUtcNow(), mayBackfill: true);
        if (parsed.Batch is not { Accepted: [var one] })
        {
            string detail = parsed.Problem?.Detail ?? parsed.Batch!.Rejected[0].Detail;
            return Problems.Problem(400, "invalid_request", "event: " + detail);
        }

        var changes = new List<PropertyChange>();
        try
        {
            PropertyRuleSet set = await sets.FindAsync(enterpriseId, cancellationToken);
            ReadOnlyMemory<byte> kept = set.Preview(one.Properties, one.FeatureName, changes);
            return Results.Ok(
                new PropertyPreviewResponse(
                    kept.IsEmpty ? null : JsonElement.Parse(kept.Span),
                    [
                        .. changes
                            .Take(ChangesShownMax)
                            .Select(change => new PropertyPreviewChange(
                                change.Path,
                                PropertyRuleTerms.Text(change.Action),
                                change.Because
                            )),
                    ]
                )
            );
        }
        catch (PropertyRulesUnavailableException exception)
        {
            return Problems.Problem(503, "property_rules_unavailable", exception.Message);
        }
    }

    public static PropertyRuleResponse Answer(StoredPropertyRule rule) =>
        new(
            rule.RuleId,
            rule.Version,
            rule.Property,
            rule.FeatureName,
            PropertyRuleTerms.Text(rule.Action),
            rule.CreatedBy,
            rule.CreatedAt,
            rule.UpdatedAt
        );

    public static PropertyDefaults Answer(StoredPropertyDefaults defaults) =>
        new(
            defaults.Version,
            PropertyRuleTerms.Text(defaults.Default),
            PropertyRuleTerms.Text(defaults.Emails),
            PropertyRuleTerms.Text(defaults.Cards),
            PropertyRuleTerms.Text(defaults.Tokens)
        );

    public static IResult NotFound() =>
        Problems.Problem(404, "not_found", "Your enterprise has no such property rule.");
}
