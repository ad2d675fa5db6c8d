using System.Globalization;
using System.IO.Compression;
using System.Text;

namespace UsageMonitor.Bench;

/// <summary>
/// Events of exactly <see cref="EventBytes"/>, made before the clock runs. What must be new in every round (id, timestamp,
/// now and then the feature) stands at fixed places and is overwritten there.
/// </summary>
internal static class EventBodies
{
    /// <summary>One event with the comma or bracket after it.</summary>
    public const int EventBytes = 1_024;
    public const int IdLetters = 36;
    public const int TimestampLetters = 24;
    public const int EventIdAt = 12;
    public const int UserIdAt = EventIdAt + IdLetters + 12;
    public const int FeatureAt = UserIdAt + IdLetters + 17;
    public const int FeatureLetters = 12;
    public const int TimestampAt = FeatureAt + FeatureLetters + 38;
    public const int PropertiesAt = TimestampAt + TimestampLetters + 15;
    public const int PropertiesBytes = EventBytes - PropertiesAt - 2;

    /// <summary>
    /// A user makes 40 events a day over 10 features, so about every fourth is the day's first of its user and feature.
    /// This share of the events gets another feature each round, so that rounds which repeat the users come out like that.
    /// </summary>
    public const double FeatureRedrawShare = 0.25;

    private const string TimestampFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";

    // All of one length: a feature can then be changed in place.
    private static readonly string[] Features =
    [
        "search-query",
        "report-build",
        "invoice-edit",
        "export-sheet",
        "upload-files",
        "mobile-login",
        "webhook-send",
        "admin-review",
        "import-batch",
        "ledger-print",
    ];

    public static void Write(Span<byte> target, int enterprise, Random random)
    {
        Guid user = EnterpriseMix.UserId(enterprise, random.Next(EnterpriseMix.UsersOf(enterprise)));
        string head =
            $"{{\"eventId\":\"{Guid.Empty}\",\"userId\":\"{user}\",\"featureName\":\"{Feature(random)}\",\"eventType\":\"use\","
            + "\"eventTimestamp\":\"2000-01-01T00:00:00.000Z\",\"properties\":";
        string properties = EventProperties.Make(random, PropertiesBytes);
        int length = Encoding.ASCII.GetBytes(head + properties + "},", target);
        if (length != EventBytes || head.Length != PropertiesAt)
        {
            throw new InvalidOperationException($"An event came to {length} bytes.");
        }
    }

    /// <summary>Makes an event a new one.</summary>
    public static void Renew(Span<byte> body, Guid eventId, ReadOnlySpan<byte> timestamp)
    {
        eventId.TryFormat(body[EventIdAt..], out _);
        timestamp.CopyTo(body[TimestampAt..]);
    }

    public static void RedrawFeature(Span<byte> body, Random random) =>
        Encoding.ASCII.GetBytes(Feature(random), body.Slice(FeatureAt, FeatureLetters));

    public static void FormatTimestamp(DateTime instant, Span<byte> target) =>
        instant.TryFormat(target, out _, TimestampFormat, CultureInfo.InvariantCulture);

    /// <summary>How many times smaller gzip makes these bytes.</summary>
    public static double GzipRatio(IEnumerable<ReadOnlyMemory<byte>> bodies)
    {
        long plain = 0;
        long compressed = 0;
        foreach (ReadOnlyMemory<byte> body in bodies)
        {
            using var stream = new MemoryStream();
            using (var gzip = new GZipStream(stream, CompressionLevel.Optimal, leaveOpen: true))
            {
                gzip.Write(body.Span);
            }

            plain += body.Length;
            compressed += stream.Length;
        }

        return (double)plain / compressed;
    }

    /// <summary>By Zipf's law: the n-th feature is used 1/n as often as the first.</summary>
    private static string Feature(Random random)
    {
        double harmonic = 0;
        for (int rank = 1; rank <= Features.Length; rank++)
        {
            harmonic += 1.0 / rank;
        }

        double drawn = random.NextDouble() * harmonic;
        int feature = 0;
        while (feature < Features.Length - 1 && (drawn -= 1.0 / (feature + 1)) > 0)
        {
            feature++;
        }

        return Features[feature];
    }
}
