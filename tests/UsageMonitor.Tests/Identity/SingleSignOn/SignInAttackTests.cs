using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Web;
using CsCheck;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>Answers that a provider never gave, or not for this sign-in, browser or enterprise.</summary>
public sealed class SignInAttackTests(SingleSignOnFixture fixture) : IClassFixture<SingleSignOnFixture>, IAsyncLifetime
{
    private readonly OpenIdProvider _provider = fixture.Provider.Reset();
    private SignOnEnterprise _enterprise = null!;

    public async ValueTask InitializeAsync()
    {
        _enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, _provider);
        _provider.Person = new("anna", _enterprise.Address("anna"));
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private static readonly Dictionary<string, Action<JsonObject>> s_spoilt = new()
    {
        ["another audience"] = token => token["aud"] = "another-client",
        ["no audience"] = token => token.Remove("aud"),
        ["several audiences, no authorized party"] = token =>
        {
            token["aud"] = new JsonArray(OpenIdProvider.ClientId, "another-client");
            token.Remove("azp");
        },
        ["another authorized party"] = token => token["azp"] = "another-client",
        ["another issuer"] = token => token["iss"] = "https://elsewhere.example/",
        ["the issuer without its slash"] = token => token["iss"] = token["iss"]!.GetValue<string>().TrimEnd('/'),
        ["no issuer"] = token => token.Remove("iss"),
        ["expired"] = token => token["exp"] = Now - 120,
        ["no end"] = token => token.Remove("exp"),
        ["not yet valid"] = token => token["nbf"] = Now + 600,
        ["issued in the future"] = token => token["iat"] = Now + 600,
        ["issued yesterday"] = token => token["iat"] = Now - 86_400,
        ["never issued"] = token => token.Remove("iat"),
        ["no nonce"] = token => token.Remove("nonce"),
        ["another nonce"] = token => token["nonce"] = "another-nonce",
        ["no subject"] = token => token.Remove("sub"),
        ["another access token's hash"] = token => token["at_hash"] = "another",
    };

    public static TheoryData<string> Spoilt => [.. s_spoilt.Keys];

    [Theory]
    [MemberData(nameof(Spoilt))]
    public async Task IdToken_WhenAClaimDoesNotHold_ShouldBeRefused(string spoilt)
    {
        _provider.Spoil = s_spoilt[spoilt];

        await AssertRefusedAsync(HttpStatusCode.BadGateway);

        Assert.Equal(1, _provider.Redeemed);
    }

    [Fact]
    public async Task IdToken_WhenSignedAgainUnchanged_ShouldBeTaken()
    {
        // What the theories above rest on: that they are refused for their claim and not for the way they are made.
        _provider.Spoil = _ => { };
        using var browser = new SignOnBrowser(fixture.Server);

        using HttpResponseMessage answer = await browser.SignInAsync(_enterprise.ProviderId);

        Assert.Equal(HttpStatusCode.SeeOther, answer.StatusCode);
    }

    [Theory]
    [InlineData("none")]
    [InlineData("no signature")]
    [InlineData("HS256 by the client's secret")]
    [InlineData("HS256 by the public key")]
    [InlineData("another key under the same name")]
    [InlineData("another key without a name")]
    [InlineData("ES256 of other claims")]
    [InlineData("no JWT")]
    public async Task IdToken_WhenForged_ShouldBeRefused(string how)
    {
        _provider.Forge = token => Forge(token, how);

        await AssertRefusedAsync(HttpStatusCode.BadGateway);

        Assert.Equal(1, _provider.Redeemed);
    }

    [Fact]
    public async Task Callback_WhenAnotherBrowserBeganIt_ShouldNotSignIn()
    {
        using var attacker = new SignOnBrowser(fixture.Server);
        string callback = await attacker.LeaveAsync(_enterprise.ProviderId);
        using var victim = new SignOnBrowser(fixture.Server);

        await AssertRefusedAsync(victim, callback, HttpStatusCode.BadRequest);

        // Nor one who has a sign-in of their own under way.
        await victim.LeaveAsync(_enterprise.ProviderId);
        await AssertRefusedAsync(victim, callback, HttpStatusCode.BadRequest);
        Assert.Equal(0, _provider.Redeemed);
    }

