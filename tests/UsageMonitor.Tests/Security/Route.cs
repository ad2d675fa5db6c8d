using System.Reflection;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Patterns;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web;

namespace UsageMonitor.Tests.Security;

/// <summary>An address and a method that the server answers.</summary>
/// <param name="Method">One; an endpoint that takes several is several routes.</param>
/// <param name="Pattern">As mapped, without a slash at its end.</param>
/// <param name="Permission">What it demands, or null: refused to everybody.</param>
/// <param name="IsPage">Whether its answers are for people.</param>
/// <param name="Endpoint">What answers.</param>
internal sealed record Route(string Method, string Pattern, string? Permission, bool IsPage, RouteEndpoint Endpoint)
{
    /// <summary><c>DELETE /v1/admin/api-keys/{id:guid}</c>: how tables of tests name it.</summary>
    public string Name => $"{Method} {Pattern}";

    public bool IsAnonymous => Permission == Permissions.Anonymous;

    public bool Changes => Method is not ("GET" or "HEAD");

    /// <summary>The pattern's parameters, each with whether only a UUID matches it.</summary>
    public IReadOnlyList<(string Name, bool IsUuid)> Parameters =>
        [
            .. Endpoint.RoutePattern.Parameters.Select(parameter =>
                (parameter.Name, parameter.ParameterPolicies.Any(policy => policy.Content == "guid"))
            ),
        ];

    /// <summary>Whether an HTML form is what it takes.</summary>
    public bool TakesForm => FormFields.Count > 0 || (IsPage && Changes);

    /// <summary>Names of a form's fields.</summary>
    public IReadOnlyList<string> FormFields =>
        [.. Handler.Where(parameter => Has<FromFormAttribute>(parameter)).Select(parameter => parameter.Name!)];

    /// <summary>Names of the query's parameters.</summary>
    public IReadOnlyList<string> QueryParameters =>
        [
            .. Handler
                .Where(parameter =>
                    Has<FromQueryAttribute>(parameter)
                    || (
                        !parameter
                            .GetCustomAttributes()
                            .Any(attribute => attribute is not System.Runtime.CompilerServices.NullableAttribute)
                        && IsSimple(parameter.ParameterType)
                        && Parameters.All(known => known.Name != parameter.Name)
                    )
                )
                .Select(parameter => parameter.GetCustomAttribute<FromQueryAttribute>()?.Name ?? parameter.Name!),
        ];

    /// <summary>The type of the JSON body, or null: none that the handler's signature tells.</summary>
    public Type? BodyType => TakesForm ? null : JsonType;

    private Type? JsonType =>
        Handler
            .Select(parameter => parameter.ParameterType)
            .FirstOrDefault(type => type.IsGenericType && type.GetGenericTypeDefinition() == typeof(JsonBody<>))
            ?.GetGenericArguments()[0]
        ?? Endpoint.Metadata.GetMetadata<Microsoft.AspNetCore.Http.Metadata.IAcceptsMetadata>()?.RequestType;

    private IEnumerable<ParameterInfo> Handler => Endpoint.Metadata.GetMetadata<MethodInfo>()?.GetParameters() ?? [];

    /// <summary>The address with its parameters filled in; an optional one is left out unless given.</summary>
    public string Path(Func<string, string> value) =>
        "/"
        + string.Join(
            '/',
            Endpoint.RoutePattern.PathSegments.Select(segment =>
                string.Concat(
                    segment.Parts.Select(part =>
                        part switch
                        {
                            RoutePatternLiteralPart literal => literal.Content,
                            RoutePatternSeparatorPart separator => separator.Content,
                            RoutePatternParameterPart parameter => Uri.EscapeDataString(value(parameter.Name)),
                            _ => "",
                        }
                    )
                )
            )
        );

    /// <summary>The address with parameters that name nothing there is.</summary>
    public string PathToNothing() =>
        Path(name =>
            Parameters.First(known => known.Name == name).IsUuid ? Guid.NewGuid().ToString() : NothingCalled(name)
        );

    private static string NothingCalled(string parameter) =>
        parameter == "documentName" ? "v1"
        : parameter.EndsWith("Id", StringComparison.OrdinalIgnoreCase) ? Guid.NewGuid().ToString()
        : "nothing";

    /// <summary>All routes of a server.</summary>
    public static IReadOnlyList<Route> Of(IServiceProvider services) =>
        [
            .. services
                .GetRequiredService<EndpointDataSource>()
                .Endpoints.OfType<RouteEndpoint>()
                .SelectMany(endpoint =>
                    MethodsOf(endpoint)
                        .Select(method => new Route(
                            method,
                            "/" + endpoint.RoutePattern.RawText!.Trim('/'),
                            endpoint.Metadata.GetMetadata<PermissionMetadata>()?.Permission,
                            endpoint.Metadata.GetMetadata<PageMetadata>() is not null,
                            endpoint
                        ))
                )
                .DistinctBy(route => route.Name)
                .OrderBy(route => route.Pattern, StringComparer.Ordinal)
                .ThenBy(route => route.Method, StringComparer.Ordinal),
        ];

    public override string ToString() => Name;

    private static IReadOnlyList<string> MethodsOf(RouteEndpoint endpoint) =>
        endpoint.Metadata.GetMetadata<HttpMethodMetadata>() is { HttpMethods.Count: > 0 } methods
            ? methods.HttpMethods
            : ["GET", "POST"];

    private static bool Has<T>(ParameterInfo parameter)
        where T : Attribute => parameter.GetCustomAttribute<T>() is not null;

    private static bool IsSimple(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(string)
            || type.IsPrimitive
            || type.IsEnum
            || type == typeof(Guid)
            || type == typeof(DateTimeOffset)
            || type == typeof(DateOnly)
            || type == typeof(string[])
            || type == typeof(Guid[]);
    }
}
