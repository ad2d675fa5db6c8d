using System.Security.Claims;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;
using OpenIddict.Abstractions;
using OpenIddict.Server;
using Xunit;
using static OpenIddict.Server.OpenIddictServerEvents;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>A person as the provider knows them.</summary>
internal sealed record ProviderPerson(string Subject, string? Email)
{
    public bool? EmailVerified { get; init; } = true;

    public string[] Groups { get; init; } = [];
}

/// <summary>
/// A real OpenID provider (OpenIddict) on loopback. It signs in whoever the test says, without asking; a test may spoil what
/// it answers, after OpenIddict has made it. It keeps no codes, so it takes one back as often as it is brought.
/// </summary>
internal sealed class OpenIdProvider : IAsyncDisposable
{
    public const string ClientId = "usage-monitor";
    public const string ClientSecret = "the client's secret: not/only+letters";

    private readonly WebApplication _app;

    private OpenIdProvider(WebApplication app) => _app = app;

    /// <summary>As its tokens say.</summary>
    public string Issuer => _app.Urls.First() + "/";

    public ProviderPerson Person { get; set; } = new("nobody", null);

    /// <summary>Changes the payload of ID tokens before they are signed again with the provider's own key.</summary>
    public Action<JsonObject>? Spoil { get; set; }

    /// <summary>Makes another token of an ID token altogether.</summary>
    public Func<string, string>? Forge { get; set; }

    /// <summary>Codes that were redeemed.</summary>
    public int Redeemed { get; private set; }

    public static async Task<OpenIdProvider> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        OpenIdProvider? provider = null;
        builder
            .Services.AddOpenIddict()
            .AddServer(options =>
            {
                options
                    .EnableDegradedMode()
                    .AllowAuthorizationCodeFlow()
                    .RequireProofKeyForCodeExchange()
                    .SetAuthorizationEndpointUris("connect/authorize")
                    .SetTokenEndpointUris("connect/token")
                    .RegisterScopes("openid", "email", "profile")
                    .AddEphemeralEncryptionKey()
                    .AddSigningKey(NewKey())
                    .UseAspNetCore()
                    .DisableTransportSecurityRequirement();
                options.AddEventHandler<ValidateAuthorizationRequestContext>(handler =>
                    handler.UseInlineHandler(ValidateAuthorization)
                );
                options.AddEventHandler<HandleAuthorizationRequestContext>(handler =>
                    handler.UseInlineHandler(context => provider!.SignIn(context))
                );
                options.AddEventHandler<ValidateTokenRequestContext>(handler =>
                    handler.UseInlineHandler(context => provider!.ValidateToken(context))
                );
                options.AddEventHandler<ApplyTokenResponseContext>(handler =>
                    handler.UseInlineHandler(context => provider!.Answer(context)).SetOrder(int.MinValue)
                );
            });
        WebApplication app = builder.Build();
        app.UseAuthentication();
        await app.StartAsync(TestContext.Current.CancellationToken);
        return provider = new OpenIdProvider(app);
    }

    /// <summary>Forgets what a test has done to it, except for its key.</summary>
    public OpenIdProvider Reset()
    {
        (Person, Spoil, Forge, Redeemed) = (new ProviderPerson("nobody", null), null, null, 0);
        if (Key is not ECDsaSecurityKey)
        {
            RotateKey();
        }

        return this;
    }

    /// <summary>From now on another key signs, and the old one is gone.</summary>
    public void RotateKey(SecurityKey? key = null)
    {
        List<SigningCredentials> credentials = Options.SigningCredentials;
        credentials.Clear();
        credentials.Add(CredentialsOf(key ?? NewKey()));
    }

    /// <summary>Signs what a test has made up with the provider's own key.</summary>
    public string Sign(string payload) =>
        new JsonWebTokenHandler { SetDefaultTimesOnTokenCreation = false }.CreateToken(
            payload,
            Options.SigningCredentials.Single()
        );

    public static JsonObject PayloadOf(string token) =>
        JsonNode.Parse(Base64UrlEncoder.Decode(token.Split('.')[1]))!.AsObject();

    public SecurityKey Key => Options.SigningCredentials.Single().Key;

    public Task StopAsync() => _app.StopAsync(TestContext.Current.CancellationToken);

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private OpenIddictServerOptions Options =>
        _app.Services.GetRequiredService<IOptionsMonitor<OpenIddictServerOptions>>().CurrentValue;

    private static ValueTask ValidateAuthorization(ValidateAuthorizationRequestContext context)
    {
        if (context.ClientId != ClientId)
        {
            context.Reject(OpenIddictConstants.Errors.InvalidClient, "Another client.");
        }

        return ValueTask.CompletedTask;
    }

    private ValueTask ValidateToken(ValidateTokenRequestContext context)
    {
        if (context.ClientId != ClientId || context.ClientSecret != ClientSecret)
        {
            context.Reject(OpenIddictConstants.Errors.InvalidClient, "Another client or secret.");
        }
        else
        {
            Redeemed++;
        }

        return ValueTask.CompletedTask;
    }

    private ValueTask SignIn(HandleAuthorizationRequestContext context)
    {
        var identity = new ClaimsIdentity("test");
        identity.AddClaim(new Claim("sub", Person.Subject));
        if (Person.Email is { } email)
        {
            identity.AddClaim(new Claim("email", email));
        }

        if (Person.EmailVerified is { } verified)
        {
            identity.AddClaim(new Claim("email_verified", verified ? "true" : "false", ClaimValueTypes.Boolean));
        }

        foreach (string group in Person.Groups)
        {
            identity.AddClaim(new Claim("groups", group));
        }

        identity.AddClaim(new Claim("name", "Anna Muster"));
        identity.SetDestinations(_ => [OpenIddictConstants.Destinations.IdentityToken]);
        var principal = new ClaimsPrincipal(identity);
        principal.SetScopes(context.Request.GetScopes());
        context.SignIn(principal);
        return ValueTask.CompletedTask;
    }

    private ValueTask Answer(ApplyTokenResponseContext context)
    {
        if (context.Response.IdToken is { } token && Spoil is { } spoil)
        {
            JsonObject payload = PayloadOf(token);
            spoil(payload);
            context.Response.IdToken = Sign(payload.ToJsonString());
        }
        else if (context.Response.IdToken is { } original && Forge is { } forge)
        {
            context.Response.IdToken = forge(original);
        }

        return ValueTask.CompletedTask;
    }

    public static ECDsaSecurityKey NewKey() =>
        new(ECDsa.Create(ECCurve.NamedCurves.nistP256)) { KeyId = Guid.NewGuid().ToString("N") };

    public static RsaSecurityKey NewRsaKey() => new(RSA.Create(2048)) { KeyId = Guid.NewGuid().ToString("N") };

    private static SigningCredentials CredentialsOf(SecurityKey key) =>
        new(key, key is RsaSecurityKey ? SecurityAlgorithms.RsaSha256 : SecurityAlgorithms.EcdsaSha256);
}
