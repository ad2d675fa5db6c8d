using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class AuthTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    private IdentityHost Host => fixture.Host;

    [Fact]
    public async Task Login_WhenThePasswordIsRight_ShouldAnswerTokensThatValidate()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync("Ada.Lovelace@Example.com");
        LoginResponse again = await Host.LoginAsync("  ADA.lovelace@example.COM ", IdentityHost.AdminPassword);

        using HttpResponseMessage response = await Host.SendAsync(
            HttpMethod.Get,
            "/v1/auth/validate",
            again.AccessToken
        );
        var valid = await IdentityHost.ReadAsync<ValidateResponse>(response, HttpStatusCode.OK);

        Assert.Equal(admin.User.UserId, again.User.UserId);
        Assert.Equal([RolePermissions.EnterpriseAdmin], again.User.Roles);
        Assert.Equal(900, again.ExpiresIn);
        Assert.Equal(admin.User.EnterpriseId, valid.EnterpriseId);
        Assert.Equal(admin.User.UserId, valid.UserId);
        Assert.Equal("ada.lovelace@example.com", valid.Email);
        Assert.Null(valid.ApiKeyId);
        Assert.Equal(
            RolePermissions.BuiltIn[RolePermissions.EnterpriseAdmin].Order(StringComparer.Ordinal),
            valid.Permissions
        );
    }

    [Theory]
    [InlineData(IdentityHost.OperatorEmail, "not the password")]
    [InlineData("nobody@example.com", IdentityHost.OperatorPassword)]
    [InlineData("no address at all", IdentityHost.OperatorPassword)]
    public async Task Login_WhenItIsWrong_ShouldSayTheSameForAll(string email, string password)
    {
        using HttpResponseMessage response = await Host.PostAsync(
            "/v1/auth/login",
            new LoginRequest(email, password),
            null
        );

        string detail = await IdentityHost.AssertProblemAsync(response, 401, "invalid_credentials");
        Assert.Equal("The e-mail address or the password is wrong.", detail);
    }

    [Theory]
    [InlineData("""{ "email": "operator@""")]
    [InlineData("""{ "email": 7 }""")]
    [InlineData("""{ "email": "operator@example.com" }""")]
    [InlineData("null")]
    [InlineData("")]
    public async Task Login_WhenTheBodyIsMalformed_ShouldBeA400WithItsCode(string body)
    {
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Post, "/v1/auth/login", null, content);

        await IdentityHost.AssertProblemAsync(response, 400, "invalid_request");
    }

    [Fact]
    public async Task Login_WhenAnAddressHasFailedTenTimes_ShouldAskToWait()
    {
        var guess = new LoginRequest("victim@example.com", "a guess at the password");
        for (int i = 0; i < SignInThrottle.FailuresPerEmailMax; i++)
        {
            using HttpResponseMessage failed = await Host.PostAsync("/v1/auth/login", guess, null);
            Assert.Equal(HttpStatusCode.Unauthorized, failed.StatusCode);
        }

        using HttpResponseMessage response = await Host.PostAsync("/v1/auth/login", guess, null);

        await IdentityHost.AssertProblemAsync(response, 429, "too_many_attempts");
        Assert.InRange(response.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 900);
    }

    [Fact]
    public async Task Validate_WhenTheTokenIsNotOurs_ShouldRefuseIt()
    {
        string token = (await Host.LoginOperatorAsync()).AccessToken;
        string[] parts = token.Split('.');
        string noAlgorithm = Encode("""{"alg":"none","typ":"at+jwt"}""");
        string flipped = parts[2][..^4] + (parts[2][^4] == 'A' ? 'B' : 'A') + parts[2][^3..];
        string otherPayload = Encode(Decode(parts[1]).Replace("Operator", "EnterpriseAdmin", StringComparison.Ordinal));
        string[] forged =
        [
            "garbage",
            "um_" + new string('A', 43),
            "um_" + new string('é', 43),
            "a.b.c" + new string('x', 60),
            new string('x', 70) + "." + new string('y', 5_000),
            $"{parts[0]}.{parts[1]}.{flipped}",
            $"{parts[0]}.{otherPayload}.{parts[2]}",
            $"{noAlgorithm}.{parts[1]}.",
            $"{noAlgorithm}.{parts[1]}.{parts[2]}",
            $"{Encode("""{"alg":"ES256","typ":"at+jwt"}""")}.{parts[1]}.{parts[2]}",
            Forge(token, new SigningCredentials(SigningKeyOf("unknown-key-id"), SecurityAlgorithms.EcdsaSha256)),
            Forge(
                token,
                new SigningCredentials(SigningKeyOf(new JsonWebToken(token).Kid), SecurityAlgorithms.EcdsaSha256)
            ),
            ForgeWithPublicKeyAsSecret(token),
        ];

        foreach (string bearer in forged)
        {
            using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Get, "/v1/auth/validate", bearer);
            await IdentityHost.AssertProblemAsync(response, 401, "invalid_token");
            Assert.Equal("Bearer error=\"invalid_token\"", response.Headers.WwwAuthenticate.ToString());
        }

        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", token));
    }

    [Fact]
    public async Task Validate_WhenTheTokenHasExpired_ShouldRefuseIt()
    {
        LoginResponse admin = await Host.LoginOperatorAsync();
        var sessionId = Guid.Parse(new JsonWebToken(admin.AccessToken).GetClaim("sid").Value);
        var person = new Person(Guid.Empty, admin.User.UserId, admin.User.Email, admin.User.Roles);

        async Task<HttpStatusCode> IssuedAgo(int seconds)
        {
            var then = new FakeTimeProvider(TimeProvider.System.GetUtcNow().AddSeconds(-seconds));
            var issuer = new AccessTokens(Host.Services.GetRequiredService<SigningKeys>(), then);
            string token = await issuer.IssueAsync(person, sessionId, TestContext.Current.CancellationToken);
            return await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", token);
        }

        Assert.Equal(HttpStatusCode.OK, await IssuedAgo(AccessTokens.LifetimeSeconds - 5));
        Assert.Equal(
            HttpStatusCode.Unauthorized,
            await IssuedAgo(AccessTokens.LifetimeSeconds + AccessTokens.ClockSkewSeconds + 1)
        );
    }

    [Fact]
    public async Task Refresh_WhenUsedTwice_ShouldEndTheSession()
    {
        LoginResponse first = await Host.CreateEnterpriseAsync();

        LoginResponse second = await RefreshAsync(first.RefreshToken);
        Assert.NotEqual(first.RefreshToken, second.RefreshToken);
        Assert.Equal(first.User.UserId, second.User.UserId);
        Assert.Equal(
            HttpStatusCode.OK,
            await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", second.AccessToken)
        );

        await AssertRefreshRefusedAsync(first.RefreshToken);

        await AssertRefreshRefusedAsync(second.RefreshToken);
        foreach (string token in new[] { first.AccessToken, second.AccessToken })
        {
            Assert.Equal(
                HttpStatusCode.Unauthorized,
                await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", token)
            );
        }
    }

    [Fact]
    public async Task Refresh_WhenManyUseOneTokenAtOnce_ShouldLetOneAtMostThrough()
    {
        LoginResponse login = await Host.CreateEnterpriseAsync();

        HttpResponseMessage[] responses = await Task.WhenAll(
            Enumerable
                .Range(0, 8)
                .Select(_ => Host.PostAsync("/v1/auth/refresh", new RefreshRequest(login.RefreshToken), null))
        );

        Assert.Equal(1, responses.Count(response => response.StatusCode == HttpStatusCode.OK));
        Assert.Equal(
            HttpStatusCode.Unauthorized,
            await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", login.AccessToken)
        );
    }

    [Fact]
    public async Task Logout_WhenDone_ShouldRefuseTheSessionsTokensOnly()
    {
        LoginResponse ended = await Host.CreateEnterpriseAsync();
        LoginResponse kept = await Host.LoginAsync(ended.User.Email, IdentityHost.AdminPassword);
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", ended.AccessToken));

        for (int i = 0; i < 2; i++)
        {
            using HttpResponseMessage response = await Host.PostAsync(
                "/v1/auth/logout",
                new RefreshRequest(ended.RefreshToken),
                null
            );
            Assert.Equal(HttpStatusCode.NoContent, response.StatusCode);
        }

        Assert.Equal(
            HttpStatusCode.Unauthorized,
            await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", ended.AccessToken)
        );
        await AssertRefreshRefusedAsync(ended.RefreshToken);
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", kept.AccessToken));
    }

    [Fact]
    public async Task PublicKeys_WhenReadByAnybody_ShouldCheckOurTokensAndHoldNoSecret()
    {
        string token = (await Host.LoginOperatorAsync()).AccessToken;

        using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Get, "/.well-known/jwks.json", null);
        string json = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);

        Assert.DoesNotContain("\"d\"", json, StringComparison.Ordinal);
        TokenValidationResult result = await new JsonWebTokenHandler().ValidateTokenAsync(
            token,
            new TokenValidationParameters
            {
                IssuerSigningKeys = new JsonWebKeySet(json).GetSigningKeys(),
                ValidIssuer = AccessTokens.Issuer,
                ValidAudience = AccessTokens.Audience,
            }
        );
        Assert.True(result.IsValid);
    }

    [Fact]
    public async Task OpenApi_WhenWritten_ShouldNameTheBodiesAndTheProblems()
    {
        using HttpResponseMessage response = await Host.SendAsync(HttpMethod.Get, "/openapi/v1.json", null);
        using JsonDocument document = JsonDocument.Parse(
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)
        );

        JsonElement login = document.RootElement.GetProperty("paths").GetProperty("/v1/auth/login").GetProperty("post");

        Assert.Equal(
            "#/components/schemas/LoginRequest",
            login
                .GetProperty("requestBody")
                .GetProperty("content")
                .GetProperty("application/json")
                .GetProperty("schema")
                .GetProperty("$ref")
                .GetString()
        );
        Assert.Equal(
            ["200", "400", "401", "403", "429"],
            login.GetProperty("responses").EnumerateObject().Select(answer => answer.Name)
        );
        Assert.False(login.TryGetProperty("parameters", out _));
    }

    private async Task<LoginResponse> RefreshAsync(string refreshToken)
    {
        using HttpResponseMessage response = await Host.PostAsync(
            "/v1/auth/refresh",
            new RefreshRequest(refreshToken),
            null
        );
        return await IdentityHost.ReadAsync<LoginResponse>(response, HttpStatusCode.OK);
    }

    private async Task AssertRefreshRefusedAsync(string refreshToken)
    {
        using HttpResponseMessage response = await Host.PostAsync(
            "/v1/auth/refresh",
            new RefreshRequest(refreshToken),
            null
        );
        await IdentityHost.AssertProblemAsync(response, 401, "invalid_token");
    }

    private static ECDsaSecurityKey SigningKeyOf(string keyId) =>
        new(System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256))
        {
            KeyId = keyId,
        };

    // The classic confusion: the public key, which everybody knows, taken for the secret of an HMAC.
    private string ForgeWithPublicKeyAsSecret(string token)
    {
        string keyId = new JsonWebToken(token).Kid;
        Assert.True(Host.Services.GetRequiredService<SigningKeys>().TryGet(keyId, out ECDsaSecurityKey? key));
        var secret = new SymmetricSecurityKey(key.ECDsa.ExportSubjectPublicKeyInfo()) { KeyId = keyId };
        return Forge(token, new SigningCredentials(secret, SecurityAlgorithms.HmacSha256));
    }

    private static string Forge(string token, SigningCredentials credentials) =>
        new JsonWebTokenHandler { SetDefaultTimesOnTokenCreation = false }.CreateToken(
            Decode(token.Split('.')[1]),
            credentials,
            new Dictionary<string, object> { ["typ"] = "at+jwt" }
        );

    private static string Encode(string json) => Base64UrlEncoder.Encode(json);

    private static string Decode(string part) => Base64UrlEncoder.Decode(part);
}
