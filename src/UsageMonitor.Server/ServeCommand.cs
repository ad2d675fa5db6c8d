using System.CommandLine;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;

namespace UsageMonitor.Server;

/// <summary><c>usage-monitor serve</c>.</summary>
internal static class ServeCommand
{
    private const int ConfigurationErrorExitCode = 2;

    public static Command Create()
    {
        var port = new Option<int?>("--port")
        {
            Description = $"Where HTTP listens; {ServerSettings.PortDefault} unless told.",
        };
        var data = new Option<string?>("--data")
        {
            Description = "The folder of everything that is kept; ./data unless told.",
        };
        var demo = new Option<bool>("--demo")
        {
            Description = "Creates sample enterprises with history and a gentle live flow.",
        };
        var roles = new Option<string?>("--roles")
        {
            Description =
                "Comma-separated: "
                + string.Join("; ", Roles.Table.Select(role => $"{role.Name} ({role.Summary})"))
                + ".",
        };
        var command = new Command(
            "serve",
            "Runs the platform, or some of its roles. Every setting is also ordinary .NET configuration."
        )
        {
            port,
            data,
            demo,
            roles,
        };
        command.SetAction(
            async (parsed, cancellationToken) =>
            {
                var given = new Dictionary<string, string?>();
                Add("Port", parsed.GetValue(port)?.ToString(System.Globalization.CultureInfo.InvariantCulture));
                Add("Data", parsed.GetValue(data));
                Add("Demo", parsed.GetValue(demo) ? "true" : null);
                Add("Roles", parsed.GetValue(roles));
                return await RunAsync(given, cancellationToken);

                void Add(string key, string? value)
                {
                    if (value is not null)
                    {
                        given[key] = value;
                    }
                }
            }
        );
        return command;
    }

    private static async Task<int> RunAsync(
        IReadOnlyDictionary<string, string?> given,
        CancellationToken cancellationToken
    )
    {
        try
        {
            await using ServerHost host = await ServerHost.StartAsync(given, cancellationToken);
            await host.WaitAsync(cancellationToken);
            return 0;
        }
        catch (Exception exception) when (exception is SettingsException or DataFolderInUseException or StartException)
        {
            await Console.Error.WriteLineAsync(exception.Message);
            return ConfigurationErrorExitCode;
        }
    }
}
