using System.Net;
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
