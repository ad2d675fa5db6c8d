using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;
using UsageMonitor.Tests.Identity;
using Xunit;

namespace UsageMonitor.Tests.Audit;

/// <summary>The chain against those who write it at the same time, and against those who may do everything to its rows.</summary>
public sealed class AuditChainTests(IdentityFixture fixture) : IClassFixture<IdentityFixture>
{
    private const int Admins = 64;
    private const int Tamperings = 1_000;

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    private IdentityHost Host => fixture.Host;

    [Fact]
    public async Task Append_WhenManyActAtOnce_ShouldNeitherForkNorGapTheChain()
    {
        Guid enterpriseId = await EnterpriseAsync();
        AuditTrail trail = Host.Services.GetRequiredService<AuditTrail>();

        await Task.WhenAll(
            Enumerable
                .Range(0, Admins)
                .Select(admin =>
                    Task.Run(
                        async () =>
                        {
                            for (int act = 0; act < 4; act++)
                            {
                                await trail.RecordAsync(enterpriseId, Entry($"{admin}:{act}"), CancellationToken);
                            }
                        },
                        CancellationToken
                    )
                )
        );

        List<AuditRecord> records = await ReadAsync(enterpriseId);
        Assert.Equal(
            Enumerable.Range(1, records.Count).Select(number => (long)number),
            records.Select(r => r.Sequence)
        );
        Assert.Equal(Admins * 4, records.Count(record => record.Columns.Action == "test.acted"));
        Assert.Equal(
            Admins * 4,
            records.Where(r => r.Columns.Action == "test.acted").Select(r => r.Columns.TargetId).Distinct().Count()
        );
        Assert.Null(Verify(records).Fault);
    }

    [Fact]
    public async Task Act_WhenItsTransactionIsRolledBack_ShouldLeaveNoEntry()
    {
        Guid enterpriseId = await EnterpriseAsync();
        AuditTrail trail = Host.Services.GetRequiredService<AuditTrail>();
        int before = (await ReadAsync(enterpriseId)).Count;
        await using (
            ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(enterpriseId, CancellationToken)
        )
        {
            Assert.NotNull(await trail.AppendAsync(own, Entry("x"), onlyIfWritten: false, CancellationToken));
        }

        Assert.Equal(before, (await ReadAsync(enterpriseId)).Count);
        await trail.RecordAsync(enterpriseId, Entry("y"), CancellationToken);
        Assert.Null(Verify(await ReadAsync(enterpriseId)).Fault);
    }

    [Fact]
    public async Task Act_WhenItsEntryCannotBeWritten_ShouldNotHappen()
    {
        LoginResponse admin = await Host.CreateEnterpriseAsync();
        await OwnerAsync("REVOKE EXECUTE ON FUNCTION append_audit FROM usage_monitor_app");
        try
        {
            using HttpResponseMessage refused = await Host.PostAsync(
                "/v1/admin/api-keys",
                new CreateApiKeyRequest("not made", ["usage:write"]),
                admin.AccessToken
            );
            Assert.True((int)refused.StatusCode >= 500, refused.StatusCode.ToString());
        }
        finally
        {
            await OwnerAsync("GRANT EXECUTE ON FUNCTION append_audit TO usage_monitor_app");
        }

        using HttpResponseMessage listed = await Host.SendAsync(
            HttpMethod.Get,
            "/v1/admin/api-keys",
            admin.AccessToken
        );
        ApiKeysResponse keys = await IdentityHost.ReadAsync<ApiKeysResponse>(listed, HttpStatusCode.OK);
        Assert.DoesNotContain(keys.ApiKeys, key => key.Name == "not made");
    }

