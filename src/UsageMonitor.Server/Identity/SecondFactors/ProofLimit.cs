using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>An attempt that was counted; given back when it was no guess.</summary>
internal sealed record ProofAttempt(Guid EnterpriseId, Guid UserId, string Kind, DateTimeOffset At, int Count);

/// <summary>
/// Ten attempts a person in any quarter of an hour, over all instances: with three codes right at a time, guessing one of a
/// million at that pace takes a year for an even chance. Each is counted before it is looked at, so that many at once do
/// not slip through together.
/// </summary>
internal sealed class ProofLimit(TimeProvider time)
{
    public const int AttemptsMax = 10;
    public static readonly TimeSpan Window = TimeSpan.FromMinutes(15);

    /// <summary>The second step of a sign-in; whoever knows the password can use it up.</summary>
    public const string SignIn = "sign-in";

    /// <summary>Proofs inside a session, counted apart so that a stranger at the door cannot lock them.</summary>
    public const string Session = "session";

    private const string CountAttempt = """
        INSERT INTO proof_attempts AS p (enterprise_id, user_id, kind, attempts) VALUES ($1, $2, $3, ARRAY[$4]::timestamptz[])
        ON CONFLICT (enterprise_id, user_id, kind) DO UPDATE
        SET attempts = ARRAY(SELECT at FROM unnest(p.attempts) at WHERE at > $5) || $4::timestamptz
        WHERE (SELECT count(*) FROM unnest(p.attempts) at WHERE at > $5) < $6
        RETURNING cardinality(attempts)
        """;

    /// <summary>Counts an attempt, or answers null: too many, wait.</summary>
    public async Task<ProofAttempt?> TryBeginAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        string kind,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset now = time.GetUtcNow();
        await using NpgsqlCommand command = transaction.Command(
            CountAttempt,
            enterpriseId,
            userId,
            kind,
            now,
            now - Window,
            AttemptsMax
        );
        return await command.ExecuteScalarAsync(cancellationToken) is int count
            ? new ProofAttempt(enterpriseId, userId, kind, now, count)
            : null;
    }

    private const string GiveBack = """
        UPDATE proof_attempts SET attempts = array_remove(attempts, $4)
        WHERE enterprise_id = $1 AND user_id = $2 AND kind = $3
        """;

    /// <summary>The attempt was no guess. Those of others stay counted: the owner's sign-in must not help a guesser on.</summary>
    public static Task SucceededAsync(
        ScopedTransaction transaction,
        ProofAttempt attempt,
        CancellationToken cancellationToken
    ) =>
        transaction.ExecuteAsync(
            GiveBack,
            [attempt.EnterpriseId, attempt.UserId, attempt.Kind, attempt.At],
            cancellationToken
        );
}
