namespace UsageMonitor.Server.Web;

/// <summary>What a person would call the program and system of a User-Agent, such as “Firefox on Windows”.</summary>
internal static class ClientName
{
    private const int OtherCharactersMax = 60;

    // In this order: Edge and Opera call themselves Chrome too, Chrome calls itself Safari, Android calls itself Linux.
    private static readonly (string Word, string Name)[] s_browsers =
    [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];

    private static readonly (string Word, string Name)[] s_systems =
    [
        ("Windows", "Windows"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Mac OS", "macOS"),
        ("Android", "Android"),
        ("Linux", "Linux"),
    ];

    public static string Of(string? userAgent)
    {
        if (string.IsNullOrWhiteSpace(userAgent))
        {
            return "Unknown program";
        }

        string? browser = NameIn(s_browsers, userAgent);
        string? system = NameIn(s_systems, userAgent);
        return browser is null ? userAgent[..Math.Min(userAgent.Length, OtherCharactersMax)]
            : system is null ? browser
            : $"{browser} on {system}";
    }

    private static string? NameIn((string Word, string Name)[] names, string userAgent) =>
        names.FirstOrDefault(name => userAgent.Contains(name.Word, StringComparison.Ordinal)).Name;
}
