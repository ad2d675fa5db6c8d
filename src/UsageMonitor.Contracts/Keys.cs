namespace UsageMonitor.Contracts;

/// <summary>The platform's keys, by their ids: never the keys themselves.</summary>
/// <param name="MasterKeys">The keys that wrap other keys: those this process has, and those something is still wrapped by.</param>
/// <param name="SigningKeys">The keys that sign access tokens, the newest first.</param>
public sealed record PlatformKeysResponse(
    IReadOnlyList<MasterKeyStatus> MasterKeys,
    IReadOnlyList<SigningKeyStatus> SigningKeys
);

/// <summary>A master key.</summary>
/// <param name="KeyId">16 hexadecimal digits, or <c>none</c> for data keys from before master keys had ids.</param>
/// <param name="State">
/// <c>WRAPS</c>: new keys are wrapped by it. <c>OPENS</c>: it is kept for what is still wrapped by it, and may be removed from the
/// configuration when <paramref name="WrappedKeys"/> is 0. <c>MISSING</c>: something is wrapped by it and this process lacks it.
/// </param>
/// <param name="WrappedKeys">How many keys are wrapped by it: the enterprises' data keys and the root key.</param>
public sealed record MasterKeyStatus(string KeyId, string State, long WrappedKeys);

/// <summary>A key that signs access tokens.</summary>
/// <param name="KeyId">As in <c>kid</c> of the tokens and the published key set.</param>
/// <param name="State">
/// <c>PUBLISHED</c>: it signs soon. <c>SIGNING</c>. <c>RETIRED</c>: it signs no more, its tokens are accepted until
/// <paramref name="AcceptedUntil"/>.
/// </param>
/// <param name="CreatedAt">When it was made and published.</param>
/// <param name="SignsFrom">When it signs or signed first.</param>
/// <param name="SignsUntil">When the next one takes over, or null.</param>
/// <param name="AcceptedUntil">When it is deleted, or null.</param>
public sealed record SigningKeyStatus(
    string KeyId,
    string State,
    DateTimeOffset CreatedAt,
    DateTimeOffset SignsFrom,
    DateTimeOffset? SignsUntil,
    DateTimeOffset? AcceptedUntil
);
