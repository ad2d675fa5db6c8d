using System.Globalization;

namespace UsageMonitor.Server.Web;

/// <summary>Numbers as the person writes them, times as the enterprise's clocks show them.</summary>
public sealed class Formats(CultureInfo culture, TimeZoneInfo zone)
{
    private const int LanguagesMax = 8;

    public TimeZoneInfo Zone { get; } = zone;

    /// <summary>For <c>Intl</c> in the browser, which has no invariant culture; English numbers are its double.</summary>
    public string CultureName => culture.Name.Length == 0 ? "en" : culture.Name;

    /// <summary>Takes the first language of the browser that .NET knows; the text of the pages stays English.</summary>
    public static Formats For(HttpRequest request, TimeZoneInfo zone)
    {
        IEnumerable<string> languages = request
            .GetTypedHeaders()
            .AcceptLanguage.OrderByDescending(language => language.Quality ?? 1)
            .Take(LanguagesMax)
            .Select(language => language.Value.Value ?? string.Empty);
        foreach (string language in languages)
        {
            if (language.Length > 0 && language != "*" && TryCulture(language, out CultureInfo culture))
            {
                return new Formats(culture, zone);
            }
        }

        return new Formats(CultureInfo.InvariantCulture, zone);
    }

    public string Number(long value) => value.ToString("N0", culture);

    public string Ratio(double value) => value == 0 ? "–" : value.ToString(value < 100 ? "N1" : "N0", culture);

    public string Percent(double value) =>
        value is > 0 and < 0.001
            ? "< " + 0.001.ToString("P1", culture)
            : value.ToString(value is >= 10 or 0 ? "P0" : "P1", culture);

    /// <summary>A day without its year, such as 24 Nov.</summary>
    public string Day(DateOnly day) =>
        day.ToString(culture.DateTimeFormat.MonthDayPattern.Replace("MMMM", "MMM", StringComparison.Ordinal), culture);

    public string Days(DateOnly from, DateOnly through) =>
        from == through ? Day(from) : $"{Day(from)} – {Day(through)}";

    public string Clock(DateTimeOffset instant) =>
        TimeZoneInfo.ConvertTime(instant, Zone).ToString("HH:mm:ss", CultureInfo.InvariantCulture);

    public string Date(DateTimeOffset instant) =>
        TimeZoneInfo.ConvertTime(instant, Zone).ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture);

    /// <summary>A bucket on the axis and in the table; its offset is the enterprise's own.</summary>
    public string Bucket(DateTimeOffset bucket, string interval, bool severalDays) =>
        interval == "hour"
            ? bucket.ToString(severalDays ? "ddd HH:mm" : "HH:mm", culture)
            : Day(DateOnly.FromDateTime(bucket.DateTime));

    public DateOnly Today(TimeProvider clock) =>
        DateOnly.FromDateTime(TimeZoneInfo.ConvertTime(clock.GetUtcNow(), Zone).DateTime);

    private static bool TryCulture(string name, out CultureInfo culture)
    {
        try
        {
            // Without predefinedOnly ICU accepts any well-formed name, and a cache of cultures would grow with requests.
            culture = CultureInfo.GetCultureInfo(name, predefinedOnly: true);
            return true;
        }
        catch (CultureNotFoundException)
        {
            culture = CultureInfo.InvariantCulture;
            return false;
        }
    }
}
