using System.Reflection;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.Metadata;

namespace UsageMonitor.Server.Platform;

/// <summary>As <see cref="JsonBody{T}"/>, of an endpoint that works without a body too.</summary>
/// <param name="Value">The body; null when there is none.</param>
/// <param name="Problem">The 400 or 413 to answer instead, or null.</param>
internal sealed record OptionalJsonBody<T>(T? Value, IResult? Problem) : IEndpointParameterMetadataProvider
    where T : class
{
    public static async ValueTask<OptionalJsonBody<T>> BindAsync(HttpContext context)
    {
        if (context.Features.Get<IHttpRequestBodyDetectionFeature>() is { CanHaveBody: false })
        {
            return new OptionalJsonBody<T>(null, null);
        }

        JsonBody<T> body = await JsonBody<T>.BindAsync(context);
        return new OptionalJsonBody<T>(body.Value, body.Problem);
    }

    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder) =>
        builder.Metadata.Add(new AcceptsMetadata(["application/json"], typeof(T), isOptional: true));
}
