namespace UsageMonitor.Server.Identity;

/// <summary>What is guessed at.</summary>
internal enum ThrottleKind
{
    /// <summary>A password at sign-in.</summary>
    Password,

    /// <summary>A second factor's code; the account is the person who has shown the first.</summary>
    SecondFactor,

    /// <summary>A mailed link's token, or the mail itself being asked for.</summary>
    OneTimeLink,
}

/// <summary>How many failures are free, and how long the waits are after them.</summary>
/// <param name="PerAccountMax">Failures of one account before it waits.</param>
/// <param name="PerAddressMax">More than per account: an office signs in from one address.</param>
internal readonly record struct ThrottleLimits(int PerAccountMax, int PerAddressMax)
{
    public const int FirstDelaySeconds = 30;

    /// <summary>Long enough that guessing is hopeless, short enough that locking somebody else out is not worth the trouble.</summary>
    public const int DelaySecondsMax = 3_600;

    /// <summary>Failures are forgotten when, after the wait that they cost, nothing fails for this long.</summary>
    public const int ForgetSeconds = 900;

    public static ThrottleLimits Of(ThrottleKind kind) =>
        kind switch
        {
            ThrottleKind.SecondFactor => new ThrottleLimits(PerAccountMax: 5, PerAddressMax: 50),
            _ => new ThrottleLimits(SignInThrottle.FailuresPerEmailMax, SignInThrottle.FailuresPerAddressMax),
        };

    /// <summary>The wait after so many failures: 30 seconds after the last free one, and twice as long with each more.</summary>
    public static double DelaySeconds(int failures, int max) =>
        failures < max ? 0 : Math.Min(DelaySecondsMax, FirstDelaySeconds * Math.Pow(2, Math.Min(failures - max, 30)));
}

/// <summary>Whether an attempt may be made.</summary>
/// <param name="Allowed">It is counted: tell when it succeeds.</param>
/// <param name="RetryAfter">When not: how long to wait.</param>
internal readonly record struct ThrottleDecision(bool Allowed, TimeSpan RetryAfter);
