using System.Collections.Frozen;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>What the guard must answer to somebody on a route that is not open to everybody.</summary>
/// <param name="Status">401 or 403.</param>
/// <param name="Code">The problem's.</param>
internal sealed record Refusal(int Status, string Code);

/// <summary>Somebody or something that knocks at routes.</summary>
/// <param name="Name">For messages.</param>
/// <param name="Headers">What it sends.</param>
internal sealed record CallerKind(string Name, params (string Name, string Value)[] Headers)
{
    /// <summary>What it may do; null: it is refused everywhere, with <see cref="Always"/>.</summary>
    public FrozenSet<string>? May { get; init; }

    /// <summary>The refusal wherever a permission is demanded.</summary>
    public Refusal? Always { get; init; }

    /// <summary>The refusal where the permission is one that it lacks.</summary>
    public Refusal Lacking { get; init; } = new(403, "forbidden");

    /// <summary>
    /// Makes another of the same kind in an enterprise of its own, for a request that may change something: what one route does
    /// must not decide what the next one answers.
    /// </summary>
    public Func<Task<CallerKind>>? Anew { get; init; }

    /// <summary>What it must be answered on the route, or null: the guard lets it pass.</summary>
    public Refusal? Expected(Route route) =>
        route.IsAnonymous ? null
        : Always is not null ? Always
        : route.Permission is { } permission && May!.Contains(permission) ? null
        : Lacking;

    public override string ToString() => Name;
}

/// <summary>Every kind of caller there is, good and bad.</summary>
internal sealed class Callers(IServiceProvider services, Tenants tenants)
{
    private const string Unknown = "invalid_token";
    private static readonly (string, string) s_json = ("Accept", "application/json");
    private static readonly (string, string) s_sameOrigin = ("Sec-Fetch-Site", "same-origin");

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    /// <param name="foreign">The enterprise whose admin's good token the forged ones are made from.</param>
    /// <param name="permissions">Those that roles can be made of.</param>
    public async Task<IReadOnlyList<CallerKind>> AllAsync(Tenant foreign, IEnumerable<string> permissions)
    {
        var all = new List<CallerKind> { new("nobody", s_json) { Always = new(401, "unauthenticated") } };
        all.AddRange((await BadCredentialsAsync(foreign)).Select(bad => Refused(bad.Name, bad.Bearer)));
        all.Add(Refused("another scheme", null, ("Authorization", "Basic dXNlcjpwYXNz")));
        all.Add(
            Refused(
                "two authorizations",
                null,
                ("Authorization", "Bearer " + foreign.AdminToken),
                ("Authorization", "Bearer x")
            )
        );
        all.Add(
            new CallerKind("a cookie that is no session", s_json, ("Cookie", "um_session=" + new string('a', 43)))
            {
                Always = new(401, Unknown),
            }
        );
        all.Add(
            new CallerKind("an API key as a cookie", s_json, ("Cookie", "um_session=" + foreign.ApiKey[3..]))
            {
                Always = new(401, Unknown),
            }
        );
        all.AddRange(await KeysAsync());
        all.AddRange(await PeopleAsync(permissions));
        all.AddRange(await HaltedAsync());
        return all;
    }

    private async Task<List<CallerKind>> KeysAsync()
    {
        var keys = new List<CallerKind>();
        foreach (string scope in RolePermissions.Scopes.Order(StringComparer.Ordinal))
        {
            keys.Add(
                await MadeAsync(async () =>
                {
                    Tenant tenant = await tenants.CreateAsync();
                    return new CallerKind(
                        $"a key of {scope}",
                        s_json,
                        Bearer(await tenants.AddApiKeyAsync(tenant.EnterpriseId, [scope]))
                    )
                    {
                        May = FrozenSet.Create(scope, Permissions.Authenticated),
                    };
                })
            );
        }

        // A key that was given more than keys can have has what keys can have.
        Tenant greedy = await tenants.CreateAsync();
        string[] scopes =
        [
            Permissions.PeopleWrite,
            Permissions.PlatformWrite,
            Permissions.Person,
            Permissions.Anonymous,
        ];
        keys.Add(
            new CallerKind(
                "a key of a person's permissions",
                s_json,
                Bearer(await tenants.AddApiKeyAsync(greedy.EnterpriseId, scopes))
            )
            {
                May = FrozenSet.Create(Permissions.Authenticated),
            }
        );
        return keys;
    }

