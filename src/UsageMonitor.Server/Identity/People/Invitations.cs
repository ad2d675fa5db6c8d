using System.Globalization;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Mail;

namespace UsageMonitor.Server.Identity.People;

/// <summary>
/// People are invited, and sent links. An invitation is answered alike whether or not its address signs in to some other
/// enterprise: it claims the address only when its owner accepts, and only the owner learns then that it is taken.
/// </summary>
internal sealed class Invitations(
    Database database,
    EnterpriseDirectory enterprises,
    Users users,
    AccountLinks links,
    AccountMails mails,
    MailOutbox outbox,
    IdentityVersion version
)
{
    private const int TooManyRetryAfterSeconds = 3_600;

    private const string FindOwn = "SELECT 1 FROM users WHERE enterprise_id = $1 AND email_hash = $2";

    private const string CountPeople = """
        SELECT count(*) FROM (SELECT FROM users WHERE enterprise_id = $1 AND email IS NOT NULL LIMIT $2) people
        """;

    /// <returns>201 with <see cref="SentLinkResponse"/>, or the problem.</returns>
    public async Task<IResult> InviteAsync(
        HttpContext context,
        InviteUserRequest request,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        string[] roles = [.. (request.Roles ?? []).Distinct(StringComparer.Ordinal)];
        if (!EmailAddress.TryNormalize(request.Email, out string? email))
        {
            string wrong = $"email must be an e-mail address of at most {EmailAddress.CharactersMax} characters.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        if (!PeopleRules.TryDisplayName(request.DisplayName, out string? name))
        {
            return Problems.Problem(400, "invalid_request", PeopleRules.DisplayNameWrong);
        }

        if (roles.Length is 0 or > PeopleRules.RolesPerPersonMax)
        {
            string wrong = $"roles must have 1 to {PeopleRules.RolesPerPersonMax} names of roles.";
            return Problems.Problem(400, "invalid_request", wrong);
        }

        Guid enterpriseId = caller.EnterpriseId;
        EnterpriseInfo enterprise = (await enterprises.FindAsync(enterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        IReadOnlyDictionary<string, string[]> known = await KnownRoles.ReadAsync(own, enterpriseId, cancellationToken);
        if (PeopleRules.WhyNotGive(caller, roles, known) is { } refused)
        {
            return refused;
        }

        if (await ScalarAsync(CountPeople, enterpriseId, PeopleRules.PeopleMax) is long and >= PeopleRules.PeopleMax)
        {
            return Problems.Problem(
                409,
                "too_many_people",
                $"An enterprise has {PeopleRules.PeopleMax} people at most."
            );
        }

        Guid userId;
        try
        {
            if (await ScalarAsync(FindOwn, enterpriseId, users.EmailHash(email)) is not null)
            {
                throw new EmailTakenException();
            }

            userId = await users.AddAsync(
                own,
                enterpriseId,
                enterprise.DataKey,
                new NewPerson(email, name, PasswordHash: null, roles) { ClaimsEmail = false },
                cancellationToken
            );
        }
        catch (EmailTakenException)
        {
            return Problems.Problem(409, "email_taken", "Your enterprise has a person with this address already.");
        }

        (SentLinkResponse? sent, IResult? problem) = await SendInvitationAsync(
            context,
            own,
            enterprise,
            userId,
            email,
            cancellationToken
        );
        return sent is null ? problem! : Results.Created($"/v1/admin/users/{userId}", sent);

        async Task<object?> ScalarAsync(string sql, params object[] parameters)
        {
            await using NpgsqlCommand command = own.Command(sql, parameters);
            return await command.ExecuteScalarAsync(cancellationToken);
        }
    }

    /// <summary>Invites a person again who has not answered; the earlier link ends.</summary>
    /// <returns>202 with <see cref="SentLinkResponse"/>, or the problem.</returns>
    public async Task<IResult> InviteAgainAsync(HttpContext context, Guid userId, CancellationToken cancellationToken)
    {
        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await PersonRecord.ReadAsync(own, enterprise, userId, cancellationToken) is not { } person)
        {
            return PeopleRules.NotFound;
        }

        if (PeopleRules.WhyNotTouch(caller, person.Held) is { } refused)
        {
            return refused;
        }

        if (person.HasJoined || !person.IsActive)
        {
            return Problems.Problem(
                409,
                "not_invited",
                "Only a person who is invited and has not joined can be invited again."
            );
        }

        (SentLinkResponse? sent, IResult? problem) = await SendInvitationAsync(
            context,
            own,
            enterprise,
            userId,
            person.Email,
            cancellationToken
        );
        return sent is null ? problem! : Results.Json(sent, statusCode: StatusCodes.Status202Accepted);
    }

    /// <summary>Sends a person a link with which they choose a new password.</summary>
    /// <returns>202 with <see cref="SentLinkResponse"/>, or the problem.</returns>
    public async Task<IResult> SendResetAsync(HttpContext context, Guid userId, CancellationToken cancellationToken)
    {
        Caller caller = context.GetCaller();
        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await PersonRecord.ReadAsync(own, enterprise, userId, cancellationToken) is not { } person)
        {
            return PeopleRules.NotFound;
        }

        if (PeopleRules.WhyNotTouch(caller, person.Held) is { } refused)
        {
            return refused;
        }

        // On a platform without mail the answer is the link: whoever has taken a session over could keep the account.
        if (userId == caller.UserId)
        {
            return Problems.Problem(409, "own_account", "Change your own password in your account.");
        }

        if (
            !person.HasJoined
            || !person.IsActive
            || person.Origin == NewPerson.SingleSignOn
            || !enterprise.PasswordSignIn
        )
        {
            return Problems.Problem(409, "no_password", "This person does not sign in with a password now.");
        }

        MadeLink? link = await links.TryMakeAsync(
            own,
            enterprise.EnterpriseId,
            userId,
            LinkPurpose.PasswordReset,
            cancellationToken
        );
        if (link is null)
        {
            return TooMany(context);
        }

        await outbox.EnqueueAsync(own, enterprise, mails.PasswordReset(person.Email, link), cancellationToken);
        own.Audit("person.password_reset_sent", "user", userId);
        await version.CommitAsync(own, cancellationToken);
        context.Response.Headers.CacheControl = "no-store";
        return Results.Json(
            new SentLinkResponse(
                userId,
                outbox.IsSetUp ? null : mails.LinkFor(context.Request, LinkPurpose.PasswordReset, link.Token),
                link.ExpiresAt
            ),
            statusCode: StatusCodes.Status202Accepted
        );
    }

    private async Task<(SentLinkResponse? Sent, IResult? Problem)> SendInvitationAsync(
        HttpContext context,
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid userId,
        string email,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = enterprise.EnterpriseId;
        MadeLink? link = await links.TryMakeAsync(own, enterpriseId, userId, LinkPurpose.Invitation, cancellationToken);
        if (link is null)
        {
            return (null, TooMany(context));
        }

        // The link is made all the same: it is what counts against too many mails, and nobody is given it.
        MailMessage mail = enterprise.PasswordSignIn
            ? mails.Invitation(email, enterprise.Name, context.GetCaller().Email, link)
            : mails.InvitationToSingleSignOn(email, enterprise.Name);
        await outbox.EnqueueAsync(own, enterprise, mail, cancellationToken);
        own.Audit("person.invited", "user", userId);
        await version.CommitAsync(own, cancellationToken);
        context.Response.Headers.CacheControl = "no-store";
        bool isShown = !outbox.IsSetUp && enterprise.PasswordSignIn;
        string? shown = isShown ? mails.LinkFor(context.Request, LinkPurpose.Invitation, link.Token) : null;
        return (new SentLinkResponse(userId, shown, link.ExpiresAt), null);
    }

    private static IResult TooMany(HttpContext context)
    {
        context.Response.Headers.RetryAfter = TooManyRetryAfterSeconds.ToString(CultureInfo.InvariantCulture);
        return Problems.Problem(
            429,
            "too_many_links",
            $"This person was sent {AccountLinks.LinksPerHourMax} links within the hour. Wait before you send another."
        );
    }
}
