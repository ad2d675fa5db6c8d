using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace UsageMonitor.Server.Identity;

/// <summary>The one form of an e-mail address under which a person is found.</summary>
internal static class EmailAddress
{
    /// <summary>RFC 5321, 4.5.3.1.3: a path of 256 octets less its angle brackets.</summary>
    public const int CharactersMax = 254;

    public static bool TryNormalize(string? text, [NotNullWhen(true)] out string? email)
    {
        email = text?.Trim().Normalize(NormalizationForm.FormC).ToLowerInvariant();
        int at = email?.IndexOf('@', StringComparison.Ordinal) ?? -1;
        if (
            email is null
            || email.Length > CharactersMax
            || at <= 0
            || at == email.Length - 1
            || email.LastIndexOf('@') != at
            || email.Any(character => char.IsControl(character) || char.IsWhiteSpace(character))
        )
        {
            email = null;
        }

        return email is not null;
    }
}
