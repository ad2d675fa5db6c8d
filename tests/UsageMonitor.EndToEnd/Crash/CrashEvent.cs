using System.Globalization;
using System.Text.Json;
using UsageMonitor.EndToEnd.Counting;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>A valid event of the load.</summary>
internal sealed record CrashEvent(Guid EventId, string UserId, string FeatureName, DateTimeOffset At)
{
    /// <summary>How old an event may be.</summary>
    public const int BackfillDays = 400;

    /// <summary>What nobody may use, by the enterprise's policy.</summary>
    public const string ForbiddenFeature = "forbidden feature";

    private const int Users = 40;
    private const int Features = 6;
    private const int RecentMilliseconds = 3_600_000;

    public Usage Usage => new(UserId, FeatureName, At);

    public static CrashEvent Make(Random random, DateTimeOffset now)
    {
        int user = random.Next(Users);
        TimeSpan age =
            random.Next(3) > 0
                ? TimeSpan.FromMilliseconds(random.Next(RecentMilliseconds))
                : TimeSpan.FromMilliseconds(random.NextInt64(BackfillDays * 24L * RecentMilliseconds));
        return new CrashEvent(
            NextId(random),
            user % 2 == 0 ? $"person {user}" : new Guid(user, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10).ToString(),
            $"feature {random.Next(Features)}",
            AsWritten(now - age)
        );
    }

    /// <summary>One that the policy refuses; recent, since policies do not apply to history.</summary>
    public static CrashEvent MakeForbidden(Random random, DateTimeOffset now) =>
        Make(random, now) with
        {
            FeatureName = ForbiddenFeature,
            At = AsWritten(now - TimeSpan.FromMilliseconds(random.Next(RecentMilliseconds))),
        };

    /// <summary>An instant as precise as it is written.</summary>
    public static DateTimeOffset AsWritten(DateTimeOffset at) =>
        at.AddTicks(-(at.Ticks % TimeSpan.TicksPerMillisecond));

    public string ToLine() =>
        JsonSerializer.Serialize(
            new
            {
                eventId = EventId,
                userId = UserId,
                featureName = FeatureName,
                eventTimestamp = At.ToString("yyyy-MM-ddTHH:mm:ss.fffzzz", CultureInfo.InvariantCulture),
                properties = new { note = "sent under load" },
            }
        );

    private static Guid NextId(Random random)
    {
        byte[] bytes = new byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes);
    }
}

/// <summary>An event that must be refused, and with which code.</summary>
internal sealed record InvalidEvent(string Line, string Code)
{
    private static readonly InvalidEvent[] s_kinds =
    [
        new("""{"featureName":"f"}""", "missing_field"),
        new("""{"userId":"u","featureName":""}""", "invalid_field"),
        new("""{"userId":"u","featureName":"f","eventTimestamp":"2999-01-01T00:00:00Z"}""", "timestamp_in_future"),
        new("""{"userId":"u","featureName":"f","eventTimestamp":"1999-01-01T00:00:00Z"}""", "timestamp_too_old"),
        new("""{"userId":"u","featureName":"f","eventTimestamp":"yesterday"}""", "invalid_field"),
        new("""{"userId":"u",""", "invalid_json"),
        new("42", "invalid_json"),
    ];

    public static InvalidEvent Any(Random random) => s_kinds[random.Next(s_kinds.Length)];
}
