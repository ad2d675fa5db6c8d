using System.Globalization;
using Microsoft.Extensions.Primitives;

namespace UsageMonitor.Server.Gateway.RateLimits;

/// <summary>What is counted.</summary>
internal enum RateUnit
{
    /// <summary>Everything that is not an event.</summary>
    Requests,

    /// <summary>Usage events, and questions about one.</summary>
    Events,
}

/// <summary>A rate, and the bucket that allows short excess: it holds two seconds' worth.</summary>
internal sealed class RatePolicy
{
    public const int CapacitySeconds = 2;

    /// <param name="name">As the headers and the keys in Redis call it.</param>
    /// <param name="perSecond">Units a second.</param>
    /// <param name="ticksPerSecond">Of the clock that <see cref="RateBucket"/> gets.</param>
    public RatePolicy(string name, int perSecond, long ticksPerSecond)
    {
        Name = name;
        Capacity = (long)perSecond * CapacitySeconds;
        TicksPerUnit = (double)ticksPerSecond / perSecond;
        CapacityTicks = CapacitySeconds * ticksPerSecond;
        MicrosecondsPerUnit = (1_000_000d / perSecond).ToString("R", CultureInfo.InvariantCulture);
        Header = string.Create(CultureInfo.InvariantCulture, $"\"{name}\";q={Capacity};w={CapacitySeconds}");
    }

    public string Name { get; }

    /// <summary>Units that a full bucket holds.</summary>
    public long Capacity { get; }

    public double TicksPerUnit { get; }

    public long CapacityTicks { get; }

    public string MicrosecondsPerUnit { get; }

    /// <summary><c>RateLimit-Policy</c>.</summary>
    public StringValues Header { get; }
}
