using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// How a caller's name for a user becomes our id: a UUID is the id itself; anything else (an e-mail address, an SSO subject)
/// is an external id, mapped into the enterprise's namespace so that every instance comes to the same id without asking.
/// One with an @ is taken for an e-mail address, which differs from another by more than upper and lower case.
/// </summary>
internal static class UserIds
{
    private const int UuidCharacters = 36;
    private const int UuidBytes = 16;
    private const int StackBytesMax = 512;

    /// <param name="enterpriseId">The enterprise of the user.</param>
    /// <param name="userId">What the caller calls the user.</param>
    /// <param name="externalId">The caller's own id in its one form, or null when it is a UUID.</param>
    public static Guid Resolve(Guid enterpriseId, string userId, out string? externalId)
    {
        Span<byte> buffer = stackalloc byte[StackBytesMax];
        ReadOnlySpan<byte> utf8 = Encoding.UTF8.TryGetBytes(userId, buffer, out int written)
            ? buffer[..written]
            : Encoding.UTF8.GetBytes(userId);
        return Resolve(enterpriseId, utf8, out externalId);
    }

    /// <inheritdoc cref="Resolve(Guid, string, out string?)"/>
    public static Guid Resolve(Guid enterpriseId, ReadOnlySpan<byte> userId, out string? externalId)
    {
        if (TryParseUuid(userId, out Guid uuid))
        {
            externalId = null;
            return uuid;
        }

        externalId = Encoding.UTF8.GetString(userId);
        if (!userId.Contains((byte)'@') || IsLowerAscii(userId))
        {
            return FromExternal(enterpriseId, userId);
        }

        // An e-mail address in the form under which its person signs in, so that the two are one user.
        externalId = externalId.Normalize(NormalizationForm.FormC).ToLowerInvariant();
        return FromExternal(enterpriseId, Encoding.UTF8.GetBytes(externalId));
    }

    private static bool IsLowerAscii(ReadOnlySpan<byte> utf8) =>
        Ascii.IsValid(utf8) && utf8.IndexOfAnyInRange((byte)'A', (byte)'Z') < 0;

    /// <summary>UUIDv5 (RFC 9562, section 5.5) of the external id's UTF-8, with the enterprise as the namespace.</summary>
    [SuppressMessage(
        "Security",
        "CA5350:Do Not Use Weak Cryptographic Algorithms",
        Justification = "RFC 9562 defines UUIDv5 with SHA-1; nothing is protected by it."
    )]
    public static Guid FromExternal(Guid enterpriseId, ReadOnlySpan<byte> externalId)
    {
        int bytes = UuidBytes + externalId.Length;
        Span<byte> name = bytes <= StackBytesMax ? stackalloc byte[bytes] : new byte[bytes];
        enterpriseId.TryWriteBytes(name, bigEndian: true, out _);
        externalId.CopyTo(name[UuidBytes..]);

        Span<byte> hash = stackalloc byte[SHA1.HashSizeInBytes];
        SHA1.HashData(name, hash);
        hash[6] = (byte)((hash[6] & 0x0F) | 0x50); // version 5
        hash[8] = (byte)((hash[8] & 0x3F) | 0x80); // the RFC's variant
        return new Guid(hash[..UuidBytes], bigEndian: true);
    }

    /// <summary>Reads a UUID in its canonical form only: 8-4-4-4-12 hexadecimal digits of any case.</summary>
    /// <remarks><see cref="Guid.TryParseExact(string, string, out Guid)"/> also takes signs, "0x" and spaces around (dotnet/runtime#49987).</remarks>
    public static bool TryParseUuid(ReadOnlySpan<byte> utf8, out Guid uuid)
    {
        uuid = default;
        return utf8.Length == UuidCharacters
            && Utf8Parser.TryParse(utf8, out uuid, out int consumed, 'D')
            && consumed == UuidCharacters;
    }
}
