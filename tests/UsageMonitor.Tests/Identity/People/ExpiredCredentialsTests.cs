using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.People;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.People;

public sealed class ExpiredCredentialsTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public async Task ClearAsync_WhenThingsAreOver_ShouldDeleteThoseAndKeepTheRest()
    {
        LoginResponse a = await fixture.Host.CreateEnterpriseAsync();
        LoginResponse b = await fixture.Host.CreateEnterpriseAsync();
        foreach (LoginResponse one in new[] { a, b })
        {
            await ExecuteAsync(
                """
                INSERT INTO sessions (enterprise_id, session_id, user_id, created_at, expires_at, revoked_at)
                SELECT $1, gen_random_uuid(), $2, now() - interval '90 days', now() + x, now() + y
                FROM (VALUES (interval '-31 days', NULL), (interval '-29 days', NULL),
                             (interval '1 day', interval '-31 days'), (interval '1 day', interval '-29 days')) v (x, y)
                """,
                one.User.EnterpriseId!.Value,
                one.User.UserId
            );
            await ExecuteAsync(
                """
                WITH mine AS (SELECT enterprise_id, session_id, revoked_at FROM sessions
                              WHERE enterprise_id = $1 AND expires_at > now() ORDER BY revoked_at NULLS FIRST)
                INSERT INTO refresh_tokens (enterprise_id, token_hash, session_id, issued_at, expires_at, used_at)
                SELECT enterprise_id, sha256(gen_random_uuid()::text::bytea), session_id, now(), now() - interval '1 minute', used
                FROM mine, (VALUES (now()), (NULL)) v (used)
                """,
                one.User.EnterpriseId!.Value
            );
            await ExecuteAsync(
                """
                INSERT INTO account_links
                SELECT $1, sha256(gen_random_uuid()::text::bytea), $2, 'INVITATION', now(), now() + x
                FROM unnest(ARRAY[interval '-8 days', interval '-6 days', interval '1 day']) x
                """,
                one.User.EnterpriseId!.Value,
                one.User.UserId
            );
            await ExecuteAsync(
                """
                INSERT INTO mail_outbox (enterprise_id, mail_id, created_at, sent_at)
                SELECT $1, gen_random_uuid(), now() + x, now() + x FROM unnest(ARRAY[interval '-31 days', interval '-29 days']) x
                """,
                one.User.EnterpriseId!.Value
            );
        }

        // More than one batch of them.
        await ExecuteAsync(
            """
            INSERT INTO account_links
            SELECT $1, sha256(i::text::bytea), $2, 'PASSWORD_RESET', now(), now() - interval '9 days' FROM generate_series(1, 2500) i
            """,
            a.User.EnterpriseId!.Value,
            a.User.UserId
        );

        await Clearing().ClearAsync(Stop);

        foreach (LoginResponse one in new[] { a, b })
        {
            Guid enterpriseId = one.User.EnterpriseId!.Value;
            // The admin's own sign-in, one that expired and one that was ended not long ago.
            Assert.Equal(3L, await CountAsync("sessions WHERE enterprise_id = $1", enterpriseId));
            // The admin's good one; of the expired ones the used one of the session that lives, whose second use must be seen.
            Assert.Equal(2L, await CountAsync("refresh_tokens WHERE enterprise_id = $1", enterpriseId));
            Assert.Equal(
                1L,
                await CountAsync("refresh_tokens WHERE enterprise_id = $1 AND used_at IS NOT NULL", enterpriseId)
            );
            Assert.Equal(2L, await CountAsync("account_links WHERE enterprise_id = $1", enterpriseId));
            Assert.Equal(1L, await CountAsync("mail_outbox WHERE enterprise_id = $1", enterpriseId));
            Assert.Equal(
                System.Net.HttpStatusCode.OK,
                await fixture.Host.StatusAsync(HttpMethod.Get, "/v1/auth/validate", one.AccessToken)
            );
        }
    }

    [Fact]
    public async Task ClearAsync_WhenAnotherInstanceIsAtIt_ShouldLeaveItToThat()
    {
        LoginResponse admin = await fixture.Host.CreateEnterpriseAsync();
        await ExecuteAsync(
            "INSERT INTO account_links VALUES ($1, 'x', $2, 'INVITATION', now(), now() - interval '8 days')",
            admin.User.EnterpriseId!.Value,
            admin.User.UserId
        );
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using (NpgsqlConnection other = await owner.OpenConnectionAsync(Stop))
        {
            await using var take = new NpgsqlCommand($"SELECT pg_advisory_lock({0x756d636c656172})", other);
            await take.ExecuteNonQueryAsync(Stop);
            await Clearing().ClearAsync(Stop);
            Assert.Equal(1L, await CountAsync("account_links WHERE enterprise_id = $1", admin.User.EnterpriseId.Value));
        }

        await Eventually.TrueAsync(
            async () =>
            {
                await Clearing().ClearAsync(Stop);
                return await CountAsync("account_links WHERE enterprise_id = $1", admin.User.EnterpriseId.Value) == 0;
            },
            "the lock is free and the link deleted"
        );
    }

    private ExpiredCredentials Clearing() =>
        new(
            fixture.Database.Database,
            new FakeTimeProvider(TimeProvider.System.GetUtcNow()),
            NullLogger<ExpiredCredentials>.Instance
        );

    private async Task<long> CountAsync(string from, Guid enterpriseId) =>
        (long)(await ExecuteAsync("SELECT count(*) FROM " + from, enterpriseId))!;

    private async Task<object?> ExecuteAsync(string sql, params object[] parameters)
    {
        await using var owner = NpgsqlDataSource.Create(fixture.Database.OwnerConnectionString);
        await using NpgsqlCommand command = owner.CreateCommand(sql);
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        return await command.ExecuteScalarAsync(Stop);
    }
}