    [Fact]
    public async Task Callback_WhenItComesASecondTime_ShouldNotSignIn()
    {
        using var browser = new SignOnBrowser(fixture.Server);
        string callback = await browser.LeaveAsync(_enterprise.ProviderId);
        Cookie[] before = [.. browser.Cookies.GetAllCookies().Cast<Cookie>()];
        using HttpResponseMessage first = await browser.GetAsync(callback);
        Assert.Equal(HttpStatusCode.SeeOther, first.StatusCode);

        // Whoever sees the address later has no cookie; whoever copied that too is still late, even where the provider
        // takes the code twice.
        using var later = new SignOnBrowser(fixture.Server);
        await AssertRefusedAsync(later, callback, HttpStatusCode.BadRequest);
        Assert.Equal(1, _provider.Redeemed);
        foreach (Cookie cookie in before)
        {
            later.Cookies.Add(new Cookie(cookie.Name, cookie.Value, "/", cookie.Domain));
        }

        await AssertRefusedAsync(later, callback, HttpStatusCode.BadRequest);
        Assert.Equal(2, _provider.Redeemed);
    }

    [Fact]
    public async Task Callback_WhenTheStateIsNotTheCookies_ShouldNotSignIn()
    {
        using var browser = new SignOnBrowser(fixture.Server);
        string callback = await browser.LeaveAsync(_enterprise.ProviderId);
        string path = callback.Split('?')[0];

        foreach (string state in new[] { "", "state=", "state=made-up" })
        {
            await AssertRefusedAsync(browser, $"{path}?{state}&code=a-code", HttpStatusCode.BadRequest);
        }

        // The cookie of one sign-in under the name of another does not open.
        string other = await browser.LeaveAsync(_enterprise.ProviderId);
        Cookie[] cookies =
        [
            .. browser.Cookies.GetAllCookies().Where(c => c.Name.Contains("um_sso_", StringComparison.Ordinal)),
        ];
        Assert.Equal(2, cookies.Length);
        (cookies[0].Value, cookies[1].Value) = (cookies[1].Value, cookies[0].Value);
        await AssertRefusedAsync(browser, callback, HttpStatusCode.BadRequest);
        await AssertRefusedAsync(browser, other, HttpStatusCode.BadRequest);
        Assert.Equal(0, _provider.Redeemed);
    }

    [Fact]
    public async Task Callback_WhenTheCodeIsSomebodyElses_ShouldNotSignIn()
    {
        using var victim = new SignOnBrowser(fixture.Server);
        string stolen = await victim.LeaveAsync(_enterprise.ProviderId);
        using var attacker = new SignOnBrowser(fixture.Server);
        string own = await attacker.LeaveAsync(_enterprise.ProviderId);

        // PKCE: the code was given for the victim's verifier.
        string injected = With(own, "code", Of(stolen, "code")!);

        await AssertRefusedAsync(attacker, injected, HttpStatusCode.BadGateway);
    }

    [Fact]
    public async Task Callback_WhenAnotherIssuerAnswers_ShouldNotTakeTheCodeAnywhere()
    {
        using var browser = new SignOnBrowser(fixture.Server);
        Assert.NotNull(Of(await browser.LeaveAsync(_enterprise.ProviderId), "iss"));

        string another = With(await browser.LeaveAsync(_enterprise.ProviderId), "iss", "https://elsewhere.example/");
        await AssertRefusedAsync(browser, another, HttpStatusCode.BadGateway);
        string unsaid = With(await browser.LeaveAsync(_enterprise.ProviderId), "iss", null);
        await AssertRefusedAsync(browser, unsaid, HttpStatusCode.BadGateway);

        Assert.Equal(0, _provider.Redeemed);
    }

