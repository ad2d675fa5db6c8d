using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using Microsoft.IdentityModel.Tokens;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Identity;

/// <summary>A signing key with its times.</summary>
/// <param name="Key">The pair.</param>
/// <param name="CreatedAt">When it was made, and from when on it is published.</param>
/// <param name="SignsFrom">When it takes over.</param>
/// <param name="SignsUntil">When the next one takes over; null while there is none.</param>
internal sealed record SigningKey(
    ECDsaSecurityKey Key,
    DateTimeOffset CreatedAt,
    DateTimeOffset SignsFrom,
    DateTimeOffset? SignsUntil
)
{
    public string KeyId => Key.KeyId;

    /// <summary>From then on its signatures are refused and it may be deleted; null while no other key follows it.</summary>
    public DateTimeOffset? AcceptedUntil => SignsUntil?.AddSeconds(SigningKeys.AcceptedSeconds);

    public bool IsAccepted(DateTimeOffset now) => AcceptedUntil is not { } until || now < until;
}

/// <summary>
/// The P-256 keys that sign access tokens, shared by all instances through the database. Each has its times there, so that all
/// instances agree which one signs without talking to each other.
/// </summary>
/// <remarks>
/// A new key is published <see cref="PublishedAheadSeconds"/> before it signs, which is longer than anybody may keep the
/// published set, and a replaced one is accepted for <see cref="AcceptedSeconds"/>, which is longer than a token lives.
/// </remarks>
internal sealed class SigningKeys(Database database, MasterKey masterKey, TimeProvider time) : IDisposable
{
    /// <summary>How often an unknown key id may make an instance look for new keys; forged tokens name any id they like.</summary>
    public const int ReloadSecondsMin = 5;

    /// <summary>How long the published keys may be kept by whoever asked for them.</summary>
    public const int PublishedCacheSeconds = 5 * 60;

    public const int PublishedAheadSeconds = 10 * 60;
    public const int AcceptedSeconds = 60 * 60;
    public const int SigningDaysMax = 30;

    private const long ChangeLock = 0x756d7369676e; // "umsign"
    private readonly byte[] _sealingKey = masterKey.Derive("signing-key");
    private readonly CryptoProviderFactory _signing = new(new InMemoryCryptoProviderCache());
    private readonly SemaphoreSlim _reloading = new(1);
    private volatile Loaded _loaded = new([], FrozenDictionary<string, SigningKey>.Empty, DateTimeOffset.MinValue);

    /// <summary>The key that signs now, made when there is none.</summary>
    public async ValueTask<ECDsaSecurityKey> SigningKeyAsync(CancellationToken cancellationToken)
    {
        if (_loaded.Keys.Length == 0)
        {
            await ReloadAsync(_loaded, cancellationToken);
        }

        return Signing(_loaded.Keys, time.GetUtcNow()).Key;
    }

    /// <summary>All keys whose signatures are accepted, and the one that is to sign next; the newest first.</summary>
    public async ValueTask<IReadOnlyCollection<ECDsaSecurityKey>> AllAsync(CancellationToken cancellationToken)
    {
        await SigningKeyAsync(cancellationToken);
        DateTimeOffset now = time.GetUtcNow();
        return [.. _loaded.Keys.Where(key => key.IsAccepted(now)).Select(key => key.Key)];
    }

    /// <summary>The keys with their times as the database has them now, the newest first, and which of them signs.</summary>
    public async Task<(IReadOnlyList<SigningKey> Keys, string SigningKeyId)> ReadAsync(
        CancellationToken cancellationToken
    )
    {
        await ReloadAsync(_loaded, cancellationToken);
        SigningKey[] keys = _loaded.Keys;
        return (keys, Signing(keys, time.GetUtcNow()).KeyId);
    }

    public bool TryGet(string? keyId, [NotNullWhen(true)] out ECDsaSecurityKey? key)
    {
        key =
            keyId is not null
            && _loaded.ById.TryGetValue(keyId, out SigningKey? found)
            && found.IsAccepted(time.GetUtcNow())
                ? found.Key
                : null;
        return key is not null;
    }