    private async Task<List<CallerKind>> PeopleAsync(IEnumerable<string> permissions)
    {
        var people = new List<CallerKind>();
        foreach (string role in RolePermissions.BuiltIn.Keys.Order(StringComparer.Ordinal))
        {
            FrozenSet<string> may = Fully([.. RolePermissions.BuiltIn[role]]);
            if (role == RolePermissions.Operator)
            {
                people.Add(
                    await MadeAsync(async () =>
                    {
                        Person anOperator = await OperatorAsync();
                        return new CallerKind("an operator", s_json, Bearer(await tenants.SignInAsync(anOperator)))
                        {
                            May = may,
                        };
                    })
                );
                continue;
            }

            people.Add(
                await MadeAsync(async () =>
                    new CallerKind($"{role}", s_json, Bearer((await tenants.CreateAsync(role)).AdminToken))
                    {
                        May = may,
                    }
                )
            );
        }

        people.Add(
            await MadeAsync(async () =>
            {
                Tenant tenant = await tenants.CreateAsync();
                string cookie = await tenants.SignInWithBrowserAsync(tenant.Admin);
                return new CallerKind("EnterpriseAdmin in a browser", s_json, s_sameOrigin, ("Cookie", cookie))
                {
                    May = Fully([.. RolePermissions.BuiltIn[RolePermissions.EnterpriseAdmin]]),
                };
            })
        );

        // The platform's permissions come of no tenant's row, whoever wrote it.
        people.Add(
            await MadeAsync(async () =>
                new CallerKind(
                    "a tenant's Operator",
                    s_json,
                    Bearer((await tenants.CreateAsync(RolePermissions.Operator)).AdminToken)
                )
                {
                    May = Fully([.. RolePermissions.BuiltIn[RolePermissions.Operator].Except(s_platforms)]),
                }
            )
        );
        foreach (string permission in permissions.Order(StringComparer.Ordinal))
        {
            people.Add(
                await MadeAsync(async () =>
                {
                    Tenant tenant = await tenants.CreateAsync(RolePermissions.Employee);
                    string role = await tenants.AddRoleAsync(tenant.EnterpriseId, permission);
                    Person person = await tenants.AddPersonAsync(
                        tenant.EnterpriseId,
                        tenant.DataKey,
                        tenant.Marker,
                        role
                    );
                    return new CallerKind(
                        $"a role of just {permission}",
                        s_json,
                        Bearer(await tenants.SignInAsync(person))
                    )
                    {
                        May = Fully(s_platforms.Contains(permission) ? [] : [permission]),
                    };
                })
            );
        }

        return people;
    }

