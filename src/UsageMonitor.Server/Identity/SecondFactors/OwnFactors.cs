using System.Text.Json;
using Microsoft.AspNetCore.Identity;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SecondFactors;

/// <summary>
/// What people do to their own second factors. Each act needs a recent proof, is mailed to its person in its own
/// transaction, and takes its turn with every other change to the person's factors.
/// </summary>
internal sealed class OwnFactors(
    Database database,
    EnterpriseDirectory enterprises,
    RecentProof recentProof,
    TotpSetup totp,
    RecoveryCodes recoveryCodes,
    Challenges challenges,
    Passkeys passkeys,
    AccountNotices notices,
    IdentityVersion version,
    TimeProvider time
)
{
    public async Task<SecondFactorsResponse> DescribeAsync(HttpContext context)
    {
        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = await EnterpriseAsync(context);
        await using ScopedTransaction own = await OpenAsync(context);
        return await FactorState.DescribeAsync(own, enterprise, caller.UserId!.Value, context.RequestAborted);
    }

    public async Task<IResult> BeginTotpAsync(HttpContext context)
    {
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        if (act.Problem is { } problem)
        {
            return problem;
        }

        byte[] secret = await totp.BeginAsync(own, act.Enterprise, act.UserId, context.RequestAborted);
        own.Audit("second_factor.begun", "user", act.UserId, after: new { factor = FactorState.Totp });
        await own.CommitAsync(context.RequestAborted);
        context.Response.Headers.CacheControl = "no-store";
        return Results.Ok(Shown(secret, context));
    }

    /// <summary>The secret that waits to be confirmed, for the page that shows it; null: none, or a proof is due.</summary>
    public async Task<BeginTotpResponse?> PendingTotpAsync(HttpContext context)
    {
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        return
            act.Problem is null
            && await totp.PendingAsync(own, act.Enterprise, act.UserId, context.RequestAborted) is { } secret
            ? Shown(secret, context)
            : null;
    }

    public async Task<IResult> ConfirmTotpAsync(HttpContext context, string? code)
    {
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        if (act.Problem is { } problem)
        {
            return problem;
        }

        if (!await totp.TryConfirmAsync(own, act.Enterprise, act.UserId, code, context.RequestAborted))
        {
            return Problems.Problem(
                422,
                "invalid_code",
                "That code is not of the new secret. Check the clock of your device, and give the code it shows now."
            );
        }

        return Added(context, await EndAddingAsync(context, act, FactorState.Totp, AccountNotices.TotpAdded), null);
    }

    public async Task<IResult> RemoveTotpAsync(HttpContext context)
    {
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        if (act.Problem is { } problem)
        {
            return problem;
        }

        if (act.State.HasTotp && IsLastOneNeeded(act))
        {
            return LastOne();
        }

        return await TotpSetup.TryRemoveAsync(own, act.Enterprise.EnterpriseId, act.UserId, context.RequestAborted)
            ? await EndRemovingAsync(context, act, AccountNotices.TotpRemoved)
            : Problems.Problem(404, "not_found", "You have no authenticator app set up.");
    }

    public async Task<IResult> ReplaceRecoveryCodesAsync(HttpContext context)
    {
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        if (act.Problem is { } problem)
        {
            return problem;
        }

        if (!act.State.Any)
        {
            return Problems.Problem(409, "no_second_factor", "Set up a second factor first.");
        }

        CancellationToken cancellationToken = context.RequestAborted;
        Guid enterpriseId = act.Enterprise.EnterpriseId;
        IReadOnlyList<string> codes = await recoveryCodes.ReplaceAsync(
            own,
            enterpriseId,
            act.UserId,
            cancellationToken
        );
        await NotifyAsync(context, act, AccountNotices.RecoveryCodesReplaced);
        own.Audit("second_factor.recovery_codes_replaced", "user", act.UserId);
        await own.CommitAsync(cancellationToken);
        context.Response.Headers.CacheControl = "no-store";
        return Results.Ok(new RecoveryCodesResponse(codes));
    }

    public async Task<IResult> PasskeyOptionsAsync(HttpContext context)
    {
        Act act = await BeginAsync(context);
        await using (ScopedTransaction own = act.Transaction)
        {
            if (act.Problem is { } problem)
            {
                return problem;
            }

            if (act.State.Passkeys >= Passkeys.PerPersonMax)
            {
                return TooManyPasskeys();
            }
        }

        var user = new PasskeyUser(act.Enterprise.EnterpriseId, act.UserId);
        PasskeyOptions options = await passkeys.CreationOptionsAsync(
            context,
            user,
            context.GetCaller().Email!,
            displayName: null
        );
        Challenge challenge = challenges.New(user.EnterpriseId, user.UserId, null, options.State);
        context.Response.Headers.CacheControl = "no-store";
        return Results.Ok(
            new PasskeyOptionsResponse(challenges.Seal(Challenges.PasskeyCreation, challenge), options.Options)
        );
    }

    public async Task<IResult> AddPasskeyAsync(HttpContext context, AddPasskeyRequest request)
    {
        string name = request.Name?.Trim() ?? "";
        if (name.Length is 0 or > Passkeys.NameCharactersMax || name.Any(char.IsControl))
        {
            string wrong = $"name must have 1 to {Passkeys.NameCharactersMax} characters, none a control character.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        Caller caller = context.GetCaller();
        if (
            challenges.Open(Challenges.PasskeyCreation, request.Challenge) is not { PasskeyState: { } state } challenge
            || challenge.EnterpriseId != caller.EnterpriseId
            || challenge.UserId != caller.UserId
        )
        {
            return Problems.Problem(422, "challenge_over", "That took too long. Ask for new options.");
        }

        UserPasskeyInfo? made = request.Passkey is { ValueKind: JsonValueKind.Object } credential
            ? await passkeys.AttestAsync(context, state, credential)
            : null;
        if (made is null)
        {
            return Problems.Problem(
                422,
                "invalid_passkey",
                "That passkey cannot be used: it does not fit the options."
            );
        }

        CancellationToken cancellationToken = context.RequestAborted;
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        if (act.Problem is { } problem)
        {
            return problem;
        }

        if (act.State.Passkeys >= Passkeys.PerPersonMax)
        {
            return TooManyPasskeys();
        }

        if (
            !await challenges.TryCountAsync(own, challenge, cancellationToken)
            || !await challenges.TrySpendAsync(own, challenge, cancellationToken)
            || await Passkeys.AddAsync(own, act.Enterprise, act.UserId, made, name, time.GetUtcNow(), cancellationToken)
                is not { } passkeyId
        )
        {
            return Problems.Problem(409, "passkey_exists", "That passkey is registered already.");
        }

        IReadOnlyList<string>? codes = await EndAddingAsync(
            context,
            act,
            FactorState.Passkey,
            AccountNotices.PasskeyAdded
        );
        return Added(context, codes, passkeyId);
    }

    private const string RemovePasskey =
        "DELETE FROM passkeys WHERE enterprise_id = $1 AND user_id = $2 AND passkey_id = $3";

    public async Task<IResult> RemovePasskeyAsync(HttpContext context, Guid passkeyId)
    {
        Act act = await BeginAsync(context);
        await using ScopedTransaction own = act.Transaction;
        if (act.Problem is { } problem)
        {
            return problem;
        }

        object?[] parameters = [act.Enterprise.EnterpriseId, act.UserId, passkeyId];
        if (await own.ExecuteAsync(RemovePasskey, parameters, context.RequestAborted) == 0)
        {
            return Problems.Problem(404, "not_found", "You have no such passkey.");
        }

        return IsLastOneNeeded(act)
            ? LastOne() // what was deleted is not committed
            : await EndRemovingAsync(context, act, AccountNotices.PasskeyRemoved);
    }

    private async Task<Act> BeginAsync(HttpContext context)
    {
        CancellationToken cancellationToken = context.RequestAborted;
        Caller caller = context.GetCaller();
        Guid userId = caller.UserId!.Value;
        EnterpriseInfo enterprise = await EnterpriseAsync(context);
        ScopedTransaction own = await OpenAsync(context);
        try
        {
            FactorState state =
                await FactorState.ReadLockedAsync(own, caller.EnterpriseId, userId, cancellationToken)
                ?? new FactorState(false, 0, 0, null);
            IResult? problem = await recentProof.CheckAsync(own, caller, state, cancellationToken);
            return new Act(own, enterprise, userId, state, problem);
        }
        catch
        {
            await own.DisposeAsync();
            throw;
        }
    }

    private const string UpgradeSession = """
        UPDATE sessions SET second_factor = $3
        WHERE enterprise_id = $1 AND session_id = $2 AND method = 'password' AND second_factor IS NULL AND revoked_at IS NULL
        """;

    private async Task<IReadOnlyList<string>?> EndAddingAsync(
        HttpContext context,
        Act act,
        string factor,
        string notice
    )
    {
        CancellationToken cancellationToken = context.RequestAborted;
        Caller caller = context.GetCaller();
        IReadOnlyList<string>? codes = act.State.Any
            ? null
            : await recoveryCodes.ReplaceAsync(act.Transaction, caller.EnterpriseId, act.UserId, cancellationToken);

        // Whoever sets a factor up has just shown it: the session goes on as one with it.
        object?[] session = [caller.EnterpriseId, caller.SessionId, factor];
        await act.Transaction.ExecuteAsync(UpgradeSession, session, cancellationToken);
        await RecentProof.ForgetOthersAsync(act.Transaction, caller, cancellationToken);
        await NotifyAsync(context, act, notice);
        act.Transaction.Audit("second_factor.added", "user", act.UserId, after: new { factor });
        await version.CommitAsync(act.Transaction, cancellationToken);
        return codes;
    }

    private async Task<IResult> EndRemovingAsync(HttpContext context, Act act, string notice)
    {
        CancellationToken cancellationToken = context.RequestAborted;
        Caller caller = context.GetCaller();
        if (act.State.Factors == 1)
        {
            await RecoveryCodes.RemoveAsync(act.Transaction, caller.EnterpriseId, act.UserId, cancellationToken);
        }

        await RecentProof.ForgetOthersAsync(act.Transaction, caller, cancellationToken);
        await NotifyAsync(context, act, notice);
        act.Transaction.Audit("second_factor.removed", "user", act.UserId, after: new { notice });
        await act.Transaction.CommitAsync(cancellationToken);
        return Results.NoContent();
    }

    private Task NotifyAsync(HttpContext context, Act act, string notice) =>
        notices.SendAsync(act.Transaction, act.Enterprise, context.GetCaller().Email!, notice, context.RequestAborted);

    private async Task<EnterpriseInfo> EnterpriseAsync(HttpContext context) =>
        (await enterprises.FindAsync(context.GetCaller().EnterpriseId, context.RequestAborted))!;

    private Task<ScopedTransaction> OpenAsync(HttpContext context) =>
        database.OpenEnterpriseAsync(context.GetCaller().EnterpriseId, context.RequestAborted);

    private static BeginTotpResponse Shown(byte[] secret, HttpContext context) =>
        new(TimeCodes.Base32(secret), TimeCodes.Uri(secret, context.GetCaller().Email!));

    private static IResult Added(HttpContext context, IReadOnlyList<string>? codes, Guid? passkeyId)
    {
        context.Response.Headers.CacheControl = "no-store";
        return Results.Ok(new FactorAddedResponse(codes, passkeyId));
    }

    private static bool IsLastOneNeeded(Act act) => act.State.Factors == 1 && act.Enterprise.SecondFactorRequired;

    private static IResult LastOne() =>
        Problems.Problem(
            409,
            "last_second_factor",
            "Your enterprise asks for a second factor and this is your last one. Set up another first."
        );

    private static IResult TooManyPasskeys() =>
        Problems.Problem(409, "too_many_passkeys", $"You have {Passkeys.PerPersonMax} passkeys. Remove one first.");

    /// <summary>A change under way: the person's factors, locked, and what speaks against it.</summary>
    private sealed record Act(
        ScopedTransaction Transaction,
        EnterpriseInfo Enterprise,
        Guid UserId,
        FactorState State,
        IResult? Problem
    );
}
