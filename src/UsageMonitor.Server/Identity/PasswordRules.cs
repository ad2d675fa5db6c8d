using System.Text;

namespace UsageMonitor.Server.Identity;

/// <summary>What somebody who knows the person would try first.</summary>
/// <param name="Email">The person's address.</param>
/// <param name="DisplayName">What people call them.</param>
/// <param name="EnterpriseName">Where they work.</param>
internal sealed record PasswordContext(string? Email, string? DisplayName = null, string? EnterpriseName = null)
{
    private const string OwnName = "usage monitor";
    private const int WordCharactersMin = 3;
    private const int WordsMax = 30;

    /// <summary>The words, whole and taken apart, as they would appear in a password.</summary>
    public IEnumerable<string> Words() =>
        new[] { OwnName, Email, DisplayName, EnterpriseName }
            .OfType<string>()
            .SelectMany(text => Parts(text).Append(text.Trim()).Append(string.Concat(Parts(text))))
            .Where(word => word.Length >= WordCharactersMin)
            .Select(word => word.Normalize(NormalizationForm.FormC).ToLowerInvariant())
            .Distinct(StringComparer.Ordinal)
            .Take(WordsMax);

    private static string[] Parts(string text)
    {
        char[] separators = [.. text.Where(character => !char.IsLetterOrDigit(character)).Distinct()];
        return text.Split(separators, StringSplitOptions.RemoveEmptyEntries);
    }
}

/// <summary>
/// What a password must be, by NIST SP 800-63B-4, 3.1.1: long, any characters, no rules of composition, and neither common
/// nor what somebody who knows the person would guess.
/// </summary>
internal static class PasswordRules
{
    /// <summary>Unicode code points, after normalizing.</summary>
    public const int CharactersMin = 12;
    public const int CharactersMax = 128;

    /// <summary>
    /// By zxcvbn's estimate: 2^27 guesses, some days even at the pace that sign-in lets through from thousands of addresses.
    /// It knows lists of common passwords, names and words, keyboard rows, dates, sequences and the usual substitutions.
    /// </summary>
    public const double EntropyBitsMin = 27;

    /// <summary>zxcvbn's time grows faster than the text; what comes after could only make the password better.</summary>
    private const int JudgedUnitsMax = 64;

    /// <summary>What is wrong, as the end of a sentence that begins with the password's name; null when nothing is.</summary>
    public static string? WhatIsWrong(string? given, PasswordContext context)
    {
        int characters = Passwords.TryNormalize(given, out string? password) ? password.EnumerateRunes().Count() : 0;
        if (characters is < CharactersMin or > CharactersMax)
        {
            return $"must have {CharactersMin} to {CharactersMax} characters; any are allowed, spaces too.";
        }

        return EntropyBitsOf(password!, context) < EntropyBitsMin
            ? "is too easy to guess: it is common, repeats itself, or is made of your name, your address or your enterprise. "
                + "Four or five unrelated words make a good one."
            : null;
    }

    private static double EntropyBitsOf(string password, PasswordContext context) =>
        new Zxcvbn.Zxcvbn()
            .EvaluatePassword(password[..Math.Min(password.Length, JudgedUnitsMax)], context.Words())
            .Entropy;
}