    // Good credentials of people and keys that may do nothing at the moment.
    private async Task<List<CallerKind>> HaltedAsync()
    {
        Tenant suspended = await tenants.CreateAsync();
        await tenants.ChangeAsync(
            suspended.EnterpriseId,
            "UPDATE enterprises SET status = 'SUSPENDED' WHERE enterprise_id = $1"
        );
        Tenant elsewhere = await tenants.CreateAsync();
        string far = await tenants.AddApiKeyAsync(
            elsewhere.EnterpriseId,
            [.. RolePermissions.Scopes],
            "networks = '{192.0.2.0/24}'"
        );
        CallerKind settingUp = await MadeAsync(async () =>
        {
            Tenant strict = await tenants.CreateAsync();
            await tenants.ChangeAsync(
                strict.EnterpriseId,
                "UPDATE enterprises SET second_factor_required = true WHERE enterprise_id = $1"
            );
            return new CallerKind(
                "one who must set up a second factor",
                s_json,
                Bearer(await tenants.SignInAsync(strict.Admin))
            )
            {
                May = FrozenSet.Create(Permissions.Authenticated, Permissions.SettingUp),
                Lacking = new(403, "second_factor_required"),
            };
        });
        return
        [
            new("a suspended enterprise's admin", s_json, Bearer(suspended.AdminToken))
            {
                Always = new(403, "enterprise_suspended"),
            },
            new("a suspended enterprise's key", s_json, Bearer(suspended.ApiKey))
            {
                Always = new(403, "enterprise_suspended"),
            },
            new("a key from elsewhere", s_json, Bearer(far)) { Always = new(403, "address_not_allowed") },
            settingUp,
        ];
    }

