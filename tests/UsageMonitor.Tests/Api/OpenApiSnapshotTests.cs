using System.Text.Json;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Api;

public sealed class OpenApiSnapshotTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task OpenApi_WhenAsked_ShouldMatchTheSnapshot() =>
        Snapshot.AssertMatches("api/openapi.json", await ReadAsync());

    [Fact]
    public async Task OpenApi_WhenAsked_ShouldNameEveryOperationOnceAndAnswerErrorsAsProblems()
    {
        using var document = JsonDocument.Parse(await ReadAsync());
        JsonElement[] operations =
        [
            .. document
                .RootElement.GetProperty("paths")
                .EnumerateObject()
                .SelectMany(path => path.Value.EnumerateObject())
                .Select(method => method.Value),
        ];

        string[] names = [.. operations.Select(operation => operation.GetProperty("operationId").GetString()!)];
        Assert.Equal(names.Length, names.Distinct().Count());
        Assert.All(operations, operation => Assert.NotEmpty(operation.GetProperty("tags").EnumerateArray()));
        Assert.All(
            operations
                .SelectMany(operation => operation.GetProperty("responses").EnumerateObject())
                .Where(response => response.Name[0] is '4' or '5'),
            response =>
            {
                // SCIM's own form (RFC 7644, 3.12) on its own paths.
                JsonElement content = response.Value.GetProperty("content");
                Assert.True(
                    content.TryGetProperty("application/problem+json", out _)
                        || content.TryGetProperty("application/scim+json", out _)
                );
            }
        );
    }

    private Task<string> ReadAsync() =>
        fixture.Server.Client.GetStringAsync("/openapi/v1.json", TestContext.Current.CancellationToken);
}
