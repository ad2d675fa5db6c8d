using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Identity;
using Microsoft.Extensions.Options;

namespace UsageMonitor.Server.Identity;

/// <summary>How a given password compares with the kept hash.</summary>
internal enum PasswordCheck
{
    Wrong,
    Right,

    /// <summary>Right, but kept by an older or cheaper method than new ones are.</summary>
    RightAndOutdated,
}

/// <summary>
/// Passwords: PBKDF2 with HMAC-SHA-512 as ASP.NET Core Identity stores it, of the text in Unicode's composed form (NFC), so
/// that the same keys pressed on another system are the same password (NIST SP 800-63B-4, 3.1.1.2).
/// </summary>
internal sealed class Passwords : IDisposable
{
    /// <summary>Beyond it nothing is a password, whatever it normalizes to: a composed character has been 4 UTF-16 units at most.</summary>
    private const int GivenUnitsMax = 8 * PasswordRules.CharactersMax;

    /// <summary>OWASP Password Storage Cheat Sheet (2023): 210,000 rounds of PBKDF2-HMAC-SHA-512.</summary>
    private const int Iterations = 210_000;

    // No l, 1, O or 0: people type these from a screen. 20 of 56 characters are 116 bits.
    private const string Alphabet = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    private const int GeneratedCharacters = 20;

    private static readonly object Nobody = new();
    private readonly PasswordHasher<object> _hasher = new(
        Options.Create(new PasswordHasherOptions { IterationCount = Iterations })
    );

    // A check costs 0.1 s of a core. A flood of sign-ins may not take the cores from the events.
    private readonly SemaphoreSlim _cores = new(Math.Max(1, Environment.ProcessorCount / 2));
    private readonly string _nobodysHash;

    public Passwords() => _nobodysHash = Hash(Generate());

    public static string Generate() => RandomNumberGenerator.GetString(Alphabet, GeneratedCharacters);

    /// <summary>The one form of a password that is measured, hashed and compared; false when it cannot be one.</summary>
    public static bool TryNormalize(string? given, [NotNullWhen(true)] out string? password)
    {
        password = null;
        if (given is not { Length: > 0 and <= GivenUnitsMax })
        {
            return false;
        }

        try
        {
            password = given.Normalize(NormalizationForm.FormC);
        }
        catch (ArgumentException)
        {
            return false; // half a surrogate pair: no keyboard gives that
        }

        return true;
    }

    /// <exception cref="ArgumentException">It cannot be a password at all; <see cref="PasswordRules"/> come first.</exception>
    public string Hash(string password) =>
        TryNormalize(password, out string? normalized)
            ? _hasher.HashPassword(Nobody, normalized)
            : throw new ArgumentException("Not a password.", nameof(password));

    /// <summary>Does slow work of passwords, of few at a time.</summary>
    public async Task<T> OnACoreAsync<T>(Func<T> work, CancellationToken cancellationToken)
    {
        await _cores.WaitAsync(cancellationToken);
        try
        {
            return work();
        }
        finally
        {
            _cores.Release();
        }
    }

    /// <param name="hash">Null when there is no such person: it takes as long to say no as to a wrong password.</param>
    /// <param name="password">As given.</param>
    /// <param name="cancellationToken">Ends the wait for a core.</param>
    public Task<PasswordCheck> VerifyAsync(string? hash, string? password, CancellationToken cancellationToken)
    {
        bool possible = TryNormalize(password, out string? normalized);
        return OnACoreAsync(
            () =>
            {
                PasswordVerificationResult result = _hasher.VerifyHashedPassword(
                    Nobody,
                    hash ?? _nobodysHash,
                    normalized ?? ""
                );
                return hash is null || !possible ? PasswordCheck.Wrong
                    : result == PasswordVerificationResult.Success ? PasswordCheck.Right
                    : result == PasswordVerificationResult.SuccessRehashNeeded ? PasswordCheck.RightAndOutdated
                    : PasswordCheck.Wrong;
            },
            cancellationToken
        );
    }

    public void Dispose() => _cores.Dispose();
}
