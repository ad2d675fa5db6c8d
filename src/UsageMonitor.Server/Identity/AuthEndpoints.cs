using System.Globalization;
using System.Security.Cryptography;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.IdentityModel.Tokens;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary><c>/v1/auth</c>: signing in over the API, and the keys by which anybody can check our tokens.</summary>
internal static class AuthEndpoints
{
    private static readonly string s_publicKeysCache = string.Create(
        CultureInfo.InvariantCulture,
        $"public, max-age={SigningKeys.PublishedCacheSeconds}"
    );

    public static IEndpointRouteBuilder MapAuthEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/auth").WithTags("Auth");
        group
            .MapPost("/login", LoginAsync)
            .RequirePermission(Permissions.Anonymous)
            .WithName("Login")
            .WithSummary("Signs a person in with an e-mail address and a password")
            .Produces<LoginResponse>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(429);
        group
            .MapPost("/refresh", RefreshAsync)
            .RequirePermission(Permissions.Anonymous)
            .NotAudited("keeps a session going that has its entry")
            .WithName("Refresh")
            .WithSummary("Exchanges a refresh token for new tokens; each is good once")
            .Produces<LoginResponse>()
            .ProducesProblem(400)
            .ProducesProblem(401);
        group
            .MapPost("/logout", LogoutAsync)
            .RequirePermission(Permissions.Anonymous)
            .WithName("Logout")
            .WithSummary("Ends the session of a refresh token or, without a body, that of the access token")
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(401);
        group
            .MapGet("/validate", Validate)
            .RequirePermission(Permissions.Authenticated)
            .WithName("Validate")
            .WithSummary("Tells whose a token or key is and what it may do")
            .Produces<ValidateResponse>()
            .ProducesProblem(401)
            .ProducesProblem(403);
        routes
            .MapGet("/.well-known/jwks.json", PublicKeysAsync)
            .RequirePermission(Permissions.Anonymous)
            .WithTags("Auth")
            .WithName("PublicKeys")
            .WithSummary("The public keys of access tokens, as a JSON Web Key Set (RFC 7517)")
            .Produces<PublicKeySet>();
        return routes;
    }

    private static async Task<IResult> LoginAsync(
        JsonBody<LoginRequest> body,
        PasswordSignIn signIn,
        SecondFactorSignIn secondFactors,
        Sessions sessions,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (string.IsNullOrWhiteSpace(body.Value.Email) || string.IsNullOrEmpty(body.Value.Password))
        {
            return Problems.Problem(400, "invalid_request", "email and password are required.");
        }

        LoginResult result = await signIn.CheckAsync(
            body.Value.Email,
            body.Value.Password,
            context.Connection.RemoteIpAddress,
            cancellationToken
        );
        if (result.Person is not { } person)
        {
            return Refuse(context, result);
        }

        if (await secondFactors.ChallengeAsync(context, person) is { } challenge)
        {
            return Refuse(context, new LoginResult(SignInOutcome.SecondFactorRequired) { Challenge = challenge });
        }

        var proof = new SignInProof(SignInProof.Password, null);
        return Tokens(context, await sessions.BeginAsync(person, proof, SessionClient.Of(context), cancellationToken));
    }

    /// <summary>What is answered to a sign-in that has not come to its end.</summary>
    internal static IResult Refuse(HttpContext context, LoginResult result)
    {
        switch (result.Outcome)
        {
            case SignInOutcome.TooManyAttempts:
                context.Response.Headers.RetryAfter = Math.Ceiling(result.RetryAfter.TotalSeconds)
                    .ToString(CultureInfo.InvariantCulture);
                return Problems.Problem(429, "too_many_attempts", "Too many failed sign-ins. Wait, then try again.");
            case SignInOutcome.EnterpriseSuspended:
                return Problems.Problem(403, "enterprise_suspended", "Your enterprise is suspended.");
            case SignInOutcome.SecondFactorRequired when result.Challenge is { } challenge:
                context.Response.Headers.CacheControl = "no-store";
                return Results.Problem(
                    "Send challenge with a code, a recovery code or a passkey to /v1/auth/second-factor.",
                    statusCode: 401,
                    extensions: new Dictionary<string, object?>
                    {
                        ["code"] = "second_factor_required",
                        ["challenge"] = challenge.Text,
                        ["methods"] = challenge.Methods,
                        ["passkeyOptions"] = challenge.PasskeyOptions,
                    }
                );
            case SignInOutcome.InvalidSecondFactor:
                return Problems.Problem(401, "invalid_second_factor", "The second factor is wrong or was used before.");
            case SignInOutcome.ChallengeOver:
                return Problems.Problem(401, "challenge_over", "The challenge is over. Begin the sign-in again.");
            default:
                return Problems.Problem(401, "invalid_credentials", "The e-mail address or the password is wrong.");
        }
    }

    private static async Task<IResult> RefreshAsync(
        JsonBody<RefreshRequest> body,
        Sessions sessions,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (string.IsNullOrEmpty(body.Value.RefreshToken))
        {
            return Problems.Problem(400, "invalid_request", "refreshToken is required.");
        }

        return await sessions.RefreshAsync(body.Value.RefreshToken, cancellationToken) is { } tokens
            ? Tokens(context, tokens)
            : Problems.Problem(401, "invalid_token", "The refresh token is unknown, used, expired or revoked.");
    }

    private static async Task<IResult> LogoutAsync(
        JsonBody<RefreshRequest> body,
        Sessions sessions,
        CredentialCache credentials,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        // A cookie does not count here: another site could send it along.
        PresentedCredential presented = PresentedCredential.Of(context.Request);
        if (presented.Kind == CredentialKind.AccessToken && HasNoBody(context.Request))
        {
            if (
                await credentials.FindAsync(presented, cancellationToken)
                is not { Caller: { SessionId: { } sessionId } caller }
            )
            {
                return Problems.Problem(401, "invalid_token", "The token is unknown, expired or revoked.");
            }

            await sessions.EndAsync(caller.EnterpriseId, sessionId, cancellationToken);
            return Results.NoContent();
        }

        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (string.IsNullOrEmpty(body.Value.RefreshToken))
        {
            return Problems.Problem(400, "invalid_request", "refreshToken is required.");
        }

        await sessions.EndAsync(body.Value.RefreshToken, cancellationToken);
        return Results.NoContent();
    }

    private static bool HasNoBody(HttpRequest request) =>
        request.HttpContext.Features.Get<IHttpRequestBodyDetectionFeature>() is not { CanHaveBody: true }
        || request.ContentLength == 0;

    private static ValidateResponse Validate(HttpContext context)
    {
        Caller caller = context.GetCaller();
        return new ValidateResponse(
            OwnEnterprise(caller.EnterpriseId),
            caller.UserId,
            caller.ApiKeyId,
            caller.Email,
            [
                .. caller
                    .Permissions.Where(permission => permission.Contains(':', StringComparison.Ordinal))
                    .Order(StringComparer.Ordinal),
            ]
        );
    }

    private static async Task<IResult> PublicKeysAsync(
        SigningKeys keys,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        context.Response.Headers.CacheControl = s_publicKeysCache;
        return Results.Json(new PublicKeySet([.. (await keys.AllAsync(cancellationToken)).Select(PublicKey.Of)]));
    }

    internal static IResult Tokens(HttpContext context, IssuedTokens tokens)
    {
        context.Response.Headers.CacheControl = "no-store";
        Person person = tokens.Person;
        return Results.Ok(
            new LoginResponse(
                tokens.AccessToken,
                tokens.RefreshToken,
                AccessTokens.LifetimeSeconds,
                new SignedInUser(person.UserId, person.Email, OwnEnterprise(person.EnterpriseId), person.Roles)
            )
        );
    }

    private static Guid? OwnEnterprise(Guid enterpriseId) => enterpriseId == Guid.Empty ? null : enterpriseId;

    /// <summary>RFC 7517, 5.</summary>
    private sealed record PublicKeySet(IReadOnlyList<PublicKey> Keys);

    /// <summary>RFC 7518, 6.2: the public half of a P-256 key, never more.</summary>
    private sealed record PublicKey(string Kty, string Crv, string Use, string Alg, string Kid, string X, string Y)
    {
        public static PublicKey Of(ECDsaSecurityKey key)
        {
            ECPoint point = key.ECDsa.ExportParameters(includePrivateParameters: false).Q;
            return new PublicKey(
                "EC",
                "P-256",
                "sig",
                SecurityAlgorithms.EcdsaSha256,
                key.KeyId,
                Base64UrlEncoder.Encode(point.X),
                Base64UrlEncoder.Encode(point.Y)
            );
        }
    }
}
