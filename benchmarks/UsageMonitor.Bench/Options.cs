using System.Globalization;

namespace UsageMonitor.Bench;

/// <summary>What to measure and how much of it; <c>./bench --help</c> explains each.</summary>
internal sealed record Options
{
    public const string Usage = """
        usage: ./bench [ingest] [options]
               ./bench active-users [--rounds N] [--quick]   distinct users of 90 days × 10,000 users × 10 features
               ./bench auth [--rounds N] [--quick]           what authentication adds to an ingest request
               ./bench policies [--rounds N] [--quick]       what a decision of the policy engine costs
               ./bench limits [--rounds N] [--quick]         what BLOCK limits cost ingestion, and how fast usage/check decides
               ./bench alerts [--rounds N] [--quick]         from a crossed threshold to the mail in a mail server, under load
               ./bench audit [--rounds N] [--quick]          what an entry of the audit log adds to an act
               ./bench archive [--events N] [--quick]        bytes kept of an event, hot and archived, and how fast days are archived and read
               ./bench anomaly --input DIR --output DIR      what the anomaly detector finds, by the Numenta Anomaly Benchmark

          --rounds N        measured rounds of everything (3)
          --events N        events of a batch round; all are held in memory, 1 KB each (400000)
          --enterprises N   enterprises, in the mission's mix of sizes (1000)
          --seconds N       of a round of single-event requests (10); latency rounds take three times as long, alerts rounds twice
          --only A,B        of: baselines, throughput, singles, latency
          --input DIR       <category>/<name>.csv[.gz] of timestamp,value, with combined_windows.json (there or in labels/) for a score
          --output DIR      where the same files go with timestamp,value,anomaly_score
          --server PATH     usage-monitor.dll (artifacts/bin/UsageMonitor.Server/release)
          --data DIR        where the databases go for the time of the run (a new folder in the temporary one)
          --log-level NAME  of the measured server (Warning)
          --quick           one small round of everything, under a minute: to see that it works, not to quote
        """;

    public static readonly string[] Parts = ["baselines", "throughput", "singles", "latency"];

    public int Rounds { get; init; } = 3;
    public int Events { get; init; } = 400_000;
    public int Enterprises { get; init; } = 1_000;
    public int SingleSeconds { get; init; } = 10;
    public bool Quick { get; init; }

    public const string Ingest = "ingest";

    /// <summary>Distinct users of long ranges.</summary>
    public const string ActiveUsers = "active-users";

    /// <summary>Who calls, and how often they may.</summary>
    public const string Auth = "auth";

    /// <summary>Decisions of the policy engine.</summary>
    public const string Policies = "policies";

    /// <summary>Usage limits, at ingestion and asked in advance.</summary>
    public const string Limits = "limits";

    /// <summary>From a crossed threshold to the mail.</summary>
    public const string Alerts = "alerts";

    /// <summary>What an entry of the audit log costs.</summary>
    public const string Audit = "audit";

    /// <summary>Finished days, from hot rows to sealed files.</summary>
    public const string Archive = "archive";

    /// <summary>What the anomaly detector finds.</summary>
    public const string Anomaly = "anomaly";

    /// <summary>What is measured; the report is named after it.</summary>
    public string What { get; init; } = Ingest;
    public IReadOnlyList<string> Only { get; init; } = Parts;
    public string? Input { get; init; }
    public string? Output { get; init; }
    public string? ServerPath { get; init; }
    public string? DataFolder { get; init; }
    public string LogLevel { get; init; } = "Warning";

    public int LatencySeconds => 3 * SingleSeconds;

    public int AlertsSeconds => 2 * SingleSeconds;

    public bool Does(string part) => Only.Contains(part);

    /// <exception cref="FormatException">An argument is unknown or has a wrong value.</exception>
    public static Options Parse(string[] args)
    {
        var options = new Options();
        for (int at = 0; at < args.Length; at++)
        {
            string name = args[at];
            string Value() => ++at < args.Length ? args[at] : throw new FormatException($"{name} needs a value");
            int Number() =>
                int.TryParse(Value(), NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number > 0
                    ? number
                    : throw new FormatException($"{name} needs a positive whole number");

            options = name switch
            {
                Ingest or ActiveUsers or Auth or Policies or Limits or Alerts or Audit or Archive or Anomaly =>
                    options with
                    {
                        What = name,
                    },
                "--rounds" => options with { Rounds = Number() },
                "--events" => options with { Events = Number() },
                "--enterprises" => options with { Enterprises = Number() },
                "--seconds" => options with { SingleSeconds = Number() },
                "--only" => options with { Only = KnownParts(Value()) },
                "--input" => options with { Input = Value() },
                "--output" => options with { Output = Value() },
                "--server" => options with { ServerPath = Value() },
                "--data" => options with { DataFolder = Value() },
                "--log-level" => options with { LogLevel = Value() },
                "--quick" => options with
                {
                    Quick = true,
                    Rounds = 1,
                    Events = 20_000,
                    Enterprises = 50,
                    SingleSeconds = 2,
                },
                _ => throw new FormatException($"unknown argument {name}"),
            };
        }

        return options is { What: Anomaly, Input: null } or { What: Anomaly, Output: null }
            ? throw new FormatException($"{Anomaly} needs --input and --output")
            : options;
    }

    private static string[] KnownParts(string list)
    {
        string[] parts = list.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return parts.Length > 0 && parts.All(part => Parts.Contains(part))
            ? parts
            : throw new FormatException($"--only takes some of {string.Join(", ", Parts)}");
    }
}
