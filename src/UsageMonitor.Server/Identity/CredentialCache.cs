using System.Collections.Concurrent;
using System.Text.Json.Serialization;
using UsageMonitor.Server.Platform;
using IPNetwork = System.Net.IPNetwork;

namespace UsageMonitor.Server.Identity;

/// <summary>A credential that was found good.</summary>
/// <param name="Kind">What it is; the same bytes in another place are not the same credential.</param>
/// <param name="Caller">Whose it is; one object for all its requests.</param>
/// <param name="IsSuspended">Its enterprise may not do anything.</param>
/// <param name="ExpiresAt">When it ends by itself.</param>
internal sealed record Credential(CredentialKind Kind, Caller Caller, bool IsSuspended, DateTimeOffset ExpiresAt)
{
    /// <summary>Where an API key may be used from, or null: anywhere.</summary>
    public IReadOnlyList<IPNetwork>? Networks { get; init; }

    /// <summary>Where this instance notes the use of an API key, or null.</summary>
    [JsonIgnore]
    public ApiKeyUse? Use { get; init; }
}

/// <summary>
/// Who is behind a credential: from memory while nothing about its enterprise's identity changes, then from what another
/// instance has read (<see cref="SharedCache"/>), then from the database. A hit in memory costs one SHA-256, takes no lock
/// and allocates nothing.
/// </summary>
internal sealed class CredentialCache(
    CredentialStore store,
    SharedCache shared,
    IdentityVersion version,
    TimeProvider time
)
{
    private const int CredentialsMax = 100_000;

    /// <summary>Remembered so that a misconfigured client's retries do not each ask the database.</summary>
    private const int RefusedMax = 10_000;
    private static readonly TimeSpan RefusedFor = TimeSpan.FromSeconds(5);

    private readonly VersionedCache<CredentialHash, Credential> _good = new(
        version,
        CredentialsMax,
        static (_, credential) => credential.Caller.EnterpriseId
    );
    private readonly ConcurrentDictionary<CredentialHash, Refusal> _refused = new();

    /// <param name="Until">When it is forgotten in any case.</param>
    /// <param name="Known">The newest change when it was asked for; with the next it may be good, as when a person is reactivated.</param>
    private sealed record Refusal(DateTimeOffset Until, long Known);

    /// <summary>False: not known, ask <see cref="FindAsync"/>. True with null: known to be refused.</summary>
    public bool TryGet(in PresentedCredential presented, out Credential? credential)
    {
        if (
            presented.Kind is CredentialKind.None or CredentialKind.Malformed
            || !CredentialHash.TryCompute(presented.Span, out CredentialHash hash)
        )
        {
            credential = null;
            return true;
        }

        return TryGet(presented.Kind, hash, out credential);
    }

    /// <summary>The credential, or null when it is no good.</summary>
    public async Task<Credential?> FindAsync(PresentedCredential presented, CancellationToken cancellationToken)
    {
        if (
            presented.Kind is CredentialKind.None or CredentialKind.Malformed
            || !CredentialHash.TryCompute(presented.Span, out CredentialHash hash)
        )
        {
            return null;
        }

        if (TryGet(presented.Kind, hash, out Credential? known))
        {
            return known;
        }

        long newest = version.Known;
        Credential? found = await _good.LoadAsync(
            hash,
            current => ReadAsync(presented, hash, current),
            cancellationToken
        );
        if (found is null)
        {
            if (_refused.Count >= RefusedMax)
            {
                _refused.Clear();
            }

            _refused[hash] = new Refusal(time.GetUtcNow() + RefusedFor, newest);
        }

        return Usable(found, presented.Kind);
    }

    private async Task<Versioned<Credential>> ReadAsync(
        PresentedCredential presented,
        CredentialHash hash,
        long current
    )
    {
        byte[] bytes = hash.ToArray();
        string name = "credential:" + Convert.ToHexStringLower(bytes);
        if (
            await shared.GetAsync(name) is { } kept
            && CredentialCodec.Decode(kept.Value.Span) is { } known
            && known.Caller.EnterpriseId == kept.EnterpriseId
        )
        {
            return new Versioned<Credential>(kept.Version, store.WithUse(known));
        }

        Credential? read = await store.ReadAsync(presented, bytes);
        if (read is not null)
        {
            shared.Set(name, read.Caller.EnterpriseId, current, CredentialCodec.Encode(read));
        }

        return new Versioned<Credential>(current, read);
    }

    private bool TryGet(CredentialKind kind, in CredentialHash hash, out Credential? credential)
    {
        if (_good.TryGet(hash, out Credential? good))
        {
            credential = Usable(good, kind);
            return true;
        }

        credential = null;
        return !_refused.IsEmpty
            && _refused.TryGetValue(hash, out Refusal? refusal)
            && refusal.Known == version.Known
            && time.GetUtcNow() < refusal.Until;
    }

    private Credential? Usable(Credential? credential, CredentialKind kind) =>
        credential is not null && credential.Kind == kind && time.GetUtcNow() < credential.ExpiresAt
            ? credential
            : null;
}
