using UsageMonitor.Server.Identity.SecondFactors;

namespace UsageMonitor.Server.Identity;

/// <summary>Sign-in of the web pages: a cookie with a random token, kept only as a hash, good for twelve hours.</summary>
internal sealed class BrowserSessions(
    PasswordSignIn signIn,
    SecondFactorSignIn secondFactors,
    Sessions sessions,
    CredentialCache credentials
)
{
    /// <summary>Over http, which is for development on the own machine.</summary>
    public const string PlainCookieName = "um_session";

    /// <summary>Over https: browsers take a cookie of this prefix from no other host and over nothing else (RFC 6265bis, 4.1.3).</summary>
    public const string SecureCookieName = "__Host-um_session";

    /// <summary>The one name that counts for a request; the other is not looked at.</summary>
    public static string CookieName(HttpRequest request) => request.IsHttps ? SecureCookieName : PlainCookieName;

    /// <summary>Between password and second factor: the challenge, of no use to whoever lacks the factor.</summary>
    public const string ChallengeCookieName = "um_challenge";
    private const string ChallengePath = "/sign-in";

    /// <summary>
    /// Checks the person and, when they are who they say, sets the cookie: the session's, or the challenge's when a second
    /// factor is to follow.
    /// </summary>
    public async Task<LoginResult> SignInAsync(HttpContext context, string? email, string? password)
    {
        // Another site must not be able to sign a visitor in as somebody of its choice.
        if (!SameOrigin.Sent(context.Request))
        {
            return new LoginResult(SignInOutcome.CrossSite);
        }

        CancellationToken cancellationToken = context.RequestAborted;
        LoginResult result = await signIn.CheckAsync(
            email,
            password,
            context.Connection.RemoteIpAddress,
            cancellationToken
        );
        if (result.Person is not { } person)
        {
            return result;
        }

        if (await secondFactors.ChallengeAsync(context, person) is { } challenge)
        {
            KeepChallenge(context, challenge.Text);
            return new LoginResult(SignInOutcome.SecondFactorRequired) { Challenge = challenge };
        }

        await BeginAsync(context, person, new SignInProof(SignInProof.Password, null));
        return result;
    }

    /// <summary>The challenge that this browser has yet to answer, renewed for a page that shows it; null: begin again.</summary>
    public async Task<SecondFactorChallenge?> CurrentChallengeAsync(HttpContext context)
    {
        SecondFactorChallenge? challenge = await secondFactors.RenewAsync(
            context,
            context.Request.Cookies[ChallengeCookieName]
        );
        if (challenge is not null)
        {
            KeepChallenge(context, challenge.Text);
        }

        return challenge;
    }

    /// <summary>The second step: checks the factor and, when it is right, sets the cookie of the session.</summary>
    public async Task<LoginResult> AnswerAsync(HttpContext context, GivenFactor given)
    {
        if (!SameOrigin.Sent(context.Request))
        {
            return new LoginResult(SignInOutcome.CrossSite);
        }

        FactorSignIn<string> end = await secondFactors.AnswerAsync(
            context,
            context.Request.Cookies[ChallengeCookieName],
            given,
            (transaction, person, proof) => BeginInAsync(context, transaction, person, proof)
        );
        await SetCookieAsync(context, end.Session);
        return end.Result;
    }

    /// <summary>Signs in with a passkey alone.</summary>
    public async Task<LoginResult> SignInWithPasskeyAsync(HttpContext context, string? challenge, GivenFactor given)
    {
        if (!SameOrigin.Sent(context.Request))
        {
            return new LoginResult(SignInOutcome.CrossSite);
        }

        FactorSignIn<string> end = await secondFactors.SignInWithPasskeyAsync(
            context,
            challenge,
            given.Passkey,
            (transaction, person, proof) => BeginInAsync(context, transaction, person, proof)
        );
        await SetCookieAsync(context, end.Session);
        return end.Result;
    }

    /// <summary>Begins a session of a person who has proven who they are, in place of the one the browser had.</summary>
    public async Task BeginAsync(HttpContext context, Person person, SignInProof proof)
    {
        await EndCurrentAsync(context);
        var client = SessionClient.Of(context);
        string token = await sessions.BeginInBrowserAsync(person, proof, client, context.RequestAborted);
        context.Response.Cookies.Append(CookieName(context.Request), token, Options(context, Sessions.BrowserLifetime));
    }

    /// <summary>Ends the session, everywhere, and takes the cookie away.</summary>
    public async Task SignOutAsync(HttpContext context)
    {
        await EndCurrentAsync(context);
        context.Response.Cookies.Delete(CookieName(context.Request), Options(context, null));
    }

    /// <summary>Where to go after signing in: the path asked for, never another site.</summary>
    public static string LocalReturnUrl(string? returnUrl) =>
        returnUrl is ['/', ..] and not ['/', '/' or '\\', ..] && !returnUrl.Any(char.IsControl) ? returnUrl : "/";

    private Task<string> BeginInAsync(
        HttpContext context,
        Platform.ScopedTransaction transaction,
        Person person,
        SignInProof proof
    ) => sessions.BeginInBrowserAsync(transaction, person, proof, SessionClient.Of(context), context.RequestAborted);

    private async Task SetCookieAsync(HttpContext context, string? token)
    {
        if (token is not null)
        {
            await EndCurrentAsync(context);
            context.Response.Cookies.Append(
                CookieName(context.Request),
                token,
                Options(context, Sessions.BrowserLifetime)
            );
            context.Response.Cookies.Delete(ChallengeCookieName, ChallengeOptions(context));
        }
    }

    private static void KeepChallenge(HttpContext context, string text) =>
        context.Response.Cookies.Append(ChallengeCookieName, text, ChallengeOptions(context));

    private static CookieOptions ChallengeOptions(HttpContext context) =>
        new()
        {
            HttpOnly = true,
            IsEssential = true,
            MaxAge = Challenges.Lifetime,
            Path = ChallengePath,
            SameSite = SameSiteMode.Strict,
            Secure = context.Request.IsHttps,
        };

    private async Task EndCurrentAsync(HttpContext context)
    {
        PresentedCredential presented = PresentedCredential.Of(context.Request);
        if (
            presented.Kind == CredentialKind.Cookie
            && await credentials.FindAsync(presented, context.RequestAborted)
                is { Caller.SessionId: { } sessionId } current
        )
        {
            await sessions.EndAsync(current.Caller.EnterpriseId, sessionId, context.RequestAborted);
        }
    }

    // Lax, not Strict: a link in an alert's e-mail should open the page it names. Changing anything needs SameOrigin.
    private static CookieOptions Options(HttpContext context, TimeSpan? maxAge) =>
        new()
        {
            HttpOnly = true,
            IsEssential = true,
            MaxAge = maxAge,
            Path = "/",
            SameSite = SameSiteMode.Lax,
            Secure = context.Request.IsHttps,
        };
}
