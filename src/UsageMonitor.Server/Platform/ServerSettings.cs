using System.Globalization;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Every setting of the server, from ordinary .NET configuration (environment, <c>appsettings.json</c>, command line),
/// read and checked whole at start.
/// </summary>
internal sealed class ServerSettings
{
    public const int PortDefault = 8080;
    public const int LogPartitionsDefault = 8;
    public const int LogPartitionsMax = 1_024;

    /// <summary><c>Port</c>: where HTTP listens; 0 picks a free port.</summary>
    public required int Port { get; init; }

    /// <summary><c>Address</c>: the interface HTTP listens on, loopback unless told.</summary>
    public required string Address { get; init; }

    /// <summary><c>Data</c>: the folder of everything that is kept.</summary>
    public required string DataFolder { get; init; }

    /// <summary><c>Roles</c>: names from <see cref="Server.Roles"/>.</summary>
    public required IReadOnlyList<string> Roles { get; init; }

    /// <summary><c>Demo</c>: sample enterprises and a gentle live flow.</summary>
    public required bool Demo { get; init; }

    /// <summary><c>ConnectionStrings:Postgres</c>, or null for the embedded server.</summary>
    public string? Postgres { get; init; }

    /// <summary><c>ConnectionStrings:Redis</c>, or null for the embedded server.</summary>
    public string? Redis { get; init; }

    /// <summary><c>MasterKey</c>, base64 of 32 bytes, or null for the file in the data folder.</summary>
    public string? MasterKey { get; init; }

    /// <summary><c>LogPartitions</c>: partitions of a new event log; how many workers can process side by side.</summary>
    public required int LogPartitions { get; init; }

    /// <summary><c>ProcessingWorkers</c>: workers of this instance.</summary>
    public required int ProcessingWorkers { get; init; }

    /// <summary><c>RateLimits:EventsPerSecondPerKey</c>: sustained events a second of one API key.</summary>
    public required int EventsPerSecondPerKey { get; init; }

    /// <summary><c>SingleSignOn:AllowInsecureIssuers</c>: OpenID providers over plain http, for tests.</summary>
    public bool AllowInsecureIssuers { get; init; }

    /// <summary><c>SingleSignOn:AllowPrivateIssuers</c>: OpenID providers inside this server's own network.</summary>
    public bool AllowPrivateIssuers { get; init; }

    /// <summary><c>USAGEMONITOR_OPERATOR_EMAIL</c>, or null for the default address.</summary>
    public string? OperatorEmail { get; init; }

    /// <summary><c>USAGEMONITOR_OPERATOR_PASSWORD</c>, or null for a password made up and printed once.</summary>
    public string? OperatorPassword { get; init; }

    /// <summary><c>PublicUrl</c>: where people reach the pages, as it stands in mails; without a slash at its end. Or null.</summary>
    public string? PublicUrl { get; init; }

    /// <exception cref="SettingsException">Something is wrong; the message names every error, not just the first.</exception>
    public static ServerSettings Load(IConfiguration configuration)
    {
        var errors = new List<string>();
        string[] roles = (configuration["Roles"] ?? Server.Roles.All).Split(
            ',',
            StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries
        );
        string[] unknown = [.. roles.Where(role => !Server.Roles.IsKnown(role))];
        if (roles.Length == 0 || unknown.Length > 0)
        {
            errors.Add(
                $"Roles: unknown '{string.Join(", ", unknown)}'; known are {string.Join(", ", Server.Roles.Names)}."
            );
        }

        var settings = new ServerSettings
        {
            Port = Number(configuration, "Port", PortDefault, 0, ushort.MaxValue, errors),
            Address = configuration["Address"] ?? "127.0.0.1",
            DataFolder = Path.GetFullPath(configuration["Data"] ?? "./data"),
            Roles = roles,
            Demo = Flag(configuration, "Demo", errors),
            Postgres = Text(configuration.GetConnectionString("Postgres")),
            Redis = Text(configuration.GetConnectionString("Redis")),
            MasterKey = Text(configuration["MasterKey"]),
            LogPartitions = Number(configuration, "LogPartitions", LogPartitionsDefault, 1, LogPartitionsMax, errors),
            ProcessingWorkers = Number(
                configuration,
                "ProcessingWorkers",
                Math.Clamp(Environment.ProcessorCount, 1, 8),
                1,
                64,
                errors
            ),
            EventsPerSecondPerKey = Number(
                configuration,
                "RateLimits:EventsPerSecondPerKey",
                50_000,
                1,
                10_000_000,
                errors
            ),
            AllowInsecureIssuers = Flag(configuration, "SingleSignOn:AllowInsecureIssuers", errors),
            AllowPrivateIssuers = Flag(configuration, "SingleSignOn:AllowPrivateIssuers", errors),
            OperatorEmail = Text(configuration["USAGEMONITOR_OPERATOR_EMAIL"]),
            OperatorPassword = Text(configuration["USAGEMONITOR_OPERATOR_PASSWORD"]),
            PublicUrl = Text(configuration["PublicUrl"])?.TrimEnd('/'),
        };
        if (!System.Net.IPAddress.TryParse(settings.Address, out _))
        {
            errors.Add($"Address: '{settings.Address}' is not an IP address.");
        }

        if (settings.MasterKey is { } key && !IsKey(key))
        {
            errors.Add("MasterKey: must be base64 of 32 bytes.");
        }

        if (settings.PublicUrl is { } url && !IsPublicUrl(url))
        {
            errors.Add($"PublicUrl: '{url}' is not an address such as https://usage.example.com.");
        }

        return errors.Count == 0 ? settings : throw new SettingsException(errors);
    }

    private static bool IsPublicUrl(string url) =>
        Uri.TryCreate(url, UriKind.Absolute, out Uri? address)
        && (address.Scheme == Uri.UriSchemeHttps || address.Scheme == Uri.UriSchemeHttp)
        && address.Query.Length == 0
        && address.Fragment.Length == 0
        && address.UserInfo.Length == 0
        && !url.Any(character => char.IsControl(character) || char.IsWhiteSpace(character));

    private static bool IsKey(string base64)
    {
        byte[] bytes = new byte[256];
        return Convert.TryFromBase64String(base64, bytes, out int written) && written == Platform.MasterKey.KeyBytes;
    }

    private static string? Text(string? value) => string.IsNullOrWhiteSpace(value) ? null : value;

    private static int Number(
        IConfiguration configuration,
        string key,
        int fallback,
        int min,
        int max,
        List<string> errors
    )
    {
        if (Text(configuration[key]) is not { } text)
        {
            return fallback;
        }

        if (
            int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out int value)
            && value >= min
            && value <= max
        )
        {
            return value;
        }

        errors.Add($"{key}: '{text}' is not a whole number from {min} to {max}.");
        return fallback;
    }

    private static bool Flag(IConfiguration configuration, string key, List<string> errors)
    {
        if (Text(configuration[key]) is not { } text)
        {
            return false;
        }

        if (!bool.TryParse(text, out bool value))
        {
            errors.Add($"{key}: '{text}' is neither true nor false.");
        }

        return value;
    }
}

/// <summary>The configuration is wrong; the message lists everything that is.</summary>
internal sealed class SettingsException(IReadOnlyList<string> errors)
    : Exception(
        "The configuration is wrong:" + string.Concat(errors.Select(error => Environment.NewLine + "  - " + error))
    );
