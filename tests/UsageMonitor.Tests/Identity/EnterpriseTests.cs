using System.Net;
using System.Net.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class EnterpriseTests(IdentityFixture fixture, Engines engines) : IClassFixture<IdentityFixture>
{
    private const string Path = "/v1/platform/enterprises";

    private IdentityHost Host => fixture.Host;

    [Fact]
    public async Task Create_WhenNoPasswordIsGiven_ShouldMakeOneUpThatSignsIn()
    {
        string token = (await Host.LoginOperatorAsync()).AccessToken;
        var request = new CreateEnterpriseRequest("Temporary Ltd", "Asia/Kolkata", "temporary@example.com");

        using HttpResponseMessage response = await Host.PostAsync(Path, request, token);
        var created = await IdentityHost.ReadAsync<CreateEnterpriseResponse>(response, HttpStatusCode.Created);
        LoginResponse admin = await Host.LoginAsync(created.Admin.Email, created.Admin.TemporaryPassword!);

        Assert.Equal(created.EnterpriseId, admin.User.EnterpriseId);
        Assert.Equal($"{Path}/{created.EnterpriseId}", response.Headers.Location!.ToString());
        EnterpriseInfo? info = await Host
            .Services.GetRequiredService<EnterpriseDirectory>()
            .FindAsync(created.EnterpriseId, TestContext.Current.CancellationToken);
        Assert.Equal("Asia/Kolkata", info!.TimeZone.Id);
        Assert.InRange(info.LogPartition, 0, Engines.LogPartitions - 1);
        Assert.Equal(32, info.DataKey.Length);

        using HttpResponseMessage list = await Host.SendAsync(HttpMethod.Get, Path, token);
        EnterpriseSummary[] listed = await IdentityHost.ReadAsync<EnterpriseSummary[]>(list, HttpStatusCode.OK);
        Assert.Contains(listed, e => e.EnterpriseId == created.EnterpriseId && e.Name == "Temporary Ltd");
        Assert.DoesNotContain(listed, e => e.EnterpriseId == Guid.Empty);
    }

    [Theory]
    [InlineData("", "Etc/UTC", "a@example.com", null, "name")]
    [InlineData("Name", "Mars/Olympus", "a@example.com", null, "timeZone")]
    [InlineData("Name", "India Standard Time", "a@example.com", null, "timeZone")]
    [InlineData("Name", "../../etc/passwd", "a@example.com", null, "timeZone")]
    [InlineData("Name", null, "a@example.com", null, "timeZone")]
    [InlineData("Name", "Etc/UTC", "nobody", null, "adminEmail")]
    [InlineData("Name", "Etc/UTC", "a@b@example.com", null, "adminEmail")]
    [InlineData("Name", "Etc/UTC", "a@example.com", "too short", "adminPassword")]
    public async Task Create_WhenAFieldIsWrong_ShouldNameIt(
        string? name,
        string? timeZone,
        string? email,
        string? password,
        string field
    )
    {
        string token = (await Host.LoginOperatorAsync()).AccessToken;
        var request = new CreateEnterpriseRequest(name, timeZone, email, password);

        using HttpResponseMessage response = await Host.PostAsync(Path, request, token);

        string detail = await IdentityHost.AssertProblemAsync(response, 400, "invalid_request");
        Assert.StartsWith(field, detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Create_WhenTheAddressSignsInElsewhere_ShouldBeA409AndLeaveNothing()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        string token = (await Host.LoginOperatorAsync()).AccessToken;
        string name = Guid.NewGuid().ToString();

        using HttpResponseMessage response = await Host.PostAsync(
            Path,
            new CreateEnterpriseRequest(name, "Etc/UTC", admin.User.Email.ToUpperInvariant()),
            token
        );

        await IdentityHost.AssertProblemAsync(response, 409, "email_taken");
        using HttpResponseMessage list = await Host.SendAsync(HttpMethod.Get, Path, token);
        EnterpriseSummary[] listed = await IdentityHost.ReadAsync<EnterpriseSummary[]>(list, HttpStatusCode.OK);
        Assert.DoesNotContain(listed, e => e.Name == name);
    }

    [Fact]
    public async Task Create_WhenTheCallerIsNotTheOperator_ShouldBeRefused()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        CreateApiKeyResponse key = await Host.CreateApiKeyAsync(admin, Permissions.UsageRead, Permissions.UsageWrite);

        foreach (string bearer in new[] { admin.AccessToken, key.ApiKey })
        {
            using HttpResponseMessage response = await Host.PostAsync(
                Path,
                new CreateEnterpriseRequest("Name", "Etc/UTC", "a@example.com"),
                bearer
            );
            string detail = await IdentityHost.AssertProblemAsync(response, 403, "forbidden");
            Assert.Contains(Permissions.EnterprisesWrite, detail, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Update_WhenSuspended_ShouldRefuseEveryCredentialUntilResumed()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        CreateApiKeyResponse key = await Host.CreateApiKeyAsync(admin, Permissions.UsageRead);
        var login = new LoginRequest(admin.User.Email, IdentityHost.AdminPassword);

        Assert.Equal("SUSPENDED", (await UpdateAsync("Example Ltd", "SUSPENDED")).Status);

        foreach (string bearer in new[] { admin.AccessToken, key.ApiKey })
        {
            using HttpResponseMessage used = await Host.SendAsync(HttpMethod.Get, "/v1/usage", bearer);
            await IdentityHost.AssertProblemAsync(used, 403, "enterprise_suspended");
        }

        using HttpResponseMessage refused = await Host.PostAsync("/v1/auth/login", login, null);
        await IdentityHost.AssertProblemAsync(refused, 403, "enterprise_suspended");
        EnterpriseSummary resumed = await UpdateAsync("Example and Sons", "ACTIVE");
        Assert.Equal(("Example and Sons", "Asia/Kolkata"), (resumed.Name, resumed.TimeZone));
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/usage", admin.AccessToken));
        Assert.Equal(HttpStatusCode.OK, await Host.StatusAsync(HttpMethod.Get, "/v1/usage", key.ApiKey));

        async Task<EnterpriseSummary> UpdateAsync(string name, string status)
        {
            using HttpResponseMessage response = await PutAsync(admin.User.EnterpriseId!.Value, name, status);
            return await IdentityHost.ReadAsync<EnterpriseSummary>(response, HttpStatusCode.OK);
        }
    }

    [Fact]
    public async Task Update_WhenItIsWrongOrThePlatformItself_ShouldBeRefused()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        Guid enterpriseId = admin.User.EnterpriseId!.Value;
        (Guid Id, string Name, string Status, int Expected, string Code)[] wrong =
        [
            (enterpriseId, "", "ACTIVE", 400, "invalid_request"),
            (enterpriseId, "a\nb", "ACTIVE", 400, "invalid_request"),
            (enterpriseId, "Name", "DELETED", 400, "invalid_request"),
            (Guid.NewGuid(), "Name", "ACTIVE", 404, "not_found"),
            (Guid.Empty, "Name", "SUSPENDED", 404, "not_found"),
        ];

        foreach ((Guid id, string name, string status, int expected, string code) in wrong)
        {
            using HttpResponseMessage response = await PutAsync(id, name, status);
            await IdentityHost.AssertProblemAsync(response, expected, code);
        }
    }

    [Fact]
    public async Task List_WhenReadPageByPage_ShouldFollowTheLinks()
    {
        for (int i = 0; i < 3; i++)
        {
            await Host.CreateEnterpriseAsync();
        }

        string token = (await Host.LoginOperatorAsync()).AccessToken;
        var listed = new List<EnterpriseSummary>();
        string? next = Path + "?limit=2";
        while (next is not null)
        {
            using HttpResponseMessage page = await Host.SendAsync(HttpMethod.Get, next, token);
            listed.AddRange(await IdentityHost.ReadAsync<EnterpriseSummary[]>(page, HttpStatusCode.OK));
            next = page.Headers.TryGetValues("Link", out IEnumerable<string>? links)
                ? links.Single().Split('<', '>')[1]
                : null;
        }

        using HttpResponseMessage whole = await Host.SendAsync(HttpMethod.Get, Path, token);
        EnterpriseSummary[] all = await IdentityHost.ReadAsync<EnterpriseSummary[]>(whole, HttpStatusCode.OK);
        Assert.True(all.Length >= 3);
        Assert.Equal(all.Select(one => one.EnterpriseId), listed.Select(one => one.EnterpriseId));
    }

    private async Task<HttpResponseMessage> PutAsync(Guid enterpriseId, string name, string status) =>
        await Host.SendAsync(
            HttpMethod.Put,
            $"{Path}/{enterpriseId}",
            (await Host.LoginOperatorAsync()).AccessToken,
            JsonContent.Create(new UpdateEnterpriseRequest(name, status))
        );

    [Fact]
    public async Task EnsureAsync_WhenSeveralInstancesStartAtOnce_ShouldMakeOneOperator()
    {
        await using TestDatabase database = await engines.CloneAsync();

        IdentityHost[] hosts = await Task.WhenAll(
            Enumerable.Range(0, 3).Select(_ => IdentityHost.StartAsync(database))
        );

        LoginResponse[] logins = await Task.WhenAll(hosts.Select(host => host.LoginOperatorAsync()));
        Assert.Single(logins.Select(login => login.User.UserId).Distinct());
        Assert.Null(logins[0].User.EnterpriseId);
        Assert.Equal([RolePermissions.Operator], logins[0].User.Roles);

        // One signing key as well: each believes the others' tokens.
        foreach (IdentityHost host in hosts)
        {
            foreach (LoginResponse login in logins)
            {
                Assert.Equal(
                    HttpStatusCode.OK,
                    await host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", login.AccessToken)
                );
            }

            await host.DisposeAsync();
        }
    }
}
