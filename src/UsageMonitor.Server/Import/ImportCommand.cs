using System.CommandLine;
using System.Globalization;

namespace UsageMonitor.Server.Import;

/// <summary><c>usage-monitor import FILE…</c>: sends files of events to a running platform.</summary>
internal static class ImportCommand
{
    public const int ExitAllAccepted = 0;
    public const int ExitSomeRejected = 1;
    public const int ExitFailed = 2;

    private const string KeyVariable = "USAGEMONITOR_API_KEY";
    private const int BatchEventsDefault = 500;

    /// <summary>What the server takes in one request.</summary>
    private const int BatchEventsMax = 10_000;
    private const int ConcurrencyDefault = 4;
    private const int ConcurrencyMax = 64;
    private const int GiveUpSecondsDefault = 120;
    private const int GiveUpSecondsMax = 86_400;

    /// <param name="time">The clock of waits between attempts; the system's unless a test brings its own.</param>
    public static Command Create(TimeProvider? time = null)
    {
        var files = new Argument<string[]>("FILE")
        {
            Description = "Files of one JSON event a line, plain or gzip; - is standard input.",
            Arity = ArgumentArity.OneOrMore,
        };
        var url = new Option<string>("--url")
        {
            Description = "Where the platform answers.",
            DefaultValueFactory = _ => "http://127.0.0.1:8080",
        };
        var key = new Option<string?>("--api-key")
        {
            Description = $"A key with usage:write (and usage:backfill for old events); or set {KeyVariable}.",
        };
        Option<int> batch = Number("--batch", "Events in a request.", BatchEventsDefault, BatchEventsMax);
        Option<int> concurrency = Number("--concurrency", "Requests at a time.", ConcurrencyDefault, ConcurrencyMax);
        Option<int> giveUp = Number(
            "--give-up-after",
            "Seconds one batch is tried again while the server is busy or away.",
            GiveUpSecondsDefault,
            GiveUpSecondsMax
        );
        var state = new Option<string?>("--state")
        {
            Description = "Where to keep what has been acknowledged; beside each input as .import-state by default.",
        };
        var restart = new Option<bool>("--restart") { Description = "Begin again, whatever was acknowledged before." };

        var command = new Command(
            "import",
            "Sends files of events. Stopped or failed, run it again: it continues after what was acknowledged. "
                + "Exit code 0: all accepted; 1: some rejected; 2: not finished."
        )
        {
            files,
            url,
            key,
            batch,
            concurrency,
            giveUp,
            state,
            restart,
        };
        command.SetAction(
            async (parsed, cancel) =>
            {
                TextWriter error = parsed.InvocationConfiguration.Error;
                string? secret = parsed.GetValue(key) ?? Environment.GetEnvironmentVariable(KeyVariable);
                if (string.IsNullOrWhiteSpace(secret) || secret.Any(letter => letter is <= ' ' or > '~'))
                {
                    await error.WriteLineAsync(
                        $"import: give a well-formed API key with --api-key or in {KeyVariable}."
                    );
                    return ExitFailed;
                }

                if (
                    !Uri.TryCreate(parsed.GetRequiredValue(url).TrimEnd('/') + '/', UriKind.Absolute, out Uri? platform)
                    || platform.Scheme is not ("http" or "https")
                )
                {
                    await error.WriteLineAsync("import: --url must be an absolute http or https address.");
                    return ExitFailed;
                }

                using var sender = new BatchSender(
                    platform,
                    secret,
                    TimeSpan.FromSeconds(parsed.GetValue(giveUp)),
                    time ?? TimeProvider.System
                );
                bool terminal = ReferenceEquals(error, Console.Error) && !Console.IsErrorRedirected;
                var run = new ImportRun(
                    sender,
                    new ImportRunOptions(
                        parsed.GetValue(batch),
                        parsed.GetValue(concurrency),
                        parsed.GetValue(restart)
                    ),
                    parsed.InvocationConfiguration.Output,
                    error,
                    terminal
                );
                return await run.RunAsync(parsed.GetRequiredValue(files), parsed.GetValue(state), cancel);
            }
        );
        return command;
    }

    private static Option<int> Number(string name, string description, int fallback, int max)
    {
        var option = new Option<int>(name)
        {
            Description = string.Create(CultureInfo.InvariantCulture, $"{description} At most {max:N0}."),
            DefaultValueFactory = _ => fallback,
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && result.GetValueOrDefault<int>() is int value && (value < 1 || value > max))
            {
                result.AddError($"{name} must be a whole number from 1 to {max}.");
            }
        });
        return option;
    }
}
