using Microsoft.AspNetCore.Http.HttpResults;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary>What goes wrong on the way to a page is answered to a person: with a page in the same look.</summary>
/// <remarks>
/// Programs are left alone: an address under <c>/v1</c>, or a request that does not ask for HTML, keeps its problem details.
/// Pages are rendered whole and are small, so an answer is held back until it is known which of the two it is.
/// </remarks>
internal sealed partial class PageErrors(RequestDelegate next, ILogger<PageErrors> logger)
{
    public Task InvokeAsync(HttpContext context) => IsForPerson(context.Request) ? AnswerAsync(context) : next(context);

    private async Task AnswerAsync(HttpContext context)
    {
        HttpResponse response = context.Response;
        Stream body = response.Body;
        using var held = new MemoryStream();
        response.Body = held;
        int status;
        try
        {
            await next(context);
            status = response.StatusCode;
        }
        catch (Exception exception) when (!context.RequestAborted.IsCancellationRequested)
        {
            PageFailed(exception, context.Request.Method, context.Request.Path);
            status = exception is BadHttpRequestException bad ? bad.StatusCode : 500;
        }
        finally
        {
            response.Body = body;
        }

        if (status < 400 || IsPage(response))
        {
            held.Position = 0;
            await held.CopyToAsync(body, context.RequestAborted);
            return;
        }

        response.ContentLength = null;
        await new RazorComponentResult<ErrorPage>(new { Status = status }) { StatusCode = status }.ExecuteAsync(
            context
        );
    }

    private static bool IsForPerson(HttpRequest request) =>
        !request.Path.StartsWithSegments("/v1", StringComparison.Ordinal)
        && request.Headers.Accept.ToString().Contains("text/html", StringComparison.OrdinalIgnoreCase);

    private static bool IsPage(HttpResponse response) =>
        response.ContentType?.StartsWith("text/html", StringComparison.OrdinalIgnoreCase) == true;

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} {Path} failed.")]
    private partial void PageFailed(Exception exception, string method, string path);
}
