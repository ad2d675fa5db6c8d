using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Policies;

/// <summary><c>/v1/admin/policies</c> and <c>/v1/admin/decisions</c>: who may use what, and what was refused.</summary>
internal static class PolicyEndpoints
{
    public static IEndpointRouteBuilder MapPolicyEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/policies").WithTags("Policies");
        group
            .MapPost(
                "",
                (JsonBody<PolicyRequest> body, HttpContext context, PolicyWriter writer, CancellationToken cancel) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.CreateAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.PoliciesWrite)
            .WithName("CreatePolicy")
            .WithSummary("Makes an access policy; within a second every instance obeys it")
            .Produces<PolicyResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(409);
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.PoliciesRead)
            .WithName("ListPolicies")
            .WithSummary("Lists the policies as they were made, and the default")
            .Produces<PolicyListResponse>()
            .ProducesProblem(400);
        group
            .MapGet("/{id:guid}", GetAsync)
            .RequirePermission(Permissions.PoliciesRead)
            .WithName("GetPolicy")
            .WithSummary("A policy")
            .Produces<PolicyResponse>()
            .ProducesProblem(404);
        group
            .MapPut(
                "/{id:guid}",
                (
                    Guid id,
                    JsonBody<PolicyRequest> body,
                    HttpContext context,
                    PolicyWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.ChangeAsync(context.GetCaller(), id, body.Value, cancel)
            )
            .RequirePermission(Permissions.PoliciesWrite)
            .WithName("ChangePolicy")
            .WithSummary("Changes a policy as a whole; every version is kept for those it refuses")
            .Produces<PolicyResponse>()
            .ProducesProblem(400)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete(
                "/{id:guid}",
                (Guid id, HttpContext context, PolicyWriter writer, CancellationToken cancel) =>
                    writer.DeleteAsync(context.GetCaller(), id, cancel)
            )
            .RequirePermission(Permissions.PoliciesWrite)
            .WithName("DeletePolicy")
            .WithSummary("Ends a policy")
            .Produces(204)
            .ProducesProblem(404);
        group
            .MapPut(
                "/default",
                (
                    JsonBody<PolicyDefaultRequest> body,
                    HttpContext context,
                    PolicyWriter writer,
                    CancellationToken cancel
                ) =>
                    body.Problem is { } problem
                        ? Task.FromResult(problem)
                        : writer.SetDefaultAsync(context.GetCaller(), body.Value, cancel)
            )
            .RequirePermission(Permissions.PoliciesWrite)
            .WithName("SetPolicyDefault")
            .WithSummary("Says what happens when no policy says anything")
            .Produces(204)
            .ProducesProblem(400);
        SimulateEndpoint.Map(group);
        DecisionEndpoints.Map(routes);
        return routes;
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        string? after,
        string? limit,
        CancellationToken cancellationToken
    ) =>
        PageQuery.Read("after", after, limit, out PageQuery page) is { } problem
            ? problem
            : Results.Ok(
                await ReadAsync(
                    context,
                    database,
                    enterprises,
                    page.Beyond ?? Guid.Empty,
                    page.Limit,
                    cancellationToken
                )
            );

    private const string ReadDefault = "SELECT policy_default FROM enterprises WHERE enterprise_id = $1";

    private const string ReadPolicies = """
        SELECT policy_id, version, name, effect, document::text, status, created_by, created_at, updated_at FROM policies
        WHERE enterprise_id = $1 AND policy_id > $2 ORDER BY policy_id LIMIT $3
        """;

    /// <summary>A page of the policies; also the web page's.</summary>
    internal static async Task<PolicyListResponse> ReadAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        Guid after,
        int limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        string byDefault;
        await using (NpgsqlCommand read = own.Command(ReadDefault, enterprise.EnterpriseId))
        {
            byDefault = (string)(await read.ExecuteScalarAsync(cancellationToken))!;
        }

        var policies = new List<PolicyResponse>();
        await using NpgsqlCommand command = own.Command(ReadPolicies, enterprise.EnterpriseId, after, limit + 1);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            policies.Add(PolicyAnswers.Of(PolicyStore.Read(reader, first: 0), enterprise));
        }

        bool hasMore = policies.Count > limit;
        return new PolicyListResponse(
            byDefault,
            hasMore ? policies[..limit] : policies,
            hasMore ? policies[limit - 1].PolicyId : null
        );
    }

    private const string ReadPolicy = """
        SELECT policy_id, version, name, effect, document::text, status, created_by, created_at, updated_at FROM policies
        WHERE enterprise_id = $1 AND policy_id = $2
        """;

    internal static async Task<IResult> GetAsync(
        Guid id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await using NpgsqlCommand command = own.Command(ReadPolicy, enterprise.EnterpriseId, id);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken)
            ? Results.Ok(PolicyAnswers.Of(PolicyStore.Read(reader, first: 0), enterprise))
            : Problems.Problem(404, "not_found", "Your enterprise has no such policy.");
    }
}