    [Fact]
    public async Task Logins_WhenTheyTouchTheLogDirectly_ShouldBeRefused()
    {
        Guid enterpriseId = await EnterpriseAsync();
        string[] statements =
        [
            "UPDATE audit_log SET action = 'x'",
            "DELETE FROM audit_log",
            "INSERT INTO audit_log SELECT * FROM audit_log LIMIT 1",
            "UPDATE audit_heads SET sequence = 0",
            "DELETE FROM audit_heads",
            "DELETE FROM audit_checkpoints",
            "UPDATE audit_checkpoints SET sequence = 0",
            "TRUNCATE audit_log",
        ];
        foreach (string statement in statements)
        {
            await using ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(
                enterpriseId,
                CancellationToken
            );
            PostgresException refused = await Assert.ThrowsAsync<PostgresException>(() =>
                own.ExecuteAsync(statement, [], CancellationToken)
            );
            Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, refused.SqlState);
            await using NpgsqlCommand pipeline = fixture.Database.Database.Pipeline.CreateCommand(statement);
            refused = await Assert.ThrowsAsync<PostgresException>(() =>
                pipeline.ExecuteNonQueryAsync(CancellationToken)
            );
            Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, refused.SqlState);
        }
    }

    /// <summary>A superuser does what they like to the rows; the verifier says at which entry.</summary>
    [Fact]
    public async Task Rows_WhenASuperuserTampersWithThem_ShouldBeFoundEveryTimeAtTheRightEntry()
    {
        Guid enterpriseId = await EnterpriseAsync();
        AuditTrail trail = Host.Services.GetRequiredService<AuditTrail>();
        for (int act = 0; act < 40; act++)
        {
            await trail.RecordAsync(enterpriseId, Entry($"act {act}"), CancellationToken);
        }

        byte[] dataKey = (
            await Host.Services.GetRequiredService<EnterpriseDirectory>().FindAsync(enterpriseId, CancellationToken)
        )!.DataKey;
        List<AuditRecord> whole = await ReadAsync(enterpriseId);
        int last = whole.Count;
        var anchor = new AuditAnchor(last, whole[^1].Hash, whole[^1].PreviousHash, DateTimeOffset.UtcNow);
        Assert.Null(Verify(whole, anchor).Fault);
        const int Seed = 5;
        var random = new Random(Seed);
        var wrong = new List<string>();
        var kinds = new HashSet<string>();
        await using var owner = new NpgsqlConnection(fixture.Database.OwnerConnectionString);
        await owner.OpenAsync(CancellationToken);
        for (int number = 0; number < Tamperings; number++)
        {
            await using NpgsqlTransaction transaction = await owner.BeginTransactionAsync(CancellationToken);
            Tampering tampering = Tampering.Random(random, whole);
            await using (var command = new NpgsqlCommand(tampering.Sql, owner, transaction))
            {
                command.Parameters.Add(new NpgsqlParameter { Value = enterpriseId });
                await command.ExecuteNonQueryAsync(CancellationToken);
            }

            var records = new List<AuditRecord>();
            await foreach (
                AuditRecord record in AuditReader.ReadAsync(
                    sql => new NpgsqlCommand(sql, owner, transaction),
                    enterpriseId,
                    dataKey,
                    1,
                    long.MaxValue,
                    CancellationToken
                )
            )
            {
                records.Add(record);
            }

            await transaction.RollbackAsync(CancellationToken);
            AuditFault? fault = Verify(records, anchor).Fault;
            kinds.Add($"{tampering.Kind} → {fault?.Kind}");
            if (fault?.Sequence != tampering.Sequence)
            {
                wrong.Add($"{number} {tampering.Kind} at {tampering.Sequence}: {fault}\n{tampering.Sql}");
            }
        }

        Assert.True(wrong.Count == 0, $"{wrong.Count} of {Tamperings}:\n" + string.Join('\n', wrong.Take(10)));
        TestContext.Current.SendDiagnosticMessage(string.Join("; ", kinds.Order(StringComparer.Ordinal)));
    }

    private static AuditEntry Entry(string target) =>
        new("test.acted", "test", target)
        {
            After = new
            {
                number = 1.5,
                text = "é\u0001\"",
                password = "hidden",
            },
        };

    private static AuditVerdict Verify(IEnumerable<AuditRecord> records, params AuditAnchor[] anchors)
    {
        var verifier = new AuditVerifier(anchors, from: 1);
        foreach (AuditRecord record in records)
        {
            verifier.Add(record);
        }

        return verifier.End();
    }

    private async Task<Guid> EnterpriseAsync() => (await Host.CreateEnterpriseAsync()).User.EnterpriseId!.Value;

    private async Task<List<AuditRecord>> ReadAsync(Guid enterpriseId)
    {
        EnterpriseInfo enterprise = (
            await Host.Services.GetRequiredService<EnterpriseDirectory>().FindAsync(enterpriseId, CancellationToken)
        )!;
        await using ScopedTransaction own = await fixture.Database.Database.OpenEnterpriseAsync(
            enterpriseId,
            CancellationToken
        );
        var records = new List<AuditRecord>();
        await foreach (
            AuditRecord record in AuditReader.ReadAsync(
                sql => own.Command(sql),
                enterpriseId,
                enterprise.DataKey,
                1,
                long.MaxValue,
                CancellationToken
            )
        )
        {
            records.Add(record);
        }

        return records;
    }

    private async Task OwnerAsync(string sql)
    {
        await using var owner = new NpgsqlConnection(fixture.Database.OwnerConnectionString);
        await owner.OpenAsync(CancellationToken);
        await using var command = new NpgsqlCommand(sql, owner);
        await command.ExecuteNonQueryAsync(CancellationToken);
    }
}
