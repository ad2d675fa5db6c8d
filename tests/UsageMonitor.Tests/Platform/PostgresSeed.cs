using System.Diagnostics;
using UsageMonitor.Server.Platform.Embedded;
using Xunit;

namespace UsageMonitor.Tests.Platform;

/// <summary>A data folder whose cluster was made once, to copy: making one takes a second and much of the disk.</summary>
[CollectionDefinition(nameof(PostgresSeed))]
public sealed class PostgresSeed : IAsyncLifetime, ICollectionFixture<PostgresSeed>
{
    private readonly string _root = Directory.CreateTempSubdirectory("usage-monitor-seed-").FullName;

    private string Data => Path.Combine(_root, "data");

    public async ValueTask InitializeAsync()
    {
        await using EmbeddedPostgres postgres = await EmbeddedPostgresTests.StartAsync(Data);
    }

    public async Task CopyToAsync(string data)
    {
        using Process copy = Process.Start("cp", ["-a", Data, data]);
        await copy.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, copy.ExitCode);
    }

    public ValueTask DisposeAsync()
    {
        Remove(_root, Data);
        return ValueTask.CompletedTask;
    }

    /// <summary>Removes a test's folder, and the socket's, which a killed process leaves.</summary>
    internal static void Remove(string root, string data)
    {
        new PostgresFolder(data, PostgresAccount.Choose(null)).RemoveSocketFolder();
        Directory.Delete(root, recursive: true);
    }
}
