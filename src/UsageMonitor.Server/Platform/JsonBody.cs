using System.Reflection;
using System.Text.Json;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.Metadata;
using Microsoft.Extensions.Options;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// A small JSON body as an endpoint's parameter. Unlike the framework's own binding it answers a malformed body with a
/// problem that says where it is wrong.
/// </summary>
/// <param name="Value">The body; not null when there is no problem.</param>
/// <param name="Problem">The 400 or 413 to answer instead, or null.</param>
internal sealed record JsonBody<T>(T Value, IResult? Problem) : IEndpointParameterMetadataProvider
    where T : class
{
    public const int BodyBytesMax = 64 * 1024;

    public static async ValueTask<JsonBody<T>> BindAsync(HttpContext context)
    {
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = BodyBytesMax;
        }

        if (context.Request.ContentLength > BodyBytesMax)
        {
            return Refused(TooLarge);
        }

        try
        {
            JsonSerializerOptions options = context
                .RequestServices.GetRequiredService<IOptions<Microsoft.AspNetCore.Http.Json.JsonOptions>>()
                .Value.SerializerOptions;
            T? value = await JsonSerializer.DeserializeAsync<T>(context.Request.Body, options, context.RequestAborted);
            return value is null
                ? Refused(Problems.Problem(400, "invalid_request", "The body must be a JSON object."))
                : new JsonBody<T>(value, null);
        }
        catch (JsonException exception)
        {
            string where = exception.Path is { Length: > 0 } path ? $"at {path}" : "from its beginning";
            return Refused(
                Problems.Problem(400, "invalid_request", $"The body is not the JSON that was expected {where}.")
            );
        }
        catch (BadHttpRequestException exception) when (exception.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            return Refused(TooLarge);
        }
    }

    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder) =>
        builder.Metadata.Add(new AcceptsMetadata(["application/json"], typeof(T)));

    private static IResult TooLarge =>
        Problems.Problem(413, "body_too_large", $"The body may have {BodyBytesMax} bytes at most.");

    private static JsonBody<T> Refused(IResult problem) => new(null!, problem);
}