    [Fact]
    public async Task Callback_WhenAnotherEnterprisesProviderSentItOn_ShouldNotTakeTheCodeAnywhere()
    {
        // Mix-up: the attacker's provider sends the victim on to the honest one, with the honest redirect address but with
        // the state of a sign-in by the attacker's. Were it taken, the honest code and its verifier would go to the attacker.
        await using OpenIdProvider attackers = await OpenIdProvider.StartAsync();
        SignOnEnterprise attacker = await SignOnEnterprise.CreateAsync(fixture.Server, attackers);
        using var victim = new SignOnBrowser(fixture.Server);
        string toAttacker = await victim.RedirectAsync($"/sign-in/sso/{attacker.ProviderId}");
        string toHonest = await victim.RedirectAsync($"/sign-in/sso/{_enterprise.ProviderId}");
        string mixed = With(
            With(toHonest, "state", Of(toAttacker, "state")!),
            "code_challenge",
            Of(toAttacker, "code_challenge")!
        );
        string callback = await victim.RedirectAsync(mixed);

        await AssertRefusedAsync(victim, callback, HttpStatusCode.BadRequest);

        Assert.Equal((0, 0), (_provider.Redeemed, attackers.Redeemed));
    }

    [Fact]
    public async Task Callback_WhenTheProviderSaysNo_ShouldSaySo()
    {
        using var browser = new SignOnBrowser(fixture.Server);
        string callback = With(await browser.LeaveAsync(_enterprise.ProviderId), "code", null) + "&error=access_denied";

        await AssertRefusedAsync(browser, callback, HttpStatusCode.Forbidden);
    }

    [Fact]
    public async Task Callback_WhenTheProviderIsAnotherByNow_ShouldNotSignIn()
    {
        using var browser = new SignOnBrowser(fixture.Server);
        string callback = await browser.LeaveAsync(_enterprise.ProviderId);
        await using OpenIdProvider next = await OpenIdProvider.StartAsync();
        await _enterprise.UpdateAsync(_enterprise.Request() with { Issuer = next.Issuer });

        await AssertRefusedAsync(browser, callback, HttpStatusCode.NotFound);

        Assert.Equal((0, 0), (_provider.Redeemed, next.Redeemed));
    }

    [Fact]
    public async Task SignIn_WhateverTheProviderSays_ShouldBeOfItsOwnEnterprise()
    {
        SignOnEnterprise other = await SignOnEnterprise.CreateAsync(fixture.Server, _provider);
        await other.AddPersonAsync(_enterprise.Address("taken"), null, "EnterpriseAdmin");
        Gen<string> addresses = OneOf(
            _enterprise.Address("anna"),
            _enterprise.Address("taken"),
            other.Address("anna"),
            RunningServer.OperatorEmail,
            "nobody@elsewhere.example"
        );
        Gen<string> subjects = OneOf("anna", "bert", other.Acme.Admin.User.UserId.ToString());
        Gen<string[]> groups = OneOf("Operator", "EnterpriseAdmin", "x").Array[0, 3];
        Gen<string> names = OneOf("ent", "enterprise_id", "sid", "roles", "role", "email_verified", "sub_jwk");
        Gen<string> values = OneOf(other.Acme.EnterpriseId.ToString(), Guid.Empty.ToString(), "Operator");
        await _enterprise.UpdateAsync(_enterprise.Request() with { RoleMapping = [new("x", "Analyst")] });

        await Gen.Select(addresses, subjects, groups, names, values)
            .SampleAsync(
                async (address, subject, claimed, name, value) =>
                {
                    _provider.Person = new(subject, address) { Groups = claimed };
                    _provider.Spoil = token => token[name] = value;
                    using var browser = new SignOnBrowser(fixture.Server);
                    using HttpResponseMessage answer = await browser.SignInAsync(_enterprise.ProviderId);
                    ValidateResponse? who = await browser.WhoAsync();
                    Assert.Equal(answer.StatusCode == HttpStatusCode.SeeOther, who is not null);
                    if (who is not null)
                    {
                        Assert.Equal(_enterprise.Acme.EnterpriseId, who.EnterpriseId);
                        Assert.EndsWith("@" + _enterprise.Domain, who.Email, StringComparison.Ordinal);
                        Assert.DoesNotContain(Permissions.EnterprisesWrite, who.Permissions);
                        Assert.DoesNotContain(Permissions.PeopleWrite, who.Permissions);
                    }
                },
                iter: 60,
                threads: 1
            );
    }

