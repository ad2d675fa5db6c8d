using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>The second step of a sign-in over the API, people's own factors, and their reset by an administrator.</summary>
internal static class SecondFactorEndpoints
{
    public static IEndpointRouteBuilder MapSecondFactorEndpoints(this IEndpointRouteBuilder routes)
    {
        MapSignIn(routes);
        MapProof(routes);
        RouteGroupBuilder group = routes
            .MapGroup("/v1/me/second-factors")
            .WithTags("Own account")
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapGet("", (HttpContext context, OwnFactors factors) => factors.DescribeAsync(context))
            .RequirePermission(Permissions.SettingUp)
            .WithName("ListSecondFactors")
            .WithSummary("One's own second factors")
            .Produces<SecondFactorsResponse>();
        group
            .MapPost("/totp", (HttpContext context, OwnFactors factors) => factors.BeginTotpAsync(context))
            .RequirePermission(Permissions.SettingUp)
            .WithName("BeginTotp")
            .WithSummary("A new secret for an authenticator app; it counts once a code of it is confirmed")
            .Produces<BeginTotpResponse>();
        group
            .MapPost("/totp/confirm", ConfirmTotpAsync)
            .RequirePermission(Permissions.SettingUp)
            .WithName("ConfirmTotp")
            .WithSummary("Puts the new secret in force by a code of it; the first factor's answer has recovery codes")
            .Produces<FactorAddedResponse>()
            .ProducesProblem(400)
            .ProducesProblem(422);
        group
            .MapDelete("/totp", (HttpContext context, OwnFactors factors) => factors.RemoveTotpAsync(context))
            .RequirePermission(Permissions.Person)
            .WithName("RemoveTotp")
            .WithSummary("Removes the authenticator app")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapPost(
                "/recovery-codes",
                (HttpContext context, OwnFactors factors) => factors.ReplaceRecoveryCodesAsync(context)
            )
            .RequirePermission(Permissions.Person)
            .WithName("ReplaceRecoveryCodes")
            .WithSummary("Ten new recovery codes in place of the old ones; the answer is the only time they are shown")
            .Produces<RecoveryCodesResponse>()
            .ProducesProblem(409);
        group
            .MapPost(
                "/passkeys/options",
                (HttpContext context, OwnFactors factors) => factors.PasskeyOptionsAsync(context)
            )
            .RequirePermission(Permissions.SettingUp)
            .WithName("PasskeyCreationOptions")
            .WithSummary("What a browser needs to make a passkey")
            .Produces<PasskeyOptionsResponse>()
            .ProducesProblem(409);
        group
            .MapPost("/passkeys", AddPasskeyAsync)
            .RequirePermission(Permissions.SettingUp)
            .WithName("AddPasskey")
            .WithSummary("Registers a passkey; the first factor's answer has recovery codes")
            .Produces<FactorAddedResponse>()
            .ProducesProblem(400)
            .ProducesProblem(409)
            .ProducesProblem(422);
        group
            .MapDelete(
                "/passkeys/{passkeyId:guid}",
                (Guid passkeyId, HttpContext context, OwnFactors factors) =>
                    factors.RemovePasskeyAsync(context, passkeyId)
            )
            .RequirePermission(Permissions.Person)
            .WithName("RemovePasskey")
            .WithSummary("Removes a passkey")
            .Produces(204)
            .ProducesProblem(404)
            .ProducesProblem(409);
        return routes;
    }

