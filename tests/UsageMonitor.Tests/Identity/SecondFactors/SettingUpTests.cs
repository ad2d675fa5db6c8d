using System.Net;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SecondFactors;
using Xunit;

namespace UsageMonitor.Tests.Identity.SecondFactors;

/// <summary>Setting factors up and taking them away, and what an enterprise that asks for one means for sessions.</summary>
public sealed class SettingUpTests(FactorFixture fixture) : IClassFixture<FactorFixture>
{
    private const string Totp = FactorPerson.Factors + "/totp";
    private const string Usage = "/v1/usage";

    [Fact]
    public async Task Require_WhenASessionShowedOnlyAPassword_ShouldLeaveItNothingButSettingUp()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        using HttpResponseMessage other = await person.PasswordAsync();
        string second = (await IdentityHost.ReadAsync<LoginResponse>(other, HttpStatusCode.OK)).AccessToken;
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync(Usage));

        await fixture.RequireAsync(person.EnterpriseId);

        await person.RefusedAsync(HttpMethod.Get, Usage, null, 403, "second_factor_required");
        await person.RefusedAsync(HttpMethod.Get, "/v1/me/sessions", null, 403, "second_factor_required");
        await person.RefusedAsync(HttpMethod.Delete, Totp, null, 403, "second_factor_required");
        MeResponse me = await person.SendAsync<MeResponse>(HttpMethod.Get, "/v1/me");
        Assert.True(me.MustSetUpSecondFactor);

        // Setting one up makes this session whole, and only this one: the other has not shown the factor.
        await person.AddTotpAsync();
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync(Usage));
        await person.RefusedAsync(HttpMethod.Get, Usage, null, 403, "second_factor_required", second);
        await person.RefusedAsync(HttpMethod.Post, Totp, null, 403, "proof_required", second);
        await person.RefusedAsync(
            HttpMethod.Post,
            "/v1/me/proof",
            new ProofRequest(IdentityHost.AdminPassword),
            403,
            "second_factor_required",
            second
        );
        await person.DoneAsync(HttpMethod.Post, "/v1/me/proof", new ProofRequest(Code: person.NextCode()), second);
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync(Usage, second));
    }

    [Fact]
    public async Task Require_WhenAPersonWithoutAFactorSignsIn_ShouldLetThemSetOneUp()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await fixture.RequireAsync(person.EnterpriseId);
        using HttpResponseMessage response = await person.PasswordAsync();
        string token = (await IdentityHost.ReadAsync<LoginResponse>(response, HttpStatusCode.OK)).AccessToken;
        await person.RefusedAsync(HttpMethod.Get, Usage, null, 403, "second_factor_required", token);

        await person.AddTotpAsync(token);

        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync(Usage, token));
        Assert.Equal(RecoveryCodes.Count, person.RecoveryCodes.Count);
    }

    [Fact]
    public async Task Confirm_WhenTheCodeIsWrongOrLate_ShouldNotSetUp()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.BeginTotpAsync();

        await person.RefusedAsync(
            HttpMethod.Post,
            Totp + "/confirm",
            new ConfirmTotpRequest("000000"),
            422,
            "invalid_code"
        );
        using (HttpResponseMessage noFactorYet = await person.PasswordAsync())
        {
            Assert.Equal(HttpStatusCode.OK, noFactorYet.StatusCode);
        }

        fixture.Time.Advance(RecentProof.GoodFor);
        using HttpResponseMessage again = await person.PasswordAsync();
        string token = (await IdentityHost.ReadAsync<LoginResponse>(again, HttpStatusCode.OK)).AccessToken;
        fixture.Time.Advance(TotpSetup.PendingFor - RecentProof.GoodFor);
        await person.RefusedAsync(
            HttpMethod.Post,
            Totp + "/confirm",
            new ConfirmTotpRequest(person.Code()),
            422,
            "invalid_code",
            token
        );
    }

    [Fact]
    public async Task Begin_WhenAnAppIsSetUp_ShouldKeepTheOldOneUntilTheNewIsConfirmed()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        string oldNext = person.Code(1);

        await person.BeginTotpAsync();

        Asked asked = await person.AskedAsync();
        await person.AnsweredAsync(new SecondFactorRequest(asked.Challenge, oldNext));
        FactorAddedResponse added = await person.SendAsync<FactorAddedResponse>(
            HttpMethod.Post,
            Totp + "/confirm",
            new ConfirmTotpRequest(person.NextCode())
        );
        Assert.Null(added.RecoveryCodes);
        Asked again = await person.AskedAsync();
        await person.AnsweredAsync(new SecondFactorRequest(again.Challenge, person.NextCode()));
    }

    [Fact]
    public async Task Change_WhenTheLastProofIsOld_ShouldAskForOne()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        fixture.Time.Advance(RecentProof.GoodFor);
        await person.RefusedAsync(HttpMethod.Post, Totp, null, 403, "proof_required");
        await person.RefusedAsync(
            HttpMethod.Post,
            FactorPerson.Factors + "/passkeys/options",
            null,
            403,
            "proof_required"
        );
        await person.RefusedAsync(
            HttpMethod.Post,
            "/v1/me/proof",
            new ProofRequest("not the password at all"),
            403,
            "invalid_proof"
        );
        await person.DoneAsync(HttpMethod.Post, "/v1/me/proof", new ProofRequest(IdentityHost.AdminPassword));

        await person.AddTotpAsync();

        fixture.Time.Advance(RecentProof.GoodFor - TimeSpan.FromMinutes(6));
        using HttpResponseMessage refreshed = await person.PasswordAsync();
        await IdentityHost.AssertProblemAsync(refreshed, 401, "second_factor_required");
        Asked asked = await person.AskedAsync();
        person.Token = (
            await person.AnsweredAsync(new SecondFactorRequest(asked.Challenge, person.NextCode()))
        ).AccessToken;
        fixture.Time.Advance(RecentProof.GoodFor);
        await person.RefusedAsync(HttpMethod.Delete, Totp, null, 403, "proof_required");
        await person.RefusedAsync(
            HttpMethod.Post,
            FactorPerson.Factors + "/recovery-codes",
            null,
            403,
            "proof_required"
        );
        await person.DoneAsync(
            HttpMethod.Post,
            "/v1/me/proof",
            new ProofRequest(RecoveryCode: person.RecoveryCodes[3])
        );
        await person.DoneAsync(HttpMethod.Delete, Totp);
        Assert.Equal(
            [AccountNotices.TotpAdded, AccountNotices.TotpRemoved],
            await fixture.MailsAsync(person.EnterpriseId)
        );
    }

    [Fact]
    public async Task Change_WhenAFactorHasChanged_ShouldAskOtherSessionsForAProof()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        Asked asked = await person.AskedAsync();
        string other = (
            await person.AnsweredAsync(new SecondFactorRequest(asked.Challenge, person.NextCode()))
        ).AccessToken;
        await person.SendAsync<RecoveryCodesResponse>(
            HttpMethod.Post,
            FactorPerson.Factors + "/recovery-codes",
            null,
            other
        );

        await person.AddTotpAsync();

        await person.RefusedAsync(HttpMethod.Delete, Totp, null, 403, "proof_required", other);
    }

    [Fact]
    public async Task Prove_WhenWrongTenTimes_ShouldWait()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        for (int i = 0; i < ProofLimit.AttemptsMax; i++)
        {
            await person.RefusedAsync(
                HttpMethod.Put,
                "/v1/me/password",
                new ChangePasswordRequest("not the password at all", "another password, quite long"),
                422,
                "wrong_password"
            );
        }

        await person.RefusedAsync(
            HttpMethod.Post,
            "/v1/me/proof",
            new ProofRequest(IdentityHost.AdminPassword),
            429,
            "too_many_attempts"
        );
    }

    [Fact]
    public async Task RecoveryCodes_WhenReplaced_ShouldVoidTheOldOnes()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.RefusedAsync(
            HttpMethod.Post,
            FactorPerson.Factors + "/recovery-codes",
            null,
            409,
            "no_second_factor"
        );
        await person.AddTotpAsync();

        RecoveryCodesResponse made = await person.SendAsync<RecoveryCodesResponse>(
            HttpMethod.Post,
            FactorPerson.Factors + "/recovery-codes"
        );

        Asked asked = await person.AskedAsync();
        await person.AnswerRefusedAsync(
            new SecondFactorRequest(asked.Challenge, RecoveryCode: person.RecoveryCodes[0]),
            401,
            "invalid_second_factor"
        );
        await person.AnsweredAsync(new SecondFactorRequest(asked.Challenge, RecoveryCode: made.RecoveryCodes[0]));
    }

    [Fact]
    public async Task Remove_WhenItIsTheLastOneOfAnEnterpriseThatAsksForOne_ShouldBeRefused()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.RefusedAsync(HttpMethod.Delete, Totp, null, 404, "not_found");
        await person.AddTotpAsync();
        await fixture.RequireAsync(person.EnterpriseId);
        await person.RefusedAsync(HttpMethod.Delete, Totp, null, 409, "last_second_factor");

        await fixture.RequireAsync(person.EnterpriseId, required: false);

        await person.DoneAsync(HttpMethod.Delete, Totp);
        SecondFactorsResponse none = await person.SendAsync<SecondFactorsResponse>(
            HttpMethod.Get,
            FactorPerson.Factors
        );
        Assert.Equal((null, 0, 0), (none.TotpSince, none.Passkeys.Count, none.RecoveryCodesLeft));
        using HttpResponseMessage signIn = await person.PasswordAsync();
        Assert.Equal(HttpStatusCode.OK, signIn.StatusCode);
    }

    [Fact]
    public async Task Reset_WhenAnAdministratorAsks_ShouldRemoveFactorsAndEndSessions()
    {
        FactorPerson person = await fixture.NewPersonAsync();
        await person.AddTotpAsync();
        FactorPerson stranger = await fixture.NewPersonAsync();
        string path = $"/v1/admin/users/{person.UserId}/second-factors";
        await stranger.RefusedAsync(HttpMethod.Delete, path, null, 404, "not_found");
        await person.RefusedAsync(HttpMethod.Delete, path, null, 409, "own_account");
        (Guid _, string colleague) = await fixture.AddColleagueAsync(person.EnterpriseId, "EnterpriseAdmin");
        (Guid _, string analyst) = await fixture.AddColleagueAsync(person.EnterpriseId, "Analyst");
        await person.RefusedAsync(HttpMethod.Delete, path, null, 403, "forbidden", analyst);
        Assert.Equal(HttpStatusCode.OK, await person.StatusAsync(Usage));

        await person.DoneAsync(HttpMethod.Delete, path, null, colleague);

        Assert.Equal(HttpStatusCode.Unauthorized, await person.StatusAsync(Usage));
        using HttpResponseMessage signIn = await person.PasswordAsync();
        Assert.Equal(HttpStatusCode.OK, signIn.StatusCode);
        Assert.Contains(AccountNotices.FactorsReset, await fixture.MailsAsync(person.EnterpriseId));
    }
}
