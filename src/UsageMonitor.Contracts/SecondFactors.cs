using System.Text.Json;

namespace UsageMonitor.Contracts;

/// <summary><c>POST /v1/auth/second-factor</c>: the answer to a challenge; exactly one of the three proofs.</summary>
/// <param name="Challenge">As <c>POST /v1/auth/login</c> answered with <c>second_factor_required</c>.</param>
/// <param name="Code">Six digits of the authenticator app.</param>
/// <param name="RecoveryCode">One of the codes that were kept for this.</param>
/// <param name="Passkey">What <c>navigator.credentials.get</c> gave, as JSON.</param>
public sealed record SecondFactorRequest(
    string? Challenge,
    string? Code = null,
    string? RecoveryCode = null,
    JsonElement? Passkey = null
);

/// <summary><c>POST /v1/auth/passkey</c>: signs in with a passkey alone.</summary>
/// <param name="Challenge">Of <c>POST /v1/auth/passkey/options</c>.</param>
/// <param name="Passkey">What <c>navigator.credentials.get</c> gave, as JSON.</param>
public sealed record PasskeySignInRequest(string? Challenge, JsonElement? Passkey);

/// <summary>What a browser needs to ask for a passkey or to make one.</summary>
/// <param name="Challenge">To be sent back with the passkey; good for five minutes, once.</param>
/// <param name="Options">For <c>navigator.credentials.get</c> or <c>create</c>: its <c>publicKey</c> as JSON.</param>
public sealed record PasskeyOptionsResponse(string Challenge, JsonElement Options);

/// <summary><c>POST /v1/me/proof</c>: shows once more who one is; exactly one of the proofs.</summary>
/// <param name="Password">Only of a person without a second factor.</param>
/// <param name="Code">Six digits of the authenticator app.</param>
/// <param name="RecoveryCode">One of the codes that were kept for this.</param>
/// <param name="Challenge">With a passkey: of <c>POST /v1/me/proof/options</c>.</param>
/// <param name="Passkey">What <c>navigator.credentials.get</c> gave, as JSON.</param>
public sealed record ProofRequest(
    string? Password = null,
    string? Code = null,
    string? RecoveryCode = null,
    string? Challenge = null,
    JsonElement? Passkey = null
);

/// <summary>The second factors of a person.</summary>
/// <param name="Required">The enterprise asks for one.</param>
/// <param name="TotpSince">Since when an authenticator app is set up, or null.</param>
/// <param name="Passkeys">At most 10.</param>
/// <param name="RecoveryCodesLeft">Recovery codes not yet used.</param>
public sealed record SecondFactorsResponse(
    bool Required,
    DateTimeOffset? TotpSince,
    IReadOnlyList<PasskeySummary> Passkeys,
    int RecoveryCodesLeft
);

/// <summary>A passkey as listed.</summary>
/// <param name="PasskeyId">Its id here.</param>
/// <param name="Name">As its owner called it.</param>
/// <param name="IsBackedUp">Kept by the maker of the device too, so that it outlives it.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="LastUsedAt">When it last signed in, or null.</param>
public sealed record PasskeySummary(
    Guid PasskeyId,
    string Name,
    bool IsBackedUp,
    DateTimeOffset CreatedAt,
    DateTimeOffset? LastUsedAt
);

/// <summary>A new secret for an authenticator app; it counts once a code of it is confirmed, within a quarter of an hour.</summary>
/// <param name="Secret">Base32, for typing in.</param>
/// <param name="Uri"><c>otpauth://totp/…</c>, for a QR code.</param>
public sealed record BeginTotpResponse(string Secret, string Uri);

/// <summary><c>POST /v1/me/second-factors/totp/confirm</c>.</summary>
/// <param name="Code">Six digits that the app shows now.</param>
public sealed record ConfirmTotpRequest(string? Code);

/// <summary><c>POST /v1/me/second-factors/passkeys</c>.</summary>
/// <param name="Name">1–100 characters.</param>
/// <param name="Challenge">Of <c>POST …/passkeys/options</c>.</param>
/// <param name="Passkey">What <c>navigator.credentials.create</c> gave, as JSON.</param>
public sealed record AddPasskeyRequest(string? Name, string? Challenge, JsonElement? Passkey);

/// <summary>A factor was set up.</summary>
/// <param name="RecoveryCodes">The first factor's ten recovery codes, shown this once; null when there are codes already.</param>
/// <param name="PasskeyId">The new passkey, or null.</param>
public sealed record FactorAddedResponse(IReadOnlyList<string>? RecoveryCodes, Guid? PasskeyId = null);

/// <summary>New recovery codes, shown this once; the old ones are void.</summary>
public sealed record RecoveryCodesResponse(IReadOnlyList<string> RecoveryCodes);
