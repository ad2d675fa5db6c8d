using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

/// <summary>Who may call what is on one page, and changes only on purpose.</summary>
public sealed class EndpointManifestTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Path = "tests/UsageMonitor.Tests/Api/endpoints.snapshot.txt";

    [Fact]
    public void Endpoints_WhenListed_ShouldMatchTheSnapshot() =>
        Snapshot.AssertMatches(Path, string.Join('\n', Routes().Select(Line).Order(StringComparer.Ordinal).Distinct()));

    [Fact]
    public void Endpoints_WhenListed_ShouldEachNameAPermission() =>
        Assert.Empty(Routes().Where(route => route.Metadata.GetMetadata<PermissionMetadata>() is null).Select(Line));

    private IEnumerable<RouteEndpoint> Routes() =>
        fixture.Server.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>();

    private static string Line(RouteEndpoint route)
    {
        string methods = route.Metadata.GetMetadata<HttpMethodMetadata>() is { HttpMethods.Count: > 0 } method
            ? string.Join(',', method.HttpMethods)
            : "*";
        string permission =
            route.Metadata.GetMetadata<PermissionMetadata>()?.Permission ?? "(none: refused to everybody)";
        return $"{"/" + route.RoutePattern.RawText!.TrimStart('/'), -50} {methods, -12} {permission}";
    }
}
