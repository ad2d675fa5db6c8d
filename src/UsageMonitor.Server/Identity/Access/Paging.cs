using System.Buffers.Text;
using System.Text;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Access;

/// <summary>
/// Keyset pages: <c>?limit=1…200&amp;after=…</c>, where <c>after</c> is the last answer's <c>next</c>. A page costs the same
/// wherever it is, and nothing is shown twice or left out while rows come and go.
/// </summary>
internal static class Paging
{
    public const int LimitMax = 200;
    public const int LimitDefault = 100;
    private const int CursorCharactersMax = 1_000;

    /// <summary>The problem if there is one.</summary>
    public static IResult? Refuse(int? limit) =>
        limit is < 1 or > LimitMax
            ? Problems.Problem(400, "invalid_request", $"limit must be from 1 to {LimitMax}.")
            : null;

    /// <summary>A cursor that nobody gave out.</summary>
    public static IResult UnknownCursor =>
        Problems.Problem(400, "invalid_request", "after must be the next of an earlier answer.");

    public static string Cursor(string key) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(key));

    /// <summary>What <see cref="Cursor"/> was given; null stays null.</summary>
    public static bool TryRead(string? cursor, out string? key)
    {
        key = null;
        if (cursor is null)
        {
            return true;
        }

        if (cursor.Length > CursorCharactersMax || !Base64Url.IsValid(cursor))
        {
            return false;
        }

        key = Encoding.UTF8.GetString(Base64Url.DecodeFromChars(cursor));
        return !key.Contains('\0', StringComparison.Ordinal); // PostgreSQL's text has none
    }
}
