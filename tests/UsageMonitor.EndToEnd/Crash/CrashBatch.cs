using UsageMonitor.Contracts;
using Xunit;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>A request's events: new ones, some sent before, some that are no events, some that a policy refuses.</summary>
internal sealed class CrashBatch
{
    private const int EventsMax = 200;
    private const double InvalidShare = 0.05;
    private const double RepeatedShare = 0.05;
    private const double BlockedShare = 0.05;

    private readonly List<(int Index, string Code)> _invalid = [];
    private readonly List<int> _blocked = [];

    private CrashBatch(string lines, int count) => (Lines, Count) = (lines, count);

    public string Lines { get; }

    public int Count { get; }

    public List<CrashEvent> Valid { get; } = [];

    /// <summary>Events that the enterprise's policy refuses; each sending of one is an attempt.</summary>
    public int Blocked => _blocked.Count;

    /// <summary>Events that are none.</summary>
    public int Invalid => _invalid.Count;

    /// <summary>A request of valid events.</summary>
    public static CrashBatch Of(IReadOnlyList<CrashEvent> events)
    {
        var batch = new CrashBatch(string.Join('\n', events.Select(one => one.ToLine())), events.Count);
        batch.Valid.AddRange(events);
        return batch;
    }

    /// <param name="random">Chooses.</param>
    /// <param name="earlier">Events that can be sent again.</param>
    public static CrashBatch Make(Random random, List<CrashEvent> earlier)
    {
        int count = random.Next(1, EventsMax);
        string[] lines = new string[count];
        var valid = new List<CrashEvent>();
        var invalid = new List<(int, string)>();
        var blocked = new List<int>();
        for (int i = 0; i < count; i++)
        {
            double kind = random.NextDouble();
            if (kind < InvalidShare)
            {
                var refused = InvalidEvent.Any(random);
                lines[i] = refused.Line;
                invalid.Add((i, refused.Code));
                continue;
            }

            if (kind > 1 - BlockedShare)
            {
                lines[i] = CrashEvent.MakeForbidden(random, DateTimeOffset.UtcNow).ToLine();
                blocked.Add(i);
                continue;
            }

            bool isRepeated = kind < InvalidShare + RepeatedShare && earlier.Count + valid.Count > 0;
            int place = random.Next(earlier.Count + valid.Count);
            CrashEvent chosen =
                !isRepeated ? CrashEvent.Make(random, DateTimeOffset.UtcNow)
                : place < earlier.Count ? earlier[place]
                : valid[place - earlier.Count];
            lines[i] = chosen.ToLine();
            valid.Add(chosen);
        }

        var batch = new CrashBatch(string.Join('\n', lines), count);
        batch.Valid.AddRange(valid);
        batch._invalid.AddRange(invalid);
        batch._blocked.AddRange(blocked);
        return batch;
    }

    /// <summary>The answer says of every event what is true of it.</summary>
    public void Check(IngestResponse answer)
    {
        Assert.Equal((Count, Valid.Count), (answer.Received, answer.Accepted));
        Assert.Equal(_invalid, answer.Rejected.Select(one => (one.Index, one.Code)));
        Assert.Equal(_blocked, (answer.Blocked ?? []).Select(one => one.Index));
        Assert.All(
            answer.Blocked ?? [],
            one => Assert.Equal((DecisionCodes.PolicyForbidden, 1), (one.Code, one.PolicyVersion))
        );
    }
}
