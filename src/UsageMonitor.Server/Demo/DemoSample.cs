using System.IO.Compression;
using System.Text.Json;

namespace UsageMonitor.Server.Demo;

/// <summary>An invented enterprise with 97 days of stretches of work, in the order of the sample.</summary>
internal sealed record DemoEnterprise(
    Guid EnterpriseId,
    string Name,
    string TimeZone,
    string AdminEmail,
    IReadOnlyList<Stretch> Stretches
)
{
    /// <summary>The users' ids are e-mail addresses of the enterprise.</summary>
    public string UserIdOf(Stretch stretch) =>
        stretch.User + AdminEmail[AdminEmail.IndexOf('@', StringComparison.Ordinal)..];
}

/// <summary>Somebody at work with one feature.</summary>
/// <param name="Line">Its place in the sample; with the enterprise it names the events for ever.</param>
/// <param name="Day">0 for the last day, a Sunday; negative before.</param>
/// <param name="Time">Local.</param>
/// <param name="User">Without the domain.</param>
/// <param name="Feature">The feature.</param>
/// <param name="Count">Uses.</param>
/// <param name="EverySeconds">Between two uses, about.</param>
/// <param name="Type">The event type, or null for the default.</param>
/// <param name="Properties">The events' properties, or an undefined element.</param>
internal readonly record struct Stretch(
    int Line,
    int Day,
    TimeOnly Time,
    string User,
    string Feature,
    int Count,
    int EverySeconds,
    string? Type,
    JsonElement Properties
);

/// <summary>The sample in the assembly, made by <c>eng/make-demo-sample.mjs</c>.</summary>
internal static class DemoSample
{
    private const string Resource = "demo/sample.ndjson.gz";

    public static IReadOnlyList<DemoEnterprise> Read()
    {
        using Stream packed = typeof(DemoSample).Assembly.GetManifestResourceStream(Resource)!;
        using var lines = new StreamReader(new GZipStream(packed, CompressionMode.Decompress));
        var enterprises = new List<DemoEnterprise>();
        var stretches = new List<Stretch>();
        for (int number = 0; lines.ReadLine() is { } text; number++)
        {
            using var parsed = JsonDocument.Parse(text);
            JsonElement line = parsed.RootElement;
            if (line.TryGetProperty("enterpriseId", out JsonElement enterpriseId))
            {
                stretches = [];
                enterprises.Add(
                    new DemoEnterprise(
                        enterpriseId.GetGuid(),
                        line.GetProperty("name").GetString()!,
                        line.GetProperty("timeZone").GetString()!,
                        line.GetProperty("adminEmail").GetString()!,
                        stretches
                    )
                );
            }
            else
            {
                stretches.Add(ReadStretch(number, line));
            }
        }

        return enterprises;
    }

    private static Stretch ReadStretch(int number, JsonElement line) =>
        new(
            number,
            line.GetProperty("day").GetInt32(),
            TimeOnly.ParseExact(
                line.GetProperty("time").GetString()!,
                "HH:mm",
                System.Globalization.CultureInfo.InvariantCulture
            ),
            string.Intern(line.GetProperty("user").GetString()!),
            string.Intern(line.GetProperty("feature").GetString()!),
            line.GetProperty("count").GetInt32(),
            line.GetProperty("every").GetInt32(),
            line.TryGetProperty("type", out JsonElement type) ? string.Intern(type.GetString()!) : null,
            line.TryGetProperty("properties", out JsonElement properties) ? properties.Clone() : default
        );
}
