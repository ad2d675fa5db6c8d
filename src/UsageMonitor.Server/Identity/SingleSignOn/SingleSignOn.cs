using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using Microsoft.IdentityModel.Protocols.OpenIdConnect;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Why a sign-in by a provider did not come to be.</summary>
internal enum SignOnFailure
{
    /// <summary>No such provider, or nobody signs in by it.</summary>
    UnknownProvider,

    /// <summary>This browser has not begun it, or too long ago, or it is done already.</summary>
    NotBegunHere,

    /// <summary>The provider let the person not in, or they turned back.</summary>
    RefusedByProvider,

    /// <summary>The provider does not answer.</summary>
    ProviderUnavailable,

    /// <summary>What the provider answered does not hold.</summary>
    AnswerNotValid,
    EmailMissing,
    EmailNotVerified,

    /// <summary>The address is of a foreign domain or of another enterprise; deliberately the same.</summary>
    AddressNotUsable,

    /// <summary>The address's account belongs to somebody else at the provider.</summary>
    LinkedToAnother,

    /// <summary>The enterprise adds its people itself.</summary>
    NotInvited,
    Deactivated,
    EnterpriseSuspended,
}

/// <summary>The end of a sign-in by a provider: a person, or why not.</summary>
internal sealed record SignOnResult(Person? Person, SignOnFailure? Failure, string ReturnUrl = "/")
{
    public SignOnResult(Person person)
        : this(person, null) { }

    public SignOnResult(SignOnFailure failure)
        : this(null, failure) { }
}

/// <summary>What a browser brings back from a provider (RFC 6749, 4.1.2; RFC 9207).</summary>
internal sealed record SignOnCallback(string? State, string? Code, string? Issuer, string? Error);

