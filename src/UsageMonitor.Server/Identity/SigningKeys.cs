using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using Microsoft.IdentityModel.Tokens;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>The P-256 keys that sign access tokens. All instances share them through the database; the newest signs.</summary>
internal sealed class SigningKeys(Database database, MasterKey masterKey, TimeProvider time) : IDisposable
{
    /// <summary>How often an unknown key id may make an instance look for new keys; forged tokens name any id they like.</summary>
    public const int ReloadSecondsMin = 5;

    private const long CreationLock = 0x756d7369676e; // "umsign"
    private readonly byte[] _sealingKey = masterKey.Derive("signing-key");
    private readonly CryptoProviderFactory _signing = new(new InMemoryCryptoProviderCache());
    private readonly SemaphoreSlim _reloading = new(1);
    private volatile Loaded _loaded = new(
        FrozenDictionary<string, ECDsaSecurityKey>.Empty,
        null,
        DateTimeOffset.MinValue
    );

    /// <summary>The key that signs, made when there is none.</summary>
    public async ValueTask<ECDsaSecurityKey> SigningKeyAsync(CancellationToken cancellationToken)
    {
        if (_loaded.Newest is { } newest)
        {
            return newest;
        }

        await ReloadAsync(cancellationToken);
        return _loaded.Newest!;
    }

    /// <summary>All keys whose signatures are accepted.</summary>
    public async ValueTask<IReadOnlyCollection<ECDsaSecurityKey>> AllAsync(CancellationToken cancellationToken)
    {
        await SigningKeyAsync(cancellationToken);
        return _loaded.Keys.Values;
    }

    public bool TryGet(string? keyId, [NotNullWhen(true)] out ECDsaSecurityKey? key)
    {
        key = null;
        return keyId is not null && _loaded.Keys.TryGetValue(keyId, out key);
    }

    /// <summary>Makes a key known that another instance may have just made; asks the database every few seconds at most.</summary>
    public async ValueTask LookForAsync(string? keyId, CancellationToken cancellationToken)
    {
        if (!TryGet(keyId, out _) && time.GetUtcNow() - _loaded.At >= TimeSpan.FromSeconds(ReloadSecondsMin))
        {
            await ReloadAsync(cancellationToken);
        }
    }

    private const string ReadKeys = "SELECT key_id, private_key FROM signing_keys ORDER BY created_at DESC, key_id";

    private const string InsertKey = "INSERT INTO signing_keys (key_id, private_key, created_at) VALUES ($1, $2, $3)";

    private async Task ReloadAsync(CancellationToken cancellationToken)
    {
        Loaded before = _loaded;
        await _reloading.WaitAsync(cancellationToken);
        try
        {
            if (!ReferenceEquals(before, _loaded))
            {
                return;
            }

            await using NpgsqlConnection connection = await database.App.OpenConnectionAsync(cancellationToken);
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
            var scoped = new ScopedTransaction(connection, transaction);
            List<ECDsaSecurityKey> keys = await ReadAsync(scoped, cancellationToken);
            if (keys.Count == 0)
            {
                await scoped.ExecuteAsync("SELECT pg_advisory_xact_lock($1)", [CreationLock], cancellationToken);
                keys = await ReadAsync(scoped, cancellationToken);
                if (keys.Count == 0)
                {
                    keys.Add(await CreateAsync(scoped, cancellationToken));
                }

                await scoped.CommitAsync(cancellationToken);
            }

            _loaded = new Loaded(keys.ToFrozenDictionary(key => key.KeyId), keys[0], time.GetUtcNow());
        }
        finally
        {
            _reloading.Release();
        }
    }

    private async Task<List<ECDsaSecurityKey>> ReadAsync(
        ScopedTransaction transaction,
        CancellationToken cancellationToken
    )
    {
        var keys = new List<ECDsaSecurityKey>();
        await using NpgsqlCommand command = transaction.Command(ReadKeys);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            string keyId = reader.GetString(0);
            if (_loaded.Keys.TryGetValue(keyId, out ECDsaSecurityKey? known))
            {
                keys.Add(known);
                continue;
            }

            byte[] sealedKey = reader.GetFieldValue<byte[]>(1);
            var ecdsa = ECDsa.Create();
            ecdsa.ImportPkcs8PrivateKey(Sealing.Open(_sealingKey, sealedKey, Encoding.UTF8.GetBytes(keyId)), out _);
            keys.Add(Named(keyId, ecdsa));
        }

        return keys;
    }

    private async Task<ECDsaSecurityKey> CreateAsync(ScopedTransaction transaction, CancellationToken cancellationToken)
    {
        var ecdsa = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        string keyId = Base64UrlEncoder.Encode(SHA256.HashData(ecdsa.ExportSubjectPublicKeyInfo())[..16]);
        byte[] sealedKey = Sealing.Seal(_sealingKey, ecdsa.ExportPkcs8PrivateKey(), Encoding.UTF8.GetBytes(keyId));
        await transaction.ExecuteAsync(InsertKey, [keyId, sealedKey, time.GetUtcNow()], cancellationToken);
        return Named(keyId, ecdsa);
    }

    // The library's default factory keeps what signs and checks for the whole process, by key id, beyond our Dispose.
    private ECDsaSecurityKey Named(string keyId, ECDsa ecdsa) =>
        new(ecdsa) { KeyId = keyId, CryptoProviderFactory = _signing };

    public void Dispose()
    {
        foreach (ECDsaSecurityKey key in _loaded.Keys.Values)
        {
            key.ECDsa.Dispose();
        }

        _reloading.Dispose();
    }

    private sealed record Loaded(
        FrozenDictionary<string, ECDsaSecurityKey> Keys,
        ECDsaSecurityKey? Newest,
        DateTimeOffset At
    );
}
