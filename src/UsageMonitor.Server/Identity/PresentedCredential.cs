using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Identity;

/// <summary>The forms in which callers prove who they are; each is told from the others by its shape.</summary>
internal enum CredentialKind
{
    /// <summary>The request carries none.</summary>
    None,

    /// <summary>It carries something that cannot be one.</summary>
    Malformed,
    ApiKey,
    AccessToken,
    Cookie,
}

/// <summary>What a request presents, not yet believed.</summary>
internal readonly record struct PresentedCredential(CredentialKind Kind, string Text, int Start)
{
    public const int CharactersMax = 4_096;
    private const string Scheme = "Bearer ";

    public ReadOnlySpan<char> Span => Text.AsSpan(Start);

    /// <summary>An <c>Authorization</c> header wins over a cookie, also when it is wrong.</summary>
    public static PresentedCredential Of(HttpRequest request)
    {
        var authorization = request.Headers.Authorization;
        if (authorization.Count == 1 && authorization[0] is { Length: > 0 } header)
        {
            if (!header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase))
            {
                return new PresentedCredential(CredentialKind.Malformed, "", 0);
            }

            ReadOnlySpan<char> text = header.AsSpan(Scheme.Length);
            return new PresentedCredential(KindOf(text), header, Scheme.Length);
        }

        if (authorization.Count > 1)
        {
            return new PresentedCredential(CredentialKind.Malformed, "", 0);
        }

        return
            request.Cookies.TryGetValue(BrowserSessions.CookieName(request), out string? cookie)
            && cookie.Length == ApiKeyFormat.SecretCharacters
            ? new PresentedCredential(CredentialKind.Cookie, cookie, 0)
            : default;
    }

    private static CredentialKind KindOf(ReadOnlySpan<char> text) =>
        ApiKeyFormat.Matches(text) ? CredentialKind.ApiKey
        : text.Length is > ApiKeyFormat.Characters and <= CharactersMax && text.Contains('.')
            ? CredentialKind.AccessToken
        : CredentialKind.Malformed;
}

/// <summary>SHA-256 of a credential as a key of the cache, computed without allocating.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct CredentialHash : IEquatable<CredentialHash>
{
    private readonly ulong _first;
    private readonly ulong _second;
    private readonly ulong _third;
    private readonly ulong _fourth;

    /// <summary>False when the text is not ASCII, as no credential is.</summary>
    public static bool TryCompute(ReadOnlySpan<char> credential, out CredentialHash hash)
    {
        hash = default;
        Span<byte> bytes = stackalloc byte[credential.Length];
        return Ascii.FromUtf16(credential, bytes, out _) == System.Buffers.OperationStatus.Done
            && SHA256.TryHashData(bytes, MemoryMarshal.AsBytes(new Span<CredentialHash>(ref hash)), out _);
    }

    public byte[] ToArray() => MemoryMarshal.AsBytes(new ReadOnlySpan<CredentialHash>(in this)).ToArray();

    public bool Equals(CredentialHash other) =>
        _first == other._first && _second == other._second && _third == other._third && _fourth == other._fourth;

    public override bool Equals(object? obj) => obj is CredentialHash other && Equals(other);

    // Seeded per process, so that nobody can choose credentials that fall into one bucket.
    public override int GetHashCode() => HashCode.Combine(_first, _second);
}

/// <summary><c>um_</c> and 32 random bytes in base64url.</summary>
internal static class ApiKeyFormat
{
    public const int SecretBytes = 32;
    public const int SecretCharacters = 43;
    public const int Characters = 3 + SecretCharacters;
    private const string Prefix = "um_";

    public static bool Matches(ReadOnlySpan<char> text) =>
        text.Length == Characters && text.StartsWith(Prefix, StringComparison.Ordinal);

    public static string Generate() =>
        Prefix + System.Buffers.Text.Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(SecretBytes));
}
