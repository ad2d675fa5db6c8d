using System.Security.Cryptography;
using Microsoft.AspNetCore.Identity;
using Microsoft.Extensions.Options;

namespace UsageMonitor.Server.Identity;

/// <summary>Passwords: PBKDF2 with HMAC-SHA-512 as ASP.NET Core Identity stores it.</summary>
internal sealed class Passwords : IDisposable
{
    /// <summary>NIST SP 800-63B asks for length, not for composition.</summary>
    public const int CharactersMin = 12;
    public const int CharactersMax = 128;

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

    public static bool IsAcceptable(string password) => password.Length is >= CharactersMin and <= CharactersMax;

    public static string Generate() => RandomNumberGenerator.GetString(Alphabet, GeneratedCharacters);

    public string Hash(string password) => _hasher.HashPassword(Nobody, password);

    /// <param name="hash">Null when there is no such person: it takes as long to say no as to a wrong password.</param>
    /// <param name="password">As given.</param>
    /// <param name="cancellationToken">Ends the wait for a core.</param>
    public async Task<bool> VerifyAsync(string? hash, string password, CancellationToken cancellationToken)
    {
        await _cores.WaitAsync(cancellationToken);
        try
        {
            PasswordVerificationResult result = _hasher.VerifyHashedPassword(Nobody, hash ?? _nobodysHash, password);
            return hash is not null && result != PasswordVerificationResult.Failed;
        }
        finally
        {
            _cores.Release();
        }
    }

    public void Dispose() => _cores.Dispose();
}
