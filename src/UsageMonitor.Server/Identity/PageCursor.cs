using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace UsageMonitor.Server.Identity;

/// <summary>Where a page of a list ended, as clients hand it back: the last row's key. Opaque to them, but no secret.</summary>
/// <param name="Key">What the list is ordered by.</param>
/// <param name="Id">What orders rows of the same key.</param>
internal sealed record PageCursor(string Key, Guid Id)
{
    private const int CharactersMax = 2_000;
    private const int IdBytes = 16;

    public override string ToString() =>
        Base64Url.EncodeToString([.. Id.ToByteArray(bigEndian: true), .. Encoding.UTF8.GetBytes(Key)]);

    public static bool TryParse(string text, [NotNullWhen(true)] out PageCursor? cursor)
    {
        cursor = null;
        if (text.Length > CharactersMax || !Base64Url.IsValid(text))
        {
            return false;
        }

        byte[] bytes = Base64Url.DecodeFromChars(text);
        if (bytes.Length < IdBytes)
        {
            return false;
        }

        string key = Encoding.UTF8.GetString(bytes.AsSpan(IdBytes));
        cursor = key.Contains('\0', StringComparison.Ordinal)
            ? null // PostgreSQL has no such text
            : new PageCursor(key, new Guid(bytes.AsSpan(0, IdBytes), bigEndian: true));
        return cursor is not null;
    }
}
