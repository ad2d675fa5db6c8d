using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary><c>/v1/dashboard/events</c>: the events themselves, live and archived.</summary>
internal static class EventEndpoints
{
    /// <summary>Events of one page.</summary>
    public const int PageMax = 500;
    private const int PageDefault = 100;
    private const int GroupsDefault = 100;

    /// <summary>Seconds of one question.</summary>
    private const int SecondsMax = 60;

    public static void MapEventEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder events = routes
            .MapGroup("/v1/dashboard/events")
            .WithTags("Events")
            .RequirePermission(Permissions.UsageRead);
        events
            .MapGet("", ListAsync)
            .WithName("ListEvents")
            .WithSummary("Lists stored events, the newest first, archived ones too")
            .Produces<StoredEventsResponse>()
            .ProducesProblem(400)
            .ProducesProblem(503);
        events
            .MapGet("/groups", GroupAsync)
            .WithName("GroupEvents")
            .WithSummary("Counts events by feature, user, type, day, hour or property:name")
            .Produces<EventGroupsResponse>()
            .ProducesProblem(400)
            .ProducesProblem(503);
        events
            .MapGet("/export", ExportAsync)
            .WithName("ExportEvents")
            .WithSummary("Streams events, the oldest first, as NDJSON or CSV")
            .Produces(200, contentType: "application/x-ndjson", additionalContentTypes: "text/csv")
            .ProducesProblem(400)
            .ProducesProblem(503);
    }

    private static async Task<IResult> ListAsync(
        [AsParameters] EventQuery query,
        HttpContext context,
        EnterpriseDirectory enterprises,
        ArchiveReader reader,
        ReadingPlaces places,
        Database database,
        TimeProvider time,
        string? before,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (query.Read(enterprise, time.GetUtcNow(), out string error) is not { } filter)
        {
            return Invalid(error);
        }

        if (!EventCursor.TryParse(before, out EventCursor? cursor))
        {
            return Invalid("before: must be what `next` has given.");
        }

        if (!EventQuery.TryLimit(limit, PageDefault, PageMax, out int rows))
        {
            return Invalid($"limit: must be 1 to {PageMax}.");
        }

        return await AnswerAsync(
            places,
            enterprise,
            time,
            async token =>
            {
                ArchiveReader.Page page = await reader.PageAsync(enterprise, filter, cursor, rows, token);
                Dictionary<Guid, string> names = await ReadNamesAsync(
                    database,
                    enterprise,
                    page.Events.Select(one => one.UserId),
                    token
                );
                return Results.Ok(
                    new StoredEventsResponse(
                        [.. page.Events.Select(one => Show(enterprise, one, names[one.UserId]))],
                        page.Next?.ToString()
                    )
                );
            },
            cancellationToken
        );
    }

    private static async Task<IResult> GroupAsync(
        [AsParameters] EventQuery query,
        HttpContext context,
        EnterpriseDirectory enterprises,
        EventGroups groups,
        ReadingPlaces places,
        Database database,
        TimeProvider time,
        string? by,
        string? limit,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (!GroupKey.TryParse(by, out GroupKey key))
        {
            return Invalid(
                $"by: must be {string.Join(", ", GroupKey.Kinds)} or {GroupKey.PropertyPrefix}name.name, at most {GroupKey.DepthMax} names."
            );
        }

        int daysMax = key.Kind == GroupKey.Hour ? LocalDays.HourlyDaysMax : EventQuery.DaysMax;
        if (query.Read(enterprise, time.GetUtcNow(), out string error, daysMax) is not { } filter)
        {
            return Invalid(error);
        }

        if (!EventQuery.TryLimit(limit, GroupsDefault, EventGroups.GroupsMax, out int rows))
        {
            return Invalid($"limit: must be 1 to {EventGroups.GroupsMax}.");
        }

        return await AnswerAsync(
            places,
            enterprise,
            time,
            async token =>
            {
                EventGroups.Outcome found = await groups.CountAsync(enterprise, filter, key, rows, token);
                Dictionary<Guid, string>? names =
                    key.Kind == GroupKey.User
                        ? await ReadNamesAsync(
                            database,
                            enterprise,
                            found.Groups.Select(group => Guid.Parse(group.Key)),
                            token
                        )
                        : null;
                return Results.Ok(
                    new EventGroupsResponse(
                        [
                            .. found.Groups.Select(group => new StoredEventGroup(
                                names is null ? group.Key : names[Guid.Parse(group.Key)],
                                group.Events
                            )),
                        ],
                        found.Total,
                        found.Count
                    )
                );
            },
            cancellationToken
        );
    }

    private static async Task<IResult> ExportAsync(
        [AsParameters] EventQuery query,
        HttpContext context,
        EnterpriseDirectory enterprises,
        ArchiveReader reader,
        ReadingPlaces places,
        Database database,
        TimeProvider time,
        string? format,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfCallerAsync(context, cancellationToken);
        if (query.Read(enterprise, time.GetUtcNow(), out string error) is not { } filter)
        {
            return Invalid(error);
        }

        if (format is not (null or "" or EventExport.Ndjson or EventExport.Csv))
        {
            return Invalid($"format: must be {EventExport.Ndjson} or {EventExport.Csv}.");
        }

        if (places.TryTake(enterprise.EnterpriseId) is not { } place)
        {
            return Busy();
        }

        bool isCsv = format == EventExport.Csv;
        context.Response.Headers.ContentDisposition =
            $"attachment; filename=\"events-{filter.From:yyyy-MM-dd}-{filter.To:yyyy-MM-dd}.{(isCsv ? "csv" : "ndjson")}\"";
        return Results.Stream(
            async body =>
            {
                using IDisposable held = place;
                await using var export = new EventExport(body, isCsv, new LocalTime(enterprise.TimeZone));
                await foreach (
                    IReadOnlyList<ArchivedEvent> chunk in reader.StreamAsync(enterprise, filter, context.RequestAborted)
                )
                {
                    Dictionary<Guid, string> names = await ReadNamesAsync(
                        database,
                        enterprise,
                        chunk.Select(one => one.UserId),
                        context.RequestAborted
                    );
                    await export.WriteAsync(chunk, names, context.RequestAborted);
                }
            },
            isCsv ? "text/csv; charset=utf-8" : "application/x-ndjson; charset=utf-8"
        );
    }

    private static async Task<IResult> AnswerAsync(
        ReadingPlaces places,
        EnterpriseInfo enterprise,
        TimeProvider time,
        Func<CancellationToken, Task<IResult>> answerAsync,
        CancellationToken cancellationToken
    )
    {
        using IDisposable? place = places.TryTake(enterprise.EnterpriseId);
        if (place is null)
        {
            return Busy();
        }

        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(SecondsMax), time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        try
        {
            return await answerAsync(either.Token);
        }
        catch (Exception exception)
            when (deadline.IsCancellationRequested
                && !cancellationToken.IsCancellationRequested
                && exception is (OperationCanceledException or DuckDB.NET.Data.DuckDBException)
            )
        {
            return Problems.Problem(
                503,
                "question_too_large",
                $"It could not be answered within {SecondsMax} seconds: ask for fewer days."
            );
        }
    }

    private static async Task<Dictionary<Guid, string>> ReadNamesAsync(
        Database database,
        EnterpriseInfo enterprise,
        IEnumerable<Guid> users,
        CancellationToken cancellationToken
    )
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        return await new LimitUsageReader(own, enterprise.EnterpriseId).ReadNamesAsync(
            [.. users.Distinct()],
            enterprise,
            cancellationToken
        );
    }

    private static StoredEvent Show(EnterpriseInfo enterprise, in ArchivedEvent one, string user)
    {
        var local = new LocalTime(enterprise.TimeZone);
        return new StoredEvent(
            one.EventId,
            user,
            one.FeatureName,
            one.EventType,
            local.Show(one.Timestamp),
            local.Show(one.ReceivedAt),
            one.Properties is null ? null : JsonSerializer.Deserialize<JsonElement>(one.Properties)
        );
    }

    private static IResult Busy() =>
        Problems.Problem(
            503,
            "too_many_questions",
            "Too many questions about events are being answered: try again soon."
        );

    private static IResult Invalid(string error) => Problems.Problem(400, "invalid_request", error);
}

/// <summary>How many may read events at once: each takes memory and a core.</summary>
internal sealed class ReadingPlaces
{
    public const int PlacesMax = 8;

    /// <summary>Of one enterprise, so that it leaves room for the others.</summary>
    public const int PlacesOfEnterpriseMax = 3;

    private readonly Lock _lock = new();
    private readonly Dictionary<Guid, int> _taken = [];
    private int _all;

    /// <returns>A place to be given back, or null when there is none.</returns>
    public IDisposable? TryTake(Guid enterpriseId)
    {
        lock (_lock)
        {
            int own = _taken.GetValueOrDefault(enterpriseId);
            if (_all == PlacesMax || own == PlacesOfEnterpriseMax)
            {
                return null;
            }

            _all++;
            _taken[enterpriseId] = own + 1;
            return new Held(this, enterpriseId);
        }
    }

    private sealed class Held(ReadingPlaces places, Guid enterpriseId) : IDisposable
    {
        private ReadingPlaces? _places = places;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _places, null) is { } held)
            {
                lock (held._lock)
                {
                    held._all--;
                    if (--held._taken[enterpriseId] == 0)
                    {
                        held._taken.Remove(enterpriseId);
                    }
                }
            }
        }
    }
}