    /// <summary>Bearers that are nobody's, each with the reason.</summary>
    public async Task<IReadOnlyList<(string Name, string Bearer)>> BadCredentialsAsync(Tenant foreign)
    {
        SigningKeys keys = services.GetRequiredService<SigningKeys>();
        ECDsaSecurityKey key = await keys.SigningKeyAsync(CancellationToken);
        string good = foreign.AdminToken;
        string[] parts = good.Split('.');
        var bad = new List<(string, string)>
        {
            ("garbage", "garbage"),
            ("dots", "a.b.c"),
            ("nothing after Bearer", ""),
            ("a long bearer", new string('x', 5_000)),
            ("a bearer that is not ASCII", "um_é" + new string('é', 42)),
            ("an unknown key", ApiKeyFormat.Generate()),
            ("no signature", parts[0] + "." + parts[1] + "."),
            ("two parts", parts[0] + "." + parts[1]),
            ("a tampered signature", parts[0] + "." + parts[1] + "." + Tampered(parts[2])),
            (
                "a tampered payload",
                parts[0]
                    + "."
                    + Replaced(parts[1], "\"ent\":\"", "\"ent\":\"00000000-0000-0000-0000-000000000000\",\"x\":\"")
                    + "."
                    + parts[2]
            ),
        };

        // Expired: issued by the real key, long ago.
        var past = new FakeTimeProvider(DateTimeOffset.UtcNow.AddMinutes(-20));
        IssuedTokens live = await tenants.BeginAsync(foreign.Admin);
        Guid session = Guid.Parse(new JsonWebToken(live.AccessToken).GetPayloadValue<string>("sid"));
        bad.Add(
            (
                "an expired token",
                await new AccessTokens(keys, past).IssueAsync(foreign.Admin, session, CancellationToken)
            )
        );
        bad.Add(
            (
                "a token of no session",
                await new AccessTokens(keys, TimeProvider.System).IssueAsync(
                    foreign.Admin,
                    Guid.NewGuid(),
                    CancellationToken
                )
            )
        );
        Person somebodyElse = foreign.Admin with { UserId = Guid.NewGuid() };
        bad.Add(
            (
                "a token of another's session",
                await new AccessTokens(keys, TimeProvider.System).IssueAsync(somebodyElse, session, CancellationToken)
            )
        );
        Person ofAnother = foreign.Admin with { EnterpriseId = Guid.NewGuid() };
        bad.Add(
            (
                "a token of another enterprise's session",
                await new AccessTokens(keys, TimeProvider.System).IssueAsync(ofAnother, session, CancellationToken)
            )
        );
        bad.Add(("a refresh token", live.RefreshToken));

        foreach (string none in new[] { "none", "None", "NONE", "nOnE" })
        {
            string header = Part($$"""{"alg":"{{none}}","typ":"at+jwt","kid":"{{key.KeyId}}"}""");
            bad.Add(($"alg {none}", $"{header}.{parts[1]}."));
            bad.Add(($"alg {none} with a signature", $"{header}.{parts[1]}.{parts[2]}"));
        }

        ECParameters open = key.ECDsa.ExportParameters(includePrivateParameters: false);
        byte[][] publicKeys =
        [
            key.ECDsa.ExportSubjectPublicKeyInfo(),
            Encoding.ASCII.GetBytes(key.ECDsa.ExportSubjectPublicKeyInfoPem()),
            [.. open.Q.X!, .. open.Q.Y!],
        ];
        string symmetric = Part($$"""{"alg":"HS256","typ":"at+jwt","kid":"{{key.KeyId}}"}""") + "." + parts[1];
        bad.AddRange(
            publicKeys.Select(
                (secret, at) =>
                    (
                        $"HS256 with the public key, form {at}",
                        symmetric + "." + Part(HMACSHA256.HashData(secret, Encoding.ASCII.GetBytes(symmetric)))
                    )
            )
        );

        using var mine = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        ECParameters own = mine.ExportParameters(includePrivateParameters: false);
        string jwk = $$"""{"kty":"EC","crv":"P-256","x":"{{Part(own.Q.X!)}}","y":"{{Part(own.Q.Y!)}}"}""";
        bad.Add(
            (
                "signed by a stranger under our key's id",
                Signed(mine, $$"""{"alg":"ES256","typ":"at+jwt","kid":"{{key.KeyId}}"}""", parts[1])
            )
        );
        bad.Add(("an unknown kid", Signed(mine, """{"alg":"ES256","typ":"at+jwt","kid":"nobody's"}""", parts[1])));
        bad.Add(
            (
                "a kid of a file",
                Signed(mine, """{"alg":"ES256","typ":"at+jwt","kid":"../../../../dev/null"}""", parts[1])
            )
        );
        bad.Add(("no kid", Signed(mine, """{"alg":"ES256","typ":"at+jwt"}""", parts[1])));
        bad.Add(
            (
                "a key of its own in the header",
                Signed(mine, $$"""{"alg":"ES256","typ":"at+jwt","jwk":{{jwk}}}""", parts[1])
            )
        );
        bad.Add(
            (
                "a key at an address of its own",
                Signed(mine, """{"alg":"ES256","typ":"at+jwt","kid":"1","jku":"http://127.0.0.1:1/jwks"}""", parts[1])
            )
        );
        bad.Add(
            ("another typ", Signed(key.ECDsa, $$"""{"alg":"ES256","typ":"JWT","kid":"{{key.KeyId}}"}""", parts[1]))
        );
        bad.Add(("no typ", Signed(key.ECDsa, $$"""{"alg":"ES256","kid":"{{key.KeyId}}"}""", parts[1])));
        bad.Add(
            (
                "another audience",
                Signed(
                    key.ECDsa,
                    $$"""{"alg":"ES256","typ":"at+jwt","kid":"{{key.KeyId}}"}""",
                    Replaced(parts[1], "\"aud\":\"usage-monitor\"", "\"aud\":\"another\"")
                )
            )
        );
        bad.Add(
            (
                "another issuer",
                Signed(
                    key.ECDsa,
                    $$"""{"alg":"ES256","typ":"at+jwt","kid":"{{key.KeyId}}"}""",
                    Replaced(parts[1], "\"iss\":\"usage-monitor\"", "\"iss\":\"another\"")
                )
            )
        );
        bad.Add(
            (
                "no expiry",
                Signed(
                    key.ECDsa,
                    $$"""{"alg":"ES256","typ":"at+jwt","kid":"{{key.KeyId}}"}""",
                    Replaced(parts[1], "\"exp\":", "\"exp2\":")
                )
            )
        );

        // The proof that the forging above is done right: the same hands make a good one.
        string remade = Signed(key.ECDsa, $$"""{"alg":"ES256","typ":"at+jwt","kid":"{{key.KeyId}}"}""", parts[1]);
        Assert.NotNull(await services.GetRequiredService<AccessTokens>().ValidateAsync(remade, CancellationToken));

        IssuedTokens ended = await tenants.BeginAsync(foreign.Admin);
        await services.GetRequiredService<Sessions>().EndAsync(ended.RefreshToken, CancellationToken);
        bad.Add(("a revoked session's token", ended.AccessToken));
        Person left = await tenants.AddPersonAsync(
            foreign.EnterpriseId,
            foreign.DataKey,
            foreign.Marker,
            RolePermissions.EnterpriseAdmin
        );
        bad.Add(("a deactivated person's token", await tenants.SignInAsync(left)));
        await tenants.ExecuteAsync(
            foreign.EnterpriseId,
            "UPDATE users SET deactivated_at = now() WHERE enterprise_id = $1 AND user_id = $2",
            left.UserId
        );
        Person over = await tenants.AddPersonAsync(
            foreign.EnterpriseId,
            foreign.DataKey,
            foreign.Marker,
            RolePermissions.EnterpriseAdmin
        );
        bad.Add(("an expired session's token", await tenants.SignInAsync(over)));
        await tenants.ExecuteAsync(
            foreign.EnterpriseId,
            "UPDATE sessions SET expires_at = now() - interval '1 minute' WHERE enterprise_id = $1 AND user_id = $2",
            over.UserId
        );
        string[] scopes = [.. RolePermissions.Scopes];
        bad.Add(("a revoked key", await tenants.AddApiKeyAsync(foreign.EnterpriseId, scopes, "revoked_at = now()")));
        bad.Add(
            (
                "an expired key",
                await tenants.AddApiKeyAsync(foreign.EnterpriseId, scopes, "expires_at = now() - interval '1 second'")
            )
        );
        string cookie = await tenants.SignInWithBrowserAsync(foreign.Admin);
        bad.Add(("a browser's cookie as a token", cookie.Split('=', 2)[1]));
        return bad;
    }

