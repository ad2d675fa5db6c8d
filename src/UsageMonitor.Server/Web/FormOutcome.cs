using Microsoft.AspNetCore.Http.HttpResults;

namespace UsageMonitor.Server.Web;

/// <summary>What an API handler answered to a form: a value, or what is wrong in words for the person.</summary>
internal sealed record FormOutcome<T>(T? Value, string? Error, int StatusCode)
    where T : class;

internal static class FormOutcome
{
    /// <summary>The pages call the API's handlers, so that a rule stands in one place, and show their answers as people read them.</summary>
    public static FormOutcome<T> Of<T>(IResult result)
        where T : class =>
        result switch
        {
            IValueHttpResult { Value: T value } => new FormOutcome<T>(value, null, StatusCodes.Status200OK),
            ProblemHttpResult problem => new FormOutcome<T>(null, Sentence(problem), problem.StatusCode),
            _ => throw new InvalidOperationException($"A form cannot show {result.GetType().Name}."),
        };

    /// <summary>A problem's stable code.</summary>
    public static string? Code(ProblemHttpResult problem) =>
        problem.ProblemDetails.Extensions.TryGetValue("code", out object? code) ? code as string : null;

    /// <summary>What is wrong, as a sentence.</summary>
    public static string Sentence(ProblemHttpResult problem) =>
        problem.ProblemDetails.Detail is { Length: > 0 } detail
            ? char.ToUpperInvariant(detail[0]) + detail[1..]
            : "That did not work.";
}
