using Microsoft.AspNetCore.Identity;
using Microsoft.Extensions.Options;
using Npgsql;
using UsageMonitor.Contracts;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class PasswordSignInTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    [Fact]
    public async Task Login_WhenTheHashIsOfFewerRounds_ShouldReplaceIt()
    {
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        var cheap = new PasswordHasher<object>(Options.Create(new PasswordHasherOptions { IterationCount = 1_000 }));
        string outdated = cheap.HashPassword(new object(), IdentityHost.AdminPassword);
        await ExecuteAsync("UPDATE users SET password_hash = $2 WHERE user_id = $1", admin.User.UserId, outdated);

        using HttpResponseMessage wrong = await fixture.Host.PostAsync(
            "/v1/auth/login",
            new LoginRequest(admin.User.Email, "not the password"),
            null
        );
        await IdentityHost.AssertProblemAsync(wrong, 401, "invalid_credentials");
        Assert.Equal(outdated, await HashAsync(admin));
        await fixture.Host.LoginAsync(admin.User.Email, IdentityHost.AdminPassword);
        string replaced = await HashAsync(admin);
        await fixture.Host.LoginAsync(admin.User.Email, IdentityHost.AdminPassword);

        Assert.NotEqual(outdated, replaced);
        Assert.Equal(replaced, await HashAsync(admin));
    }

    private async Task<string> HashAsync(LoginResponse person) =>
        (string)(await ExecuteAsync("SELECT password_hash FROM users WHERE user_id = $1", person.User.UserId))!;

    private async Task<object?> ExecuteAsync(string sql, params object[] parameters)
    {
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using NpgsqlCommand command = owner.CreateCommand(sql);
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        return await command.ExecuteScalarAsync(TestContext.Current.CancellationToken);
    }
}
