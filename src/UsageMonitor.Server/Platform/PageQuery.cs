using System.Globalization;

namespace UsageMonitor.Server.Platform;

/// <summary>Which page of a list: what comes beyond the last id of the page before, and how many.</summary>
internal readonly record struct PageQuery(Guid? Beyond, int Limit)
{
    /// <summary>Rows of one page.</summary>
    public const int LimitMax = 200;
    private const int LimitDefault = 100;

    /// <returns>The problem to answer instead, or null.</returns>
    public static IResult? Read(
        string cursorName,
        string? cursor,
        string? limit,
        out PageQuery page,
        int limitMax = LimitMax
    )
    {
        page = new PageQuery(null, Math.Min(LimitDefault, limitMax));
        if (!string.IsNullOrEmpty(cursor))
        {
            if (!Guid.TryParseExact(cursor, "D", out Guid beyond))
            {
                return Problems.Problem(400, "invalid_request", $"{cursorName}: must be what `next` has given.");
            }

            page = page with { Beyond = beyond };
        }

        if (!string.IsNullOrEmpty(limit))
        {
            if (
                !int.TryParse(limit, NumberStyles.None, CultureInfo.InvariantCulture, out int rows)
                || rows < 1
                || rows > limitMax
            )
            {
                return Problems.Problem(400, "invalid_request", $"limit: must be 1 to {limitMax}.");
            }

            page = page with { Limit = rows };
        }

        return null;
    }
}
