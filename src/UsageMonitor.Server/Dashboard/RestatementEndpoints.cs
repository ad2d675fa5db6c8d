using Npgsql;
using NpgsqlTypes;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Dashboard;

/// <summary><c>/v1/dashboard/restatements</c>: which days' figures changed after they were reported.</summary>
internal static class RestatementEndpoints
{
    private const string ListRestatements = """
        SELECT restatement_id, day_start, feature_name, value_before, value_after, cause, first_at, last_at
          FROM usage_restatements
         WHERE enterprise_id = $1 AND day_start >= $2 AND day_start < $3
           AND ($4::text IS NULL OR feature_name = $4)
           AND ($5::uuid IS NULL OR restatement_id < $5)
         ORDER BY restatement_id DESC
         LIMIT $6
        """;

    public static void MapRestatementEndpoints(this IEndpointRouteBuilder routes) =>
        routes
            .MapGet("/v1/dashboard/restatements", ListAsync)
            .WithTags("Dashboard")
            .WithName("ListRestatements")
            .WithSummary("Lists the days whose figures changed after they were reported: before, after and why")
            .Produces<RestatementListResponse>()
            .ProducesProblem(400)
            .RequirePermission(Permissions.UsageRead);

    /// <param name="context">Whose.</param>
    /// <param name="database">Where they are.</param>
    /// <param name="enterprises">Knows the zone.</param>
    /// <param name="time">The clock.</param>
    /// <param name="feature">Of this feature only; <c>*</c>: of all features together only; both kinds when absent.</param>
    /// <param name="from">The first local day.</param>
    /// <param name="to">The local day after the last.</param>
    /// <param name="before">The <c>next</c> of an earlier answer.</param>
    /// <param name="limit">Rows.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        TimeProvider time,
        string? feature,
        string? from,
        string? to,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        if (PageQuery.Read("before", before, limit, out PageQuery page) is { } problem)
        {
            return problem;
        }

        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (LocalDays.Parse(from, to, enterprise, time.GetUtcNow(), out string error) is not { } range)
        {
            return Problems.Problem(400, "invalid_request", error);
        }

        var local = new LocalTime(enterprise.TimeZone);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await using NpgsqlCommand command = own.Command(
            ListRestatements,
            enterprise.EnterpriseId,
            local.DayStart(range.From),
            local.DayStart(range.To)
        );
        string? name =
            string.IsNullOrEmpty(feature) ? null
            : feature == "*" ? ""
            : feature;
        command.Parameters.Add(Nullable(name, NpgsqlDbType.Text));
        command.Parameters.Add(Nullable(page.Beyond, NpgsqlDbType.Uuid));
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = page.Limit + 1 });
        var found = new List<RestatementSummary>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add(
                new RestatementSummary(
                    reader.GetGuid(0),
                    local.DateOf(reader.GetFieldValue<DateTime>(1)),
                    reader.GetString(2) is { Length: > 0 } named ? named : null,
                    reader.GetInt64(3),
                    reader.GetInt64(4),
                    reader.GetString(5),
                    local.Show(reader.GetFieldValue<DateTime>(6)),
                    local.Show(reader.GetFieldValue<DateTime>(7))
                )
            );
        }

        bool hasMore = found.Count > page.Limit;
        return Results.Ok(
            new RestatementListResponse(
                [.. found.Take(page.Limit)],
                hasMore ? found[page.Limit - 1].RestatementId : null
            )
        );

        static NpgsqlParameter Nullable(object? value, NpgsqlDbType type) =>
            new() { Value = value ?? DBNull.Value, NpgsqlDbType = type };
    }
}
