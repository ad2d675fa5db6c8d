using System.Security.Cryptography;
using System.Text;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>Ten codes for when the device is gone; each is good once. Of 80 random bits a plain hash tells nobody anything.</summary>
internal sealed class RecoveryCodes(TimeProvider time)
{
    public const int Count = 10;
    public const int Characters = 16;
    private const int GroupCharacters = 4;

    // Crockford's base 32: no I, L, O or U.
    private const string Alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    private const string RemoveCodes = "DELETE FROM recovery_codes WHERE enterprise_id = $1 AND user_id = $2";

    private const string InsertCodes = """
        INSERT INTO recovery_codes (enterprise_id, user_id, code_hash, created_at)
        SELECT $1, $2, code_hash, $4 FROM unnest($3) AS code_hash
        """;

    /// <summary>A new set in place of the old one; what is answered is kept nowhere.</summary>
    public async Task<IReadOnlyList<string>> ReplaceAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    )
    {
        string[] codes =
        [
            .. Enumerable.Range(0, Count).Select(_ => RandomNumberGenerator.GetString(Alphabet, Characters)),
        ];
        byte[][] hashes = [.. codes.Select(code => HashOf(userId, code))];
        await transaction.ExecuteAsync(RemoveCodes, [enterpriseId, userId], cancellationToken);
        await transaction.ExecuteAsync(
            InsertCodes,
            [enterpriseId, userId, hashes, time.GetUtcNow()],
            cancellationToken
        );
        return
        [
            .. codes.Select(code => string.Join('-', code.Chunk(GroupCharacters).Select(group => new string(group)))),
        ];
    }

    public static Task RemoveAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        CancellationToken cancellationToken
    ) => transaction.ExecuteAsync(RemoveCodes, [enterpriseId, userId], cancellationToken);

    private const string UseCode = """
        UPDATE recovery_codes SET used_at = $4
        WHERE enterprise_id = $1 AND user_id = $2 AND code_hash = $3 AND used_at IS NULL
        """;

    public async Task<bool> TryUseAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid userId,
        string code,
        CancellationToken cancellationToken
    ) =>
        Normalize(code) is { } normal
        && await transaction.ExecuteAsync(
            UseCode,
            [enterpriseId, userId, HashOf(userId, normal), time.GetUtcNow()],
            cancellationToken
        ) > 0;

    // As people copy them: small letters, spaces, an O for a zero.
    private static string? Normalize(string code)
    {
        if (code.Length > 4 * Characters)
        {
            return null;
        }

        char[] characters =
        [
            .. code.ToUpperInvariant()
                .Where(character => character is not ('-' or ' '))
                .Select(character =>
                    character switch
                    {
                        'O' => '0',
                        'I' or 'L' => '1',
                        _ => character,
                    }
                ),
        ];
        return characters.Length == Characters && characters.All(Alphabet.Contains) ? new string(characters) : null;
    }

    private static byte[] HashOf(Guid userId, string code) =>
        SHA256.HashData([.. userId.ToByteArray(), .. Encoding.ASCII.GetBytes(code)]);
}