    private static readonly string[] s_platforms = [Permissions.EnterprisesWrite, Permissions.PlatformWrite];

    private async Task<Person> OperatorAsync()
    {
        EnterpriseInfo platform = (
            await services.GetRequiredService<EnterpriseDirectory>().FindAsync(Guid.Empty, CancellationToken)
        )!;
        return await tenants.AddPersonAsync(Guid.Empty, platform.DataKey, "operator", RolePermissions.Operator);
    }

    private static async Task<CallerKind> MadeAsync(Func<Task<CallerKind>> make) => await make() with { Anew = make };

    private static CallerKind Refused(string name, string? bearer, params (string, string)[] headers) =>
        new(name, [s_json, .. bearer is null ? headers : [Bearer(bearer)]]) { Always = new(401, Unknown) };

    private static (string, string) Bearer(string credential) => ("Authorization", "Bearer " + credential);

    private static FrozenSet<string> Fully(string[] permissions) =>
        FrozenSet.Create([.. permissions, Permissions.Authenticated, Permissions.SettingUp, Permissions.Person]);

    private static string Part(string json) => Part(Encoding.UTF8.GetBytes(json));

    private static string Part(byte[] bytes) => Base64UrlEncoder.Encode(bytes);

    private static string Replaced(string part, string from, string to)
    {
        string json = Base64UrlEncoder.Decode(part);
        Assert.Contains(from, json, StringComparison.Ordinal);
        return Part(json.Replace(from, to, StringComparison.Ordinal));
    }

    private static string Tampered(string signature)
    {
        byte[] bytes = Base64UrlEncoder.DecodeBytes(signature);
        bytes[^1] ^= 1;
        return Part(bytes);
    }

    private static string Signed(ECDsa key, string header, string payload)
    {
        string signed = Part(header) + "." + payload;
        return signed + "." + Part(key.SignData(Encoding.ASCII.GetBytes(signed), HashAlgorithmName.SHA256));
    }
}
