namespace UsageMonitor.Server.Limits;

/// <summary>Whose usage counts together.</summary>
internal enum LimitScope
{
    /// <summary>Each user's by itself, or one user's.</summary>
    User,

    /// <summary>That of everybody who holds a role.</summary>
    Role,

    /// <summary>Everybody's.</summary>
    Enterprise,
}

/// <summary>How long a limit counts before it begins anew: a local hour, day or month of the enterprise.</summary>
internal enum LimitWindow
{
    Hourly,
    Daily,
    Monthly,
}

/// <summary>What happens at a limit.</summary>
internal enum LimitAction
{
    /// <summary>A violation is opened; nothing is refused.</summary>
    Alert,

    /// <summary>What goes beyond is refused.</summary>
    Block,
}

/// <summary>The words of limits, as the API and the tables write them.</summary>
internal static class LimitTerms
{
    public const string Active = "ACTIVE";
    public const string Inactive = "INACTIVE";
    public const string Deleted = "DELETED";

    /// <summary>Usage that cannot be counted is let through.</summary>
    public const string Open = "OPEN";

    /// <summary>Usage that cannot be counted is refused.</summary>
    public const string Closed = "CLOSED";

    /// <summary>The pattern of every feature; with anything before the star it is a beginning.</summary>
    public const string AnyFeature = "*";

    public static string Word(this LimitScope scope) =>
        scope switch
        {
            LimitScope.User => "USER",
            LimitScope.Role => "ROLE",
            _ => "ENTERPRISE",
        };

    public static string Word(this LimitWindow window) =>
        window switch
        {
            LimitWindow.Hourly => "HOURLY",
            LimitWindow.Daily => "DAILY",
            _ => "MONTHLY",
        };

    public static string Word(this LimitAction action) => action == LimitAction.Block ? "BLOCK" : "ALERT";

    public static LimitScope? Scope(string? word) =>
        word switch
        {
            "USER" => LimitScope.User,
            "ROLE" => LimitScope.Role,
            "ENTERPRISE" => LimitScope.Enterprise,
            _ => null,
        };

    public static LimitWindow? Window(string? word) =>
        word switch
        {
            "HOURLY" => LimitWindow.Hourly,
            "DAILY" => LimitWindow.Daily,
            "MONTHLY" => LimitWindow.Monthly,
            _ => null,
        };

    public static LimitAction? Action(string? word) =>
        word switch
        {
            "ALERT" => LimitAction.Alert,
            "BLOCK" => LimitAction.Block,
            _ => null,
        };

    /// <summary>Whether a pattern is about a feature: the same name, or a beginning of it followed by <c>*</c>.</summary>
    public static bool Covers(string pattern, string feature) =>
        pattern.EndsWith('*')
            ? feature.AsSpan().StartsWith(pattern.AsSpan(0, pattern.Length - 1), StringComparison.Ordinal)
            : string.Equals(pattern, feature, StringComparison.Ordinal);
}
