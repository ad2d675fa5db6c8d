using System.Globalization;
using UsageMonitor.Server.Platform.Mail;

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
    public const string RedisKeyPrefixDefault = "um:";
    public const int EventsPerSecondPerKeyDefault = 50_000;
    public const int EventsPerSecondPerEnterpriseDefault = 100_000;
    public const int RequestsPerSecondPerCallerDefault = 200;
    public const int RequestsPerSecondPerEnterpriseDefault = 2_000;
    public const int RatePerSecondMax = 10_000_000;

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

    /// <summary><c>RedisKeyPrefix</c>: what this installation's keys begin with, where several share a Redis.</summary>
    public required string RedisKeyPrefix { get; init; }

    /// <summary><c>MasterKey</c>: base64 of 32 bytes each, separated by commas or lines; see <see cref="MasterKeySource"/>.</summary>
    public string? MasterKey { get; init; }

    /// <summary><c>MasterKeyCommand</c>: a program with its arguments that prints the same, such as a KMS's client.</summary>
    public string? MasterKeyCommand { get; init; }

    /// <summary><c>Tls</c>, or null to speak plain HTTP.</summary>
    public TlsSettings? Tls { get; init; }

    /// <summary><c>TrustedProxies</c>: networks (CIDR) whose <c>X-Forwarded-</c> headers are believed; nobody's unless told.</summary>
    public IReadOnlyList<System.Net.IPNetwork> TrustedProxies { get; init; } = [];

    /// <summary><c>LogPartitions</c>: partitions of a new event log; how many workers can process side by side.</summary>
    public required int LogPartitions { get; init; }

    /// <summary><c>ProcessingWorkers</c>: workers of this instance.</summary>
    public required int ProcessingWorkers { get; init; }

    /// <summary><c>RateLimits:EventsPerSecondPerKey</c>: sustained events a second of one API key (or of one person).</summary>
    public required int EventsPerSecondPerKey { get; init; }

    /// <summary><c>RateLimits:EventsPerSecondPerEnterprise</c>: sustained events a second of one enterprise.</summary>
    public required int EventsPerSecondPerEnterprise { get; init; }

    /// <summary><c>RateLimits:RequestsPerSecondPerCaller</c>: sustained requests a second, other than events, of one API key or person.</summary>
    public required int RequestsPerSecondPerCaller { get; init; }

    /// <summary><c>RateLimits:RequestsPerSecondPerEnterprise</c>: sustained requests a second, other than events, of one enterprise.</summary>
    public required int RequestsPerSecondPerEnterprise { get; init; }

    /// <summary><c>SingleSignOn:AllowInsecureIssuers</c>: OpenID providers over plain http, for tests.</summary>
    public bool AllowInsecureIssuers { get; init; }

    /// <summary><c>SingleSignOn:AllowPrivateIssuers</c>: OpenID providers inside this server's own network.</summary>
    public bool AllowPrivateIssuers { get; init; }

    /// <summary><c>Webhooks:AllowPrivateAddresses</c>: webhooks inside this server's own network, also over plain http.</summary>
    public bool AllowPrivateWebhooks { get; init; }

    /// <summary><c>USAGEMONITOR_OPERATOR_EMAIL</c>, or null for the default address.</summary>
    public string? OperatorEmail { get; init; }

    /// <summary><c>USAGEMONITOR_OPERATOR_PASSWORD</c>, or null for a password made up and printed once.</summary>
    public string? OperatorPassword { get; init; }

    /// <summary><c>PublicUrl</c>: where people reach the pages, as it stands in mails; without a slash at its end. Or null.</summary>
    public string? PublicUrl { get; init; }

    /// <summary><c>Smtp</c>: how mail leaves, or null: not at all.</summary>
    public SmtpSettings? Smtp { get; init; }

    /// <summary><c>Archive</c>: where finished days go.</summary>
    public required ArchiveSettings Archive { get; init; }

    /// <summary><c>Backup</c>, or null: nothing is backed up.</summary>
    public BackupSettings? Backup { get; init; }

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
            RedisKeyPrefix = Text(configuration["RedisKeyPrefix"]) ?? RedisKeyPrefixDefault,
            MasterKey = Text(configuration["MasterKey"]),
            MasterKeyCommand = Text(configuration["MasterKeyCommand"]),
            Tls = ReadTls(configuration, errors),
            TrustedProxies = Networks(configuration, "TrustedProxies", errors),
            LogPartitions = Number(configuration, "LogPartitions", LogPartitionsDefault, 1, LogPartitionsMax, errors),
            ProcessingWorkers = Number(
                configuration,
                "ProcessingWorkers",
                Math.Clamp(Environment.ProcessorCount, 1, 8),
                1,
                64,
                errors
            ),
            EventsPerSecondPerKey = Rate("EventsPerSecondPerKey", EventsPerSecondPerKeyDefault),
            EventsPerSecondPerEnterprise = Rate("EventsPerSecondPerEnterprise", EventsPerSecondPerEnterpriseDefault),
            RequestsPerSecondPerCaller = Rate("RequestsPerSecondPerCaller", RequestsPerSecondPerCallerDefault),
            RequestsPerSecondPerEnterprise = Rate(
                "RequestsPerSecondPerEnterprise",
                RequestsPerSecondPerEnterpriseDefault
            ),
            AllowInsecureIssuers = Flag(configuration, "SingleSignOn:AllowInsecureIssuers", errors),
            AllowPrivateIssuers = Flag(configuration, "SingleSignOn:AllowPrivateIssuers", errors),
            AllowPrivateWebhooks = Flag(configuration, "Webhooks:AllowPrivateAddresses", errors),
            OperatorEmail = Text(configuration["USAGEMONITOR_OPERATOR_EMAIL"]),
            OperatorPassword = Text(configuration["USAGEMONITOR_OPERATOR_PASSWORD"]),
            PublicUrl = Text(configuration["PublicUrl"])?.TrimEnd('/'),
            Smtp = SmtpSettings.Load(configuration.GetSection("Smtp"), errors),
            Backup = BackupSettings.Load(configuration, errors),
            Archive = ArchiveSettings.Load(configuration, Path.GetFullPath(configuration["Data"] ?? "./data"), errors),
        };
        if (!System.Net.IPAddress.TryParse(settings.Address, out _))
        {
            errors.Add($"Address: '{settings.Address}' is not an IP address.");
        }

        MasterKeySource.Check(settings, errors);
        if (settings.Tls is { } tls)
        {
            CheckTls(tls, settings.Port, errors);
        }

        if (settings.PublicUrl is { } url && !IsPublicUrl(url))
        {
            errors.Add($"PublicUrl: '{url}' is not an address such as https://usage.example.com.");
        }

        // Never taken from a request: whoever asks for a new password could else name the host that its owner is sent to.
        if (settings is { Smtp: not null, PublicUrl: null })
        {
            errors.Add("PublicUrl: must be set with Smtp:Host; the links in mails lead there.");
        }

        return errors.Count == 0 ? settings : throw new SettingsException(errors);

        int Rate(string name, int fallback) =>
            Number(configuration, "RateLimits:" + name, fallback, 1, RatePerSecondMax, errors);
    }

    private static bool IsPublicUrl(string url) =>
        Uri.TryCreate(url, UriKind.Absolute, out Uri? address)
        && (address.Scheme == Uri.UriSchemeHttps || address.Scheme == Uri.UriSchemeHttp)
        && address.Query.Length == 0
        && address.Fragment.Length == 0
        && address.UserInfo.Length == 0
        && !url.Any(character => char.IsControl(character) || char.IsWhiteSpace(character));

    private static TlsSettings? ReadTls(IConfiguration configuration, List<string> errors)
    {
        IConfigurationSection section = configuration.GetSection("Tls");
        if (Text(section["Certificate"]) is not { } certificate)
        {
            errors.AddRange(
                section
                    .GetChildren()
                    .Where(setting => Text(setting.Value) is not null)
                    .Select(setting => $"{setting.Path}: needs Tls:Certificate.")
            );
            return null;
        }

        return new TlsSettings(
            Path.GetFullPath(certificate),
            Text(section["Key"]) is { } key ? Path.GetFullPath(key) : null,
            Text(section["Password"])
        )
        {
            RedirectFromPort = OptionalPort(configuration, "Tls:RedirectFromPort", errors),
            PublicPort = OptionalPort(configuration, "Tls:PublicPort", errors),
        };
    }

    private static void CheckTls(TlsSettings tls, int port, List<string> errors)
    {
        if (tls.RedirectFromPort is { } from and not 0 && from == port)
        {
            errors.Add("Tls:RedirectFromPort: must be another port than Port.");
        }

        try
        {
            ServerCertificate.Check(tls);
        }
        catch (CertificateException exception)
        {
            errors.Add(exception.Message);
        }
    }

    private static int? OptionalPort(IConfiguration configuration, string key, List<string> errors) =>
        Text(configuration[key]) is null ? null : Number(configuration, key, 0, 0, ushort.MaxValue, errors);

    private static List<System.Net.IPNetwork> Networks(IConfiguration configuration, string key, List<string> errors)
    {
        var networks = new List<System.Net.IPNetwork>();
        foreach (
            string text in (configuration[key] ?? "").Split(
                ',',
                StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries
            )
        )
        {
            if (System.Net.IPNetwork.TryParse(text, out System.Net.IPNetwork network))
            {
                networks.Add(network);
            }
            else
            {
                errors.Add($"{key}: '{text}' is not a network such as 10.0.0.0/8 or 192.0.2.7/32.");
            }
        }

        return networks;
    }

    private static string? Text(string? value) => string.IsNullOrWhiteSpace(value) ? null : value;

    internal static int Number(
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