    /// <summary>Makes a key known that another instance may have just made; asks the database every few seconds at most.</summary>
    public async ValueTask LookForAsync(string? keyId, CancellationToken cancellationToken)
    {
        Loaded loaded = _loaded;
        if (
            (keyId is null || !loaded.ById.ContainsKey(keyId))
            && time.GetUtcNow() - loaded.At >= TimeSpan.FromSeconds(ReloadSecondsMin)
        )
        {
            await ReloadAsync(loaded, cancellationToken);
        }
    }

    /// <summary>Makes the key that is to sign next, unless there is one already.</summary>
    /// <returns>That key.</returns>
    public async Task<SigningKey> RotateAsync(CancellationToken cancellationToken)
    {
        await ChangeAsync(mayWait: true, isDue: _ => true, cancellationToken);
        return _loaded.Keys[0];
    }

    /// <summary>
    /// What falls due with time: a successor of a key that has signed long enough, the end of those nobody may use any more, and
    /// knowing what other instances have done. To be called every minute or so.
    /// </summary>
    public Task MaintainAsync(CancellationToken cancellationToken) =>
        ChangeAsync(
            mayWait: false,
            isDue: newest => newest.SignsFrom.AddDays(SigningDaysMax) <= time.GetUtcNow(),
            cancellationToken
        );

    private const string ReadKeys = """
        SELECT key_id, private_key, created_at, signs_from, lead(signs_from) OVER (ORDER BY signs_from, key_id)
        FROM signing_keys ORDER BY signs_from DESC, key_id DESC
        """;

    private const string InsertKey =
        "INSERT INTO signing_keys (key_id, private_key, created_at, signs_from) VALUES ($1, $2, $3, $4)";

    private const string DeleteKeys = "DELETE FROM signing_keys WHERE key_id = ANY ($1)";

    private async Task ChangeAsync(bool mayWait, Func<SigningKey, bool> isDue, CancellationToken cancellationToken)
    {
        await _reloading.WaitAsync(cancellationToken);
        try
        {
            await using ScopedTransaction transaction = await OpenAsync(cancellationToken);
            await using NpgsqlCommand take = transaction.Command(
                mayWait ? "SELECT true FROM pg_advisory_xact_lock($1)" : "SELECT pg_try_advisory_xact_lock($1)",
                ChangeLock
            );
            bool taken = (bool)(await take.ExecuteScalarAsync(cancellationToken))!;
            List<SigningKey> keys = await ReadAsync(transaction, cancellationToken);
            if (taken)
            {
                DateTimeOffset now = time.GetUtcNow();
                if (keys.Count == 0 || (keys[0].SignsFrom <= now && isDue(keys[0])))
                {
                    await CreateAsync(
                        transaction,
                        keys.Count == 0 ? now : now.AddSeconds(PublishedAheadSeconds),
                        cancellationToken
                    );
                    if (keys.Count > 0 && AuditScope.Current is not null)
                    {
                        // An operator asks for it; the platform's chain tells of it.
                        await transaction.SetAsync(
                            Database.EnterpriseSetting,
                            Guid.Empty.ToString(),
                            cancellationToken
                        );
                        transaction.Audit("signing_key.created", "signing_key", null);
                    }
                }

                string[] ended = [.. keys.Where(key => !key.IsAccepted(now)).Select(key => key.KeyId)];
                await transaction.ExecuteAsync(DeleteKeys, [ended], cancellationToken);
                keys = await ReadAsync(transaction, cancellationToken);
                await transaction.CommitAsync(cancellationToken);
            }

            Use(keys);
        }
        finally
        {
            _reloading.Release();
        }
    }

    private async Task ReloadAsync(Loaded before, CancellationToken cancellationToken)
    {
        await _reloading.WaitAsync(cancellationToken);
        bool isFirst;
        try
        {
            if (!ReferenceEquals(before, _loaded))
            {
                return;
            }

            await using ScopedTransaction transaction = await OpenAsync(cancellationToken);
            List<SigningKey> keys = await ReadAsync(transaction, cancellationToken);
            isFirst = keys.Count == 0;
            Use(keys);
        }
        finally
        {
            _reloading.Release();
        }

        if (isFirst)
        {
            await ChangeAsync(mayWait: true, isDue: _ => false, cancellationToken);
        }
    }