    /// <summary>What administrators do to others' factors; of the role that answers under <c>/v1/admin</c>.</summary>
    public static IEndpointRouteBuilder MapSecondFactorReset(this IEndpointRouteBuilder routes)
    {
        routes
            .MapDelete("/v1/admin/users/{userId:guid}/second-factors", FactorReset.ResetAsync)
            .RequirePermission(Permissions.PeopleWrite)
            .WithTags("People")
            .WithName("ResetSecondFactors")
            .WithSummary("Removes a person's second factors and ends their sessions; never one's own")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409);
        return routes;
    }

    private static void MapSignIn(IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/auth")
            .RequirePermission(Permissions.Anonymous)
            .WithTags("Auth")
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPost("/second-factor", AnswerAsync)
            .WithName("AnswerSecondFactor")
            .WithSummary("Ends a sign-in that was answered with second_factor_required")
            .Produces<LoginResponse>()
            .ProducesProblem(429);
        group
            .MapPost("/passkey/options", SignInOptionsAsync)
            .WithName("PasskeySignInOptions")
            .WithSummary("What a browser needs to sign somebody in with a passkey alone")
            .Produces<PasskeyOptionsResponse>();
        group
            .MapPost("/passkey", SignInWithPasskeyAsync)
            .WithName("PasskeySignIn")
            .WithSummary("Signs a person in with a passkey that has verified its owner; no password")
            .Produces<LoginResponse>();
    }

    private static void MapProof(IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes
            .MapGroup("/v1/me/proof")
            .RequirePermission(Permissions.SettingUp)
            .WithTags("Own account")
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPost(
                "",
                async (JsonBody<ProofRequest> body, HttpContext context, RecentProof proof) =>
                    body.Problem ?? await proof.ProveAsync(context, body.Value)
            )
            .WithName("Prove")
            .WithSummary("Shows once more who one is; second factors can be changed for ten minutes then")
            .Produces(204)
            .ProducesProblem(400)
            .ProducesProblem(429);
        group
            .MapPost(
                "/options",
                async (HttpContext context, RecentProof proof) =>
                    await proof.OptionsAsync(context) is { } options
                        ? Results.Ok(options)
                        : Problems.Problem(409, "no_passkey", "You have no passkey.")
            )
            .WithName("ProofOptions")
            .WithSummary("What a browser needs for a proof with a passkey")
            .Produces<PasskeyOptionsResponse>()
            .ProducesProblem(409);
    }

    private static async Task<IResult> AnswerAsync(
        JsonBody<SecondFactorRequest> body,
        SecondFactorSignIn signIn,
        Sessions sessions,
        HttpContext context
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        var given = new GivenFactor(body.Value.Code, body.Value.RecoveryCode, body.Value.Passkey);
        if (string.IsNullOrEmpty(body.Value.Challenge) || !given.IsOne)
        {
            string wrong = "challenge is required, and exactly one of code, recoveryCode and passkey.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        FactorSignIn<IssuedTokens> end = await signIn.AnswerAsync(
            context,
            body.Value.Challenge,
            given,
            (transaction, person, proof) => BeginAsync(sessions, context, transaction, person, proof)
        );
        return end.Session is { } tokens
            ? AuthEndpoints.Tokens(context, tokens)
            : AuthEndpoints.Refuse(context, end.Result);
    }

    private static async Task<IResult> SignInOptionsAsync(SecondFactorSignIn signIn, HttpContext context)
    {
        SecondFactorChallenge challenge = await signIn.PasskeyChallengeAsync(context);
        context.Response.Headers.CacheControl = "no-store";
        return Results.Ok(new PasskeyOptionsResponse(challenge.Text, challenge.PasskeyOptions!.Value));
    }

    private static async Task<IResult> SignInWithPasskeyAsync(
        JsonBody<PasskeySignInRequest> body,
        SecondFactorSignIn signIn,
        Sessions sessions,
        HttpContext context
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (string.IsNullOrEmpty(body.Value.Challenge) || body.Value.Passkey is not { ValueKind: JsonValueKind.Object })
        {
            return Problems.Problem(400, "invalid_request", "challenge and passkey are required.");
        }

        FactorSignIn<IssuedTokens> end = await signIn.SignInWithPasskeyAsync(
            context,
            body.Value.Challenge,
            body.Value.Passkey,
            (transaction, person, proof) => BeginAsync(sessions, context, transaction, person, proof)
        );
        return end.Session is { } tokens
            ? AuthEndpoints.Tokens(context, tokens)
            : AuthEndpoints.Refuse(context, end.Result);
    }

    private static Task<IssuedTokens> BeginAsync(
        Sessions sessions,
        HttpContext context,
        ScopedTransaction transaction,
        Person person,
        SignInProof proof
    ) => sessions.BeginAsync(transaction, person, proof, SessionClient.Of(context), context.RequestAborted);

    private static async Task<IResult> ConfirmTotpAsync(
        JsonBody<ConfirmTotpRequest> body,
        HttpContext context,
        OwnFactors factors
    ) => body.Problem ?? await factors.ConfirmTotpAsync(context, body.Value.Code);

    private static async Task<IResult> AddPasskeyAsync(
        JsonBody<AddPasskeyRequest> body,
        HttpContext context,
        OwnFactors factors
    ) => body.Problem ?? await factors.AddPasskeyAsync(context, body.Value);
}
