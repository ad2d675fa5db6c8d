using Microsoft.AspNetCore.Mvc;

namespace UsageMonitor.Server.Platform;

/// <summary>Errors to callers: RFC 9457 problem details with a stable <c>code</c>.</summary>
internal static class Problems
{
    /// <param name="status">The HTTP status.</param>
    /// <param name="code">Stable, snake_case, for programs.</param>
    /// <param name="detail">For people: what happened and what to do.</param>
    public static IResult Problem(int status, string code, string detail) =>
        Results.Problem(detail, statusCode: status, extensions: new Dictionary<string, object?> { ["code"] = code });

    /// <summary>Writes a problem straight to the response, for middleware.</summary>
    public static Task WriteProblemAsync(this HttpContext context, int status, string code, string detail)
    {
        context.Response.StatusCode = status;
        var problem = new ProblemDetails
        {
            Status = status,
            Title = Microsoft.AspNetCore.WebUtilities.ReasonPhrases.GetReasonPhrase(status),
            Detail = detail,
        };
        problem.Extensions["code"] = code;
        return context.Response.WriteAsJsonAsync(
            problem,
            options: null,
            contentType: "application/problem+json",
            context.RequestAborted
        );
    }
}