    private void Use(List<SigningKey> keys) =>
        _loaded = new Loaded([.. keys], keys.ToFrozenDictionary(key => key.KeyId), time.GetUtcNow());

    // A clock that is a little behind may see only keys that are to sign: the first of them does.
    private static SigningKey Signing(SigningKey[] keys, DateTimeOffset now) =>
        keys.FirstOrDefault(key => key.SignsFrom <= now) ?? keys[^1];

    // The keys are no enterprise's: no scope.
    private async Task<ScopedTransaction> OpenAsync(CancellationToken cancellationToken)
    {
        NpgsqlConnection connection = await database.App.OpenConnectionAsync(cancellationToken);
        try
        {
            return new ScopedTransaction(connection, await connection.BeginTransactionAsync(cancellationToken));
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    private async Task<List<SigningKey>> ReadAsync(ScopedTransaction transaction, CancellationToken cancellationToken)
    {
        var keys = new List<SigningKey>();
        await using NpgsqlCommand command = transaction.Command(ReadKeys);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            string keyId = reader.GetString(0);
            keys.Add(
                new SigningKey(
                    _loaded.ById.TryGetValue(keyId, out SigningKey? known)
                        ? known.Key
                        : Open(keyId, reader.GetFieldValue<byte[]>(1)),
                    reader.GetFieldValue<DateTimeOffset>(2),
                    reader.GetFieldValue<DateTimeOffset>(3),
                    reader.IsDBNull(4) ? null : reader.GetFieldValue<DateTimeOffset>(4)
                )
            );
        }

        return keys;
    }

    private async Task CreateAsync(
        ScopedTransaction transaction,
        DateTimeOffset signsFrom,
        CancellationToken cancellationToken
    )
    {
        using var ecdsa = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        string keyId = Base64UrlEncoder.Encode(SHA256.HashData(ecdsa.ExportSubjectPublicKeyInfo())[..16]);
        byte[] sealedKey = Sealing.Seal(_sealingKey, ecdsa.ExportPkcs8PrivateKey(), Encoding.UTF8.GetBytes(keyId));
        await transaction.ExecuteAsync(InsertKey, [keyId, sealedKey, time.GetUtcNow(), signsFrom], cancellationToken);
    }

    // The library's default factory keeps what signs and checks for the whole process, by key id, beyond our Dispose.
    private ECDsaSecurityKey Open(string keyId, byte[] sealedKey)
    {
        var ecdsa = ECDsa.Create();
        ecdsa.ImportPkcs8PrivateKey(Sealing.Open(_sealingKey, sealedKey, Encoding.UTF8.GetBytes(keyId)), out _);
        return new ECDsaSecurityKey(ecdsa) { KeyId = keyId, CryptoProviderFactory = _signing };
    }

    public void Dispose()
    {
        // Keys that have ended meanwhile are left to the finalizer: somebody may be signing with one.
        foreach (SigningKey key in _loaded.Keys)
        {
            key.Key.ECDsa.Dispose();
        }

        _reloading.Dispose();
    }

    private sealed record Loaded(SigningKey[] Keys, FrozenDictionary<string, SigningKey> ById, DateTimeOffset At);
}

/// <summary>Keeps the signing keys changing, and this instance knowing them before they sign.</summary>
internal sealed partial class SigningKeyRotation(
    SigningKeys keys,
    TimeProvider time,
    ILogger<SigningKeyRotation> logger
) : BackgroundService
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMinutes(1);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(s_interval, time);
        do
        {
            try
            {
                await keys.MaintainAsync(stoppingToken);
            }
            catch (NpgsqlException exception)
            {
                LogFailed(exception);
            }
        } while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The signing keys could not be looked after; it is tried again."
    )]
    private partial void LogFailed(Exception exception);
}
