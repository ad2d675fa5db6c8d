using System.Net;
using System.Net.Http.Json;
using System.Text;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary><c>/v1/admin/identity-providers</c>.</summary>
public sealed class IdentityProviderTests(SingleSignOnFixture fixture) : IClassFixture<SingleSignOnFixture>
{
    private readonly OpenIdProvider _provider = fixture.Provider.Reset();

    [Fact]
    public async Task Create_WhenGivenASecret_ShouldNeverAnswerItAndKeepItSealed()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        string one = "/" + enterprise.ProviderId;

        foreach (string path in new[] { "", one })
        {
            using HttpResponseMessage response = await enterprise.SendAsync(HttpMethod.Get, path, null);
            string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
            Assert.Contains("\"hasClientSecret\":true", body, StringComparison.Ordinal);
            Assert.DoesNotContain("not/only", body, StringComparison.Ordinal);
        }

        const string Secret = "SELECT client_secret FROM identity_providers WHERE enterprise_id = $1";
        byte[] kept = (byte[])(await enterprise.SqlAsync(Secret))!;
        Assert.Equal(Sealing.OverheadBytes + OpenIdProvider.ClientSecret.Length, kept.Length);
        Assert.Equal(-1, kept.AsSpan().IndexOf(Encoding.UTF8.GetBytes("secret")));
    }

    [Fact]
    public async Task Update_WhenTheIssuerChanges_ShouldNotTakeTheSecretAlong()
    {
        SignOnEnterprise enterprise = await CreateAsync();
        IdentityProviderRequest kept = enterprise.Request() with { ClientSecret = null };
        await using OpenIdProvider other = await OpenIdProvider.StartAsync();
        string one = "/" + enterprise.ProviderId;

        using HttpResponseMessage moved = await enterprise.SendAsync(
            HttpMethod.Put,
            one,
            kept with
            {
                Issuer = other.Issuer,
            }
        );
        await RunningServer.AssertProblemAsync(moved, 400, "client_secret_needed");
        using HttpResponseMessage renamed = await enterprise.SendAsync(
            HttpMethod.Put,
            one,
            kept with
            {
                ClientId = "x",
            }
        );
        await RunningServer.AssertProblemAsync(renamed, 400, "client_secret_needed");

        Assert.True((await enterprise.UpdateAsync(kept with { Name = "Another name" })).HasClientSecret);
        Assert.False(
            (await enterprise.UpdateAsync(kept with { ClientSecret = "", Issuer = other.Issuer })).HasClientSecret
        );
    }

    [Theory]
    [InlineData("EnterpriseAdmin", 200, null)]
    [InlineData("Operator", 400, "unknown_role")]
    [InlineData("Nobody", 400, "unknown_role")]
    [InlineData("Sender", 403, "role_beyond_yours")]
    public async Task Update_WhenARoleIsMapped_ShouldTakeOnlyWhatTheAdminMayDo(string role, int status, string? code)
    {
        SignOnEnterprise enterprise = await CreateAsync();
        await enterprise.AddRoleAsync("Sender", Permissions.UsageRead, Permissions.ProvisioningWrite);
        IdentityProviderRequest request = enterprise.Request() with { ClientSecret = null };
        IdentityProviderRequest[] ways =
        [
            request with
            {
                RoleMapping = [new("group", role)],
            },
            request with
            {
                DefaultRoles = [role],
            },
        ];
        foreach (IdentityProviderRequest way in ways)
        {
            using HttpResponseMessage response = await enterprise.SendAsync(
                HttpMethod.Put,
                "/" + enterprise.ProviderId,
                way
            );
            if (code is not null)
            {
                await RunningServer.AssertProblemAsync(response, status, code);
            }
            else
            {
                Assert.Equal(status, (int)response.StatusCode);
            }
        }
    }

    [Fact]
    public async Task Write_WhenTheCallerMayDoLessThanAnAdmin_ShouldBeRefused()
    {
        // Whoever names the provider names who is let in as an EnterpriseAdmin: settings:write alone would be a way up.
        SignOnEnterprise enterprise = await CreateAsync();
        await enterprise.AddRoleAsync("Settler", Permissions.SettingsRead, Permissions.SettingsWrite);
        string settler = await TokenAsync(enterprise, "settler", "Settler");
        string auditor = await TokenAsync(enterprise, "auditor", "Auditor");
        string one = $"{SignOnEnterprise.Path}/{enterprise.ProviderId}";

        foreach (string token in new[] { settler, auditor })
        {
            await AssertAsync(HttpMethod.Get, one, token, null, HttpStatusCode.OK);
            await AssertAsync(HttpMethod.Put, one, token, enterprise.Request(), HttpStatusCode.Forbidden);
            await AssertAsync(HttpMethod.Delete, one, token, null, HttpStatusCode.Forbidden);
            await AssertAsync(
                HttpMethod.Post,
                SignOnEnterprise.Path,
                token,
                enterprise.Request(),
                HttpStatusCode.Forbidden
            );
        }
    }

    [Fact]
    public async Task Any_WhenTheProviderIsAnotherEnterprises_ShouldNotBeFound()
    {
        SignOnEnterprise own = await CreateAsync();
        SignOnEnterprise other = await CreateAsync();
        string token = own.Acme.Admin.AccessToken;
        string theirs = $"{SignOnEnterprise.Path}/{other.ProviderId}";

        await AssertAsync(HttpMethod.Get, theirs, token, null, HttpStatusCode.NotFound);
        await AssertAsync(HttpMethod.Put, theirs, token, own.Request(), HttpStatusCode.NotFound);
        await AssertAsync(HttpMethod.Delete, theirs, token, null, HttpStatusCode.NotFound);
        await AssertAsync(HttpMethod.Post, theirs + "/test", token, null, HttpStatusCode.NotFound);
        await AssertAsync(HttpMethod.Get, theirs, other.Acme.Admin.AccessToken, null, HttpStatusCode.OK);
        string anOperator = (await fixture.Server.LoginOperatorAsync()).AccessToken;
        await AssertAsync(HttpMethod.Post, SignOnEnterprise.Path, anOperator, own.Request(), HttpStatusCode.Forbidden);
    }

    [Fact]
    public async Task Create_WhenADomainIsClaimed_ShouldRefuseWithoutSayingByWhom()
    {
        SignOnEnterprise own = await CreateAsync();
        SignOnEnterprise other = await CreateAsync();
        foreach (string domain in new[] { other.Domain, other.Domain.ToUpperInvariant(), own.Domain })
        {
            using HttpResponseMessage response = await own.SendAsync(
                HttpMethod.Post,
                "",
                own.Request() with
                {
                    Domains = [domain],
                }
            );
            string detail = await RunningServer.AssertProblemAsync(response, 409, "domain_not_available");
            Assert.DoesNotContain(other.Domain, detail, StringComparison.OrdinalIgnoreCase);
        }

        // What was refused has left nothing behind, and a domain that is given up is free.
        IdentityProviderResponse freed = await other.UpdateAsync(
            other.Request() with
            {
                ClientSecret = null,
                Domains = ["other-" + other.Domain],
            }
        );
        Assert.Equal(["other-" + other.Domain], freed.Domains);
        using HttpResponseMessage claimed = await own.SendAsync(
            HttpMethod.Post,
            "",
            own.Request() with
            {
                Domains = [other.Domain],
            }
        );
        Assert.Equal(HttpStatusCode.Created, claimed.StatusCode);
    }

    [Fact]
    public async Task Create_WhenManyAreMadeAtOnce_ShouldKeepToTheMost()
    {
        SignOnEnterprise enterprise = await CreateAsync();

        HttpResponseMessage[] responses = await Task.WhenAll(
            Enumerable
                .Range(0, 8)
                .Select(i =>
                    enterprise.SendAsync(
                        HttpMethod.Post,
                        "",
                        enterprise.Request() with
                        {
                            Domains = [$"n{i}.{enterprise.Domain}"],
                        }
                    )
                )
        );

        Assert.Equal(
            IdentityProviderRules.ProvidersPerEnterpriseMax - 1,
            responses.Count(response => response.StatusCode == HttpStatusCode.Created)
        );
        foreach (HttpResponseMessage refused in responses.Where(r => r.StatusCode != HttpStatusCode.Created))
        {
            await RunningServer.AssertProblemAsync(refused, 409, "too_many_identity_providers");
        }
    }

    public static TheoryData<string, IdentityProviderRequest> Wrong
    {
        get
        {
            var good = new IdentityProviderRequest("A name", "https://login.example", "client", "", ["acme.example"]);
            return new()
            {
                { "name", good with { Name = " " } },
                { "issuer", good with { Issuer = "login.example" } },
                { "issuer", good with { Issuer = "https://login.example/?tenant=1" } },
                { "issuer", good with { Issuer = "https://login.example/#here" } },
                { "issuer", good with { Issuer = "https://me@login.example/" } },
                { "issuer", good with { Issuer = "file:///etc/passwd" } },
                { "issuer", good with { Issuer = "https://" + new string('a', 600) } },
                { "clientId", good with { ClientId = null } },
                { "clientSecret", good with { ClientSecret = new string('s', 1_001) } },
                { "domains", good with { Domains = [] } },
                { "domains", good with { Domains = ["localhost"] } },
                { "domains", good with { Domains = ["a@b.example"] } },
                { "domains", good with { Domains = ["*.example.com"] } },
                { "domains", good with { Domains = ["Gmail.com"] } },
                { "domains", good with { Domains = [.. Enumerable.Range(0, 21).Select(i => $"d{i}.example")] } },
                { "scopes", good with { Scopes = ["email"] } },
                { "scopes", good with { Scopes = ["openid", "two words"] } },
                { "claims", good with { RolesClaim = new string('c', 101) } },
                { "roleMapping", good with { RoleMapping = [new("value", null)] } },
                {
                    "roleMapping",
                    good with
                    {
                        RoleMapping = [.. Enumerable.Repeat(new RoleMapping("v", "Analyst"), 101)],
                    }
                },
                { "defaultRoles", good with { DefaultRoles = [""] } },
                { "status", good with { Status = "ON" } },
            };
        }
    }

    [Theory]
    [MemberData(nameof(Wrong), DisableDiscoveryEnumeration = true)]
    public async Task Create_WhenSomethingIsWrong_ShouldSayWhat(string what, IdentityProviderRequest request)
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            HttpMethod.Post,
            SignOnEnterprise.Path,
            (await AcmeAsync()).Admin.AccessToken,
            JsonContent.Create(request)
        );

        string detail = await RunningServer.AssertProblemAsync(response, 400, "invalid_request");
        Assert.Contains(what, detail, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Test_WhenTheProviderIsAsItMustBe_ShouldFindNothing()
    {
        SignOnEnterprise enterprise = await CreateAsync();

        IdentityProviderTestResponse test = await TestAsync(enterprise);

        Assert.True(test.Ok, string.Join(' ', test.Findings));
        Assert.Contains(test.Findings, finding => finding is { Code: "keys", Ok: true });
        Assert.Contains(test.Findings, finding => finding is { Code: "pkce", Ok: true });
    }

    [Fact]
    public async Task Test_WhenTheProviderCallsItselfOtherwise_ShouldSayHow()
    {
        SignOnEnterprise enterprise = await CreateAsync(r => r with { Issuer = r.Issuer!.TrimEnd('/') });

        IdentityProviderTestResponse test = await TestAsync(enterprise);

        Assert.False(test.Ok);
        Assert.Contains($"calls itself '{_provider.Issuer}'", test.Findings.Single().Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Test_WhenTheProviderIsAway_ShouldSaySo()
    {
        await using OpenIdProvider provider = await OpenIdProvider.StartAsync();
        SignOnEnterprise enterprise = await SignOnEnterprise.CreateAsync(fixture.Server, provider);
        await provider.StopAsync();

        IdentityProviderTestResponse test = await TestAsync(enterprise);

        Assert.False(test.Ok);
        Assert.Contains("cannot be reached", test.Findings.Single().Detail, StringComparison.Ordinal);
    }

    private static async Task<IdentityProviderTestResponse> TestAsync(SignOnEnterprise enterprise)
    {
        using HttpResponseMessage response = await enterprise.SendAsync(
            HttpMethod.Post,
            $"/{enterprise.ProviderId}/test",
            null
        );
        return await RunningServer.ReadAsync<IdentityProviderTestResponse>(response, HttpStatusCode.OK);
    }

    private Task<Acme>? _acme;

    private Task<Acme> AcmeAsync() => _acme ??= Acme.CreateAsync(fixture.Server);

    private Task<SignOnEnterprise> CreateAsync(Func<IdentityProviderRequest, IdentityProviderRequest>? with = null) =>
        SignOnEnterprise.CreateAsync(fixture.Server, _provider, with);

    private async Task<string> TokenAsync(SignOnEnterprise enterprise, string name, string role)
    {
        await enterprise.AddPersonAsync(enterprise.Address(name), Acme.AdminPassword, role);
        return (await fixture.Server.LoginAsync(enterprise.Address(name), Acme.AdminPassword)).AccessToken;
    }

    private async Task AssertAsync(
        HttpMethod method,
        string path,
        string token,
        IdentityProviderRequest? body,
        HttpStatusCode expected
    )
    {
        using HttpResponseMessage response = await fixture.Server.SendAsync(
            method,
            path,
            token,
            body is null ? null : JsonContent.Create(body)
        );
        Assert.True(response.StatusCode == expected, $"{method} {path}: {response.StatusCode}");
    }
}
