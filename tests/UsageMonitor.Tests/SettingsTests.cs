using Microsoft.Extensions.Configuration;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests;

public sealed class SettingsTests
{
    [Fact]
    public void Load_WhenSeveralAreWrong_ShouldNameEveryError()
    {
        IConfiguration configuration = new ConfigurationBuilder()
            .AddInMemoryCollection([new("Port", "http"), new("Roles", "gateway,kitchen"), new("MasterKey", "short")])
            .Build();

        SettingsException exception = Assert.Throws<SettingsException>(() => ServerSettings.Load(configuration));

        Assert.Contains("Port: 'http'", exception.Message, StringComparison.Ordinal);
        Assert.Contains("'kitchen'", exception.Message, StringComparison.Ordinal);
        Assert.Contains("MasterKey", exception.Message, StringComparison.Ordinal);
    }
}