/// <summary>Sign-in by an enterprise's OpenID provider: authorization code with PKCE, state and nonce.</summary>
internal sealed partial class SingleSignOn(
    Database database,
    EnterpriseDirectory enterprises,
    SignOnAddresses addresses,
    SignOnStates states,
    ProviderMetadata metadata,
    CodeExchange exchange,
    IdTokens idTokens,
    SignOnPeople people,
    BrowserSessions sessions,
    TimeProvider time,
    ILogger<SingleSignOn> logger
)
{
    private const int ReturnUrlCharactersMax = 1_000;
    private const int CodeCharactersMax = 4_000;

    /// <summary>The provider whose people have addresses like this, or null.</summary>
    public async Task<Guid?> FindProviderAsync(string? emailText, CancellationToken cancellationToken) =>
        EmailAddress.TryNormalize(emailText, out string? email)
        && EmailDomain.Of(email) is { } domain
        && await IdentityProviderStore.OfDomainAsync(database, domain, cancellationToken) is { } found
        && await FindActiveAsync(found.EnterpriseId, found.ProviderId, cancellationToken) is not null
            ? found.ProviderId
            : null;

    /// <summary>Begins a sign-in.</summary>
    /// <returns>Where the browser goes next, or why it cannot.</returns>
    public async Task<(string? Location, SignOnFailure? Failure)> BeginAsync(
        HttpContext context,
        Guid providerId,
        string? returnUrl,
        string? loginHint
    )
    {
        CancellationToken cancellationToken = context.RequestAborted;
        if (
            await IdentityProviderStore.EnterpriseOfAsync(database, providerId, cancellationToken)
                is not { } enterpriseId
            || await FindActiveAsync(enterpriseId, providerId, cancellationToken) is not { } provider
        )
        {
            return (null, SignOnFailure.UnknownProvider);
        }

        OpenIdConnectConfiguration configuration;
        try
        {
            configuration = (await metadata.GetAsync(provider.Issuer, null, cancellationToken)).Configuration;
        }
        catch (ProviderException exception)
        {
            ProviderFailed(providerId, exception.Message);
            return (null, SignOnFailure.ProviderUnavailable);
        }

        string local = BrowserSessions.LocalReturnUrl(returnUrl);
        var begun = new SignOnState(
            enterpriseId,
            providerId,
            provider.Issuer,
            provider.ClientId,
            SignOnStates.NewSecret(),
            SignOnStates.NewSecret(),
            addresses.RedirectUri(context.Request, enterpriseId),
            local.Length <= ReturnUrlCharactersMax ? local : "/",
            time.GetUtcNow()
        );
        string state = states.Begin(context, begun, addresses.IsSecure(context.Request));
        var request = new OpenIdConnectMessage
        {
            IssuerAddress = configuration.AuthorizationEndpoint,
            ClientId = provider.ClientId,
            RedirectUri = begun.RedirectUri,
            ResponseType = OpenIdConnectResponseType.Code,
            Scope = string.Join(' ', provider.Scopes),
            State = state,
            Nonce = begun.Nonce,
            LoginHint = EmailAddress.TryNormalize(loginHint, out string? hint) ? hint : null,
        };
        byte[] challenge = SHA256.HashData(Encoding.ASCII.GetBytes(begun.Verifier));
        request.SetParameter("code_challenge", Base64Url.EncodeToString(challenge));
        request.SetParameter("code_challenge_method", "S256");
        request.EnableTelemetryParameters = false;
        return (request.CreateAuthenticationRequestUrl(), null);
    }

    /// <summary>Completes a sign-in and sets the session's cookie.</summary>
    /// <param name="context">The browser that came back.</param>
    /// <param name="enterpriseId">The enterprise whose redirect address it came back to.</param>
    /// <param name="callback">What it brought.</param>
    public async Task<SignOnResult> CompleteAsync(HttpContext context, Guid enterpriseId, SignOnCallback callback)
    {
        CancellationToken cancellationToken = context.RequestAborted;
        SignOnState? begun = states.End(context, callback.State, addresses.IsSecure(context.Request));
        if (begun is null || begun.EnterpriseId != enterpriseId)
        {
            return new SignOnResult(SignOnFailure.NotBegunHere);
        }

        SignOnResult result;
        try
        {
            result = await CompleteAsync(begun, callback, cancellationToken);
        }
        catch (ProviderException exception)
        {
            ProviderFailed(begun.ProviderId, exception.Message);
            result = new SignOnResult(SignOnFailure.ProviderUnavailable);
        }

        if (result.Person is { } person)
        {
            await sessions.BeginAsync(context, person, new SignInProof(SignInProof.SingleSignOn, null));
            if (!await people.ConfirmAsync(begun, person.UserId, cancellationToken))
            {
                await sessions.SignOutAsync(context);
                result = new SignOnResult(SignOnFailure.UnknownProvider);
            }
        }

        return result with
        {
            ReturnUrl = begun.ReturnUrl,
        };
    }

    private async Task<SignOnResult> CompleteAsync(
        SignOnState begun,
        SignOnCallback callback,
        CancellationToken cancellationToken
    )
    {
        if (
            await enterprises.FindAsync(begun.EnterpriseId, cancellationToken) is not { } enterprise
            || await FindActiveAsync(begun.EnterpriseId, begun.ProviderId, cancellationToken) is not { } provider
            || provider.Issuer != begun.Issuer
            || provider.ClientId != begun.ClientId
        )
        {
            return new SignOnResult(SignOnFailure.UnknownProvider);
        }

        LoadedMetadata known = await metadata.GetAsync(provider.Issuer, null, cancellationToken);

        // Says who answers, so that the code is not taken to another (RFC 9207, 2.4).
        bool mustName = known.Configuration.AuthorizationResponseIssParameterSupported;
        if (callback.Issuer is null ? mustName : callback.Issuer != provider.Issuer)
        {
            AnswerRefused(begun.ProviderId, "The answer is another issuer's.");
            return new SignOnResult(SignOnFailure.AnswerNotValid);
        }

        if (callback.Error is not null || callback.Code is not { Length: > 0 and <= CodeCharactersMax } code)
        {
            return new SignOnResult(SignOnFailure.RefusedByProvider);
        }

        OpenIdConnectMessage? answer = await exchange.RedeemAsync(
            provider,
            provider.OpenSecret(enterprise.DataKey),
            known.Configuration,
            code,
            begun.Verifier,
            begun.RedirectUri,
            cancellationToken
        );
        if (answer is null)
        {
            AnswerRefused(begun.ProviderId, "The provider does not take the code back, or not from this client.");
            return new SignOnResult(SignOnFailure.AnswerNotValid);
        }

        (VouchedPerson? vouched, string? wrong) = await idTokens.CheckAsync(
            provider,
            answer,
            begun.Nonce,
            begun.BegunAt,
            cancellationToken
        );
        if (vouched is null)
        {
            AnswerRefused(begun.ProviderId, wrong!);
            return new SignOnResult(SignOnFailure.AnswerNotValid);
        }

        return await people.CompleteAsync(begun, callback.State!, vouched, cancellationToken);
    }

    private async Task<IdentityProvider?> FindActiveAsync(
        Guid enterpriseId,
        Guid providerId,
        CancellationToken cancellationToken
    )
    {
        // A suspended enterprise's provider is as good as none; nothing is told about which of the two it is.
        if (await enterprises.FindAsync(enterpriseId, cancellationToken) is null or { IsSuspended: true })
        {
            return null;
        }

        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        IdentityProvider? provider = await IdentityProviderStore.FindAsync(
            transaction,
            enterpriseId,
            providerId,
            hold: false,
            cancellationToken
        );
        return provider is { IsActive: true } ? provider : null;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The identity provider {ProviderId} cannot be used: {Reason}")]
    private partial void ProviderFailed(Guid providerId, string reason);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "An answer of the identity provider {ProviderId} is refused: {Reason}"
    )]
    private partial void AnswerRefused(Guid providerId, string reason);
}
