using System.Text.Json;
using Microsoft.AspNetCore.Identity;
using Microsoft.Extensions.Options;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>A passkey's answer that was found right, not yet acted upon.</summary>
internal sealed record PasskeyAssertion(PasskeyUser User, UserPasskeyInfo Passkey);

/// <summary>What the browser is given, and what is kept to check its answer.</summary>
internal sealed record PasskeyOptions(JsonElement Options, string State);

/// <summary>Passkeys (WebAuthn level 3) by ASP.NET Core Identity's handler, over our own table.</summary>
internal sealed class Passkeys(Database database, IServiceProvider services, ILogger<UserManager<PasskeyUser>> logger)
    : IDisposable
{
    public const int PerPersonMax = 10;
    public const int NameCharactersMax = 100;
    private const string Preferred = "preferred";
    private const string Required = "required";
    private static readonly TimeSpan s_timeout = Challenges.Lifetime;

    private readonly UserManager<PasskeyUser> _users = new(
        new PasskeyStore(database),
        Options.Create(new IdentityOptions()),
        new PasswordHasher<PasskeyUser>(),
        [],
        [],
        new UpperInvariantLookupNormalizer(),
        new IdentityErrorDescriber(),
        services,
        logger
    );

    /// <summary>For <c>navigator.credentials.create</c>; devices that have a passkey of this person are told so.</summary>
    public async Task<PasskeyOptions> CreationOptionsAsync(
        HttpContext context,
        PasskeyUser user,
        string email,
        string? displayName
    )
    {
        var entity = new PasskeyUserEntity
        {
            Id = user.Handle,
            Name = email,
            DisplayName = displayName ?? email,
        };
        PasskeyCreationOptionsResult made = await Handler(context, Preferred).MakeCreationOptionsAsync(entity, context);
        return new PasskeyOptions(Parse(made.CreationOptionsJson), made.AttestationState!);
    }

    /// <summary>For <c>navigator.credentials.get</c>.</summary>
    /// <param name="context">The request.</param>
    /// <param name="user">Null: any passkey of ours, which must then have verified its owner, by a PIN or a finger.</param>
    public async Task<PasskeyOptions> RequestOptionsAsync(HttpContext context, PasskeyUser? user)
    {
        PasskeyRequestOptionsResult made = await Handler(context, user is null ? Required : Preferred)
            .MakeRequestOptionsAsync(user, context);
        return new PasskeyOptions(Parse(made.RequestOptionsJson), made.AssertionState!);
    }

    /// <summary>The new passkey, or null when the answer is not one to the options.</summary>
    public async Task<UserPasskeyInfo?> AttestAsync(HttpContext context, string state, JsonElement credential)
    {
        PasskeyAttestationResult result = await Handler(context, Preferred)
            .PerformAttestationAsync(
                new PasskeyAttestationContext
                {
                    HttpContext = context,
                    CredentialJson = credential.GetRawText(),
                    AttestationState = state,
                }
            );
        ThrowIfOurs(result.Failure);
        return result.Succeeded ? result.Passkey : null;
    }

    /// <summary>Whose passkey it was, or null. Nothing is written yet: see <see cref="TryUseAsync"/>.</summary>
    /// <param name="context">The request.</param>
    /// <param name="state">Of the options.</param>
    /// <param name="credential">The browser's answer.</param>
    /// <param name="alone">The passkey is all the proof there is, so it must have verified its owner.</param>
    public async Task<PasskeyAssertion?> AssertAsync(
        HttpContext context,
        string state,
        JsonElement credential,
        bool alone
    )
    {
        PasskeyAssertionResult<PasskeyUser> result = await Handler(context, alone ? Required : Preferred)
            .PerformAssertionAsync(
                new PasskeyAssertionContext
                {
                    HttpContext = context,
                    CredentialJson = credential.GetRawText(),
                    AssertionState = state,
                }
            );
        ThrowIfOurs(result.Failure);
        return result.Succeeded ? new PasskeyAssertion(result.User, result.Passkey) : null;
    }

    // The counter was compared before the transaction; here it moves only if no other answer has moved it meanwhile.
    private const string UsePasskey = """
        UPDATE passkeys SET sign_count = $4, backed_up = $5, last_used_at = $6
        WHERE enterprise_id = $1 AND user_id = $2 AND credential_id = $3 AND (sign_count < $4 OR (sign_count = 0 AND $4 = 0))
        """;

    /// <summary>Moves the passkey's counter. False: the passkey is gone, or its counter has moved on.</summary>
    public static async Task<bool> TryUseAsync(
        ScopedTransaction transaction,
        PasskeyAssertion assertion,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        (PasskeyUser user, UserPasskeyInfo passkey) = assertion;
        object?[] parameters =
        [
            user.EnterpriseId,
            user.UserId,
            passkey.CredentialId,
            (long)passkey.SignCount,
            passkey.IsBackedUp,
            now,
        ];
        return await transaction.ExecuteAsync(UsePasskey, parameters, cancellationToken) > 0;
    }

    private const string InsertPasskey = """
        INSERT INTO passkeys (enterprise_id, passkey_id, user_id, credential_id, public_key, sign_count, transports, user_verified,
                              backup_eligible, backed_up, name, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (credential_id) DO NOTHING
        """;

    /// <returns>Its id, or null when somebody has registered the same credential meanwhile.</returns>
    public static async Task<Guid?> AddAsync(
        ScopedTransaction transaction,
        EnterpriseInfo enterprise,
        Guid userId,
        UserPasskeyInfo passkey,
        string name,
        DateTimeOffset now,
        CancellationToken cancellationToken
    )
    {
        var passkeyId = Guid.NewGuid();
        object?[] row =
        [
            enterprise.EnterpriseId,
            passkeyId,
            userId,
            passkey.CredentialId,
            passkey.PublicKey,
            (long)passkey.SignCount,
            passkey.Transports,
            passkey.IsUserVerified,
            passkey.IsBackupEligible,
            passkey.IsBackedUp,
            Sealing.Seal(
                enterprise.DataKey,
                System.Text.Encoding.UTF8.GetBytes(name),
                NameContext(enterprise.EnterpriseId, passkeyId)
            ),
            now,
        ];
        return await transaction.ExecuteAsync(InsertPasskey, row, cancellationToken) > 0 ? passkeyId : null;
    }

    public static string OpenName(EnterpriseInfo enterprise, Guid passkeyId, byte[] sealedName) =>
        System.Text.Encoding.UTF8.GetString(
            Sealing.Open(enterprise.DataKey, sealedName, NameContext(enterprise.EnterpriseId, passkeyId))
        );

    public void Dispose() => _users.Dispose();

    private static byte[] NameContext(Guid enterpriseId, Guid passkeyId) =>
        [.. enterpriseId.ToByteArray(), .. passkeyId.ToByteArray(), .. "passkey-name"u8];

    private PasskeyHandler<PasskeyUser> Handler(HttpContext context, string userVerification)
    {
        RelyingParty party = RelyingParty.Of(context.Request, publicUrl: null);
        return new PasskeyHandler<PasskeyUser>(
            _users,
            Options.Create(
                new IdentityPasskeyOptions
                {
                    AuthenticatorTimeout = s_timeout,
                    ServerDomain = party.Domain,
                    UserVerificationRequirement = userVerification,
                    ResidentKeyRequirement = Preferred,
                    AttestationConveyancePreference = "none",
                    ValidateOrigin = origin => ValueTask.FromResult(!origin.CrossOrigin && party.Is(origin.Origin)),
                }
            )
        );
    }

    private static JsonElement Parse(string json) => JsonSerializer.Deserialize<JsonElement>(json);

    // The handler takes whatever goes wrong for a bad answer. A database that is away is not the caller's fault.
    private static void ThrowIfOurs(PasskeyException? failure)
    {
        if (failure?.InnerException is { } inner and (NpgsqlException or TimeoutException))
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(inner);
        }
    }
}

/// <summary>Who we are to an authenticator: the address people see.</summary>
/// <param name="Domain">WebAuthn's relying party id.</param>
/// <param name="Origin">The only origin whose answers count.</param>
internal sealed record RelyingParty(string Domain, string Origin)
{
    /// <param name="request">Tells by its host where people see us, when nothing is set.</param>
    /// <param name="publicUrl">Where people reach the pages, as the operator has set it, or null.</param>
    public static RelyingParty Of(HttpRequest request, string? publicUrl) =>
        publicUrl is not null
            ? new(new Uri(publicUrl).Host, new Uri(publicUrl).GetLeftPart(UriPartial.Authority))
            : new(request.Host.Host, $"{request.Scheme}://{request.Host.Value}");

    public bool Is(string? origin) => string.Equals(origin, Origin, StringComparison.OrdinalIgnoreCase);
}
