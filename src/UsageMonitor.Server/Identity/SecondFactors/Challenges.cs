using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>What a client has to answer, kept by the client and unreadable to it.</summary>
/// <param name="ChallengeId">Remembered once it is answered.</param>
/// <param name="EnterpriseId">Of the person.</param>
/// <param name="UserId">The person; empty when a passkey is to tell who it is.</param>
/// <param name="ExpiresAt">Five minutes after it was made.</param>
/// <param name="PasswordChangedAt">Of the password that was right: with a new password the challenge is void.</param>
/// <param name="PasskeyState">What ASP.NET Core Identity needs to check a passkey's answer, or null.</param>
internal sealed record Challenge(
    Guid ChallengeId,
    Guid EnterpriseId,
    Guid UserId,
    DateTimeOffset ExpiresAt,
    DateTimeOffset? PasswordChangedAt,
    string? PasskeyState
);

/// <summary>
/// Makes and opens challenges. Making one writes nothing, so that nobody can fill a table by asking; answering one is
/// counted in the database, so that no instance takes it twice or lets it be guessed at more than five times.
/// </summary>
internal sealed class Challenges(MasterKey masterKey, TimeProvider time)
{
    public const int AttemptsMax = 5;
    public static readonly TimeSpan Lifetime = TimeSpan.FromMinutes(5);

    /// <summary>What a challenge is for; one cannot be answered in place of another.</summary>
    public const string SecondFactor = "second-factor";
    public const string PasskeySignIn = "passkey-sign-in";
    public const string PasskeyCreation = "passkey-creation";
    public const string Proof = "proof";

    private const int CharactersMax = 4_096;
    private const int ForgottenAtOnceMax = 100;
    private readonly byte[] _key = masterKey.Derive("challenge");

    public Challenge New(Guid enterpriseId, Guid userId, DateTimeOffset? passwordChangedAt, string? passkeyState) =>
        new(Guid.NewGuid(), enterpriseId, userId, time.GetUtcNow() + Lifetime, passwordChangedAt, passkeyState);

    public string Seal(string purpose, Challenge challenge) =>
        Base64Url.EncodeToString(
            Sealing.Seal(_key, JsonSerializer.SerializeToUtf8Bytes(challenge), Encoding.UTF8.GetBytes(purpose))
        );

    /// <summary>The challenge, or null when it is not ours, is for something else, or is over.</summary>
    public Challenge? Open(string purpose, string? text)
    {
        if (text is not { Length: > 0 and <= CharactersMax } || !Base64Url.IsValid(text))
        {
            return null;
        }

        try
        {
            byte[] plain = Sealing.Open(_key, Base64Url.DecodeFromChars(text), Encoding.UTF8.GetBytes(purpose));
            Challenge challenge = JsonSerializer.Deserialize<Challenge>(plain)!;
            return time.GetUtcNow() < challenge.ExpiresAt ? challenge : null;
        }
        catch (CryptographicException)
        {
            return null;
        }
    }

    private const string CountAttempt = """
        INSERT INTO answered_challenges AS c (enterprise_id, challenge_id, expires_at, attempts) VALUES ($1, $2, $3, 1)
        ON CONFLICT (enterprise_id, challenge_id) DO UPDATE SET attempts = c.attempts + 1
        WHERE c.attempts < $4 AND c.spent_at IS NULL
        """;

    // Skips what another sign-in is forgetting at the moment: two that delete the same rows must not wait for each other.
    private const string ForgetExpired = """
        DELETE FROM answered_challenges WHERE enterprise_id = $1 AND challenge_id IN (
            SELECT challenge_id FROM answered_challenges WHERE enterprise_id = $1 AND expires_at < $2
            LIMIT $3 FOR UPDATE SKIP LOCKED)
        """;

    /// <summary>Counts an answer before it is looked at. False: it has been answered, or answered wrongly too often.</summary>
    public async Task<bool> TryCountAsync(
        ScopedTransaction transaction,
        Challenge challenge,
        CancellationToken cancellationToken
    )
    {
        object?[] expired = [challenge.EnterpriseId, time.GetUtcNow(), ForgottenAtOnceMax];
        await transaction.ExecuteAsync(ForgetExpired, expired, cancellationToken);
        object?[] row = [challenge.EnterpriseId, challenge.ChallengeId, challenge.ExpiresAt, AttemptsMax];
        return await transaction.ExecuteAsync(CountAttempt, row, cancellationToken) > 0;
    }

    private const string SpendChallenge = """
        UPDATE answered_challenges SET spent_at = $3 WHERE enterprise_id = $1 AND challenge_id = $2 AND spent_at IS NULL
        """;

    /// <summary>Makes it void in the transaction of what it let happen. False: another answer was faster.</summary>
    public async Task<bool> TrySpendAsync(
        ScopedTransaction transaction,
        Challenge challenge,
        CancellationToken cancellationToken
    )
    {
        object?[] parameters = [challenge.EnterpriseId, challenge.ChallengeId, time.GetUtcNow()];
        return await transaction.ExecuteAsync(SpendChallenge, parameters, cancellationToken) > 0;
    }
}