    private static Gen<string> OneOf(params string[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    private static long Now => DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    private string Forge(string token, string how)
    {
        string[] parts = token.Split('.');
        string payload = Base64UrlEncoder.Decode(parts[1]);
        string keyId = _provider.Key.KeyId;
        return how switch
        {
            "none" => Encoded("""{"alg":"none","typ":"JWT"}""") + "." + parts[1] + ".",
            "no signature" => parts[0] + "." + parts[1] + ".",
            "HS256 by the client's secret" => Sign(
                payload,
                new SymmetricSecurityKey(Encoding.UTF8.GetBytes(OpenIdProvider.ClientSecret)) { KeyId = keyId },
                SecurityAlgorithms.HmacSha256
            ),
            "HS256 by the public key" => Sign(
                payload,
                new SymmetricSecurityKey(((ECDsaSecurityKey)_provider.Key).ECDsa.ExportSubjectPublicKeyInfo())
                {
                    KeyId = keyId,
                },
                SecurityAlgorithms.HmacSha256
            ),
            "another key under the same name" => Sign(
                payload,
                new ECDsaSecurityKey(ECDsa.Create(ECCurve.NamedCurves.nistP256)) { KeyId = keyId },
                SecurityAlgorithms.EcdsaSha256
            ),
            "another key without a name" => Sign(
                payload,
                new ECDsaSecurityKey(ECDsa.Create(ECCurve.NamedCurves.nistP256)),
                SecurityAlgorithms.EcdsaSha256
            ),
            "ES256 of other claims" => parts[0]
                + "."
                + Encoded(payload.Replace("\"anna\"", "\"bert\"", StringComparison.Ordinal))
                + "."
                + parts[2],
            _ => "no JWT",
        };
    }

    private static string Sign(string payload, SecurityKey key, string algorithm) =>
        new JsonWebTokenHandler { SetDefaultTimesOnTokenCreation = false }.CreateToken(
            payload,
            new SigningCredentials(key, algorithm)
            {
                CryptoProviderFactory = new CryptoProviderFactory { CacheSignatureProviders = false },
            }
        );

    private static string Encoded(string text) => Base64UrlEncoder.Encode(text);

    private static string? Of(string address, string name) =>
        HttpUtility.ParseQueryString(new Uri(address).Query)[name];

    private static string With(string address, string name, string? value)
    {
        System.Collections.Specialized.NameValueCollection query = HttpUtility.ParseQueryString(new Uri(address).Query);
        if (value is null)
        {
            query.Remove(name);
        }
        else
        {
            query[name] = value;
        }

        return $"{address.Split('?')[0]}?{query}";
    }

    private async Task AssertRefusedAsync(HttpStatusCode status)
    {
        using var browser = new SignOnBrowser(fixture.Server);
        await AssertRefusedAsync(browser, await browser.LeaveAsync(_enterprise.ProviderId), status);
        Assert.Equal(1, await _enterprise.PeopleAsync()); // the admin
    }

    private static async Task AssertRefusedAsync(SignOnBrowser browser, string callback, HttpStatusCode status)
    {
        using HttpResponseMessage answer = await browser.GetAsync(callback);
        string html = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(answer.StatusCode == status, $"{answer.StatusCode}: {html}");
        Assert.Equal("text/html", answer.Content.Headers.ContentType?.MediaType);
        Assert.Null(await browser.WhoAsync());
    }
}
