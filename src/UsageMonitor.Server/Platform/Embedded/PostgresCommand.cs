using System.CommandLine;
using System.Runtime.InteropServices;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>
/// <c>usage-monitor postgres</c>: only the embedded PostgreSQL, for tools and repair while the platform is stopped. Prints
/// its owner's connection string on a line and runs until it is interrupted.
/// </summary>
internal static class PostgresCommand
{
    public static Command Create()
    {
        var data = new Option<string>("--data")
        {
            Description = "The data folder.",
            DefaultValueFactory = _ => "./data",
        };
        var command = new Command(
            "postgres",
            "Runs only the embedded PostgreSQL and prints its connection string, for tools and repair."
        )
        {
            data,
        };
        command.SetAction((parsed, cancellationToken) => RunAsync(parsed.GetRequiredValue(data), cancellationToken));
        return command;
    }

    private static async Task<int> RunAsync(string dataFolder, CancellationToken cancellationToken)
    {
        IConfiguration configuration = new ConfigurationBuilder().AddEnvironmentVariables().Build();
        using ILoggerFactory loggers = LoggerFactory.Create(logging =>
            logging.AddSimpleConsole().AddConsole(console => console.LogToStandardErrorThreshold = LogLevel.Trace)
        );
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            await using EmbeddedPostgres postgres = await EmbeddedPostgres.StartAsync(
                dataFolder,
                PostgresOptions.From(configuration),
                loggers,
                stop.Token
            );
            await Console.Out.WriteLineAsync(postgres.OwnerConnectionString);
            await Task.Delay(Timeout.Infinite, stop.Token);
        }
        catch (OperationCanceledException)
        {
            return 0;
        }
        catch (Exception exception) when (exception is DataFolderInUseException or InvalidOperationException)
        {
            await Console.Error.WriteLineAsync(exception.Message);
            return 1;
        }

        return 0;

        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
        }
    }
}
