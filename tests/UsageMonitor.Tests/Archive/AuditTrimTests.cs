using Microsoft.Extensions.Time.Testing;
using Npgsql;
using UsageMonitor.Server.Archive.Retention;
using UsageMonitor.Server.Audit;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;
using Xunit;

namespace UsageMonitor.Tests.Archive;

/// <summary>What of an audit log is kept no longer goes, and what is left can still be followed.</summary>
public sealed class AuditTrimTests(Engines engines)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task RunAsync_WhenEntriesAreOlderThanIsKept_ShouldDeleteUpToACheckpointAndLeaveAWholeChain()
    {
        await using World world = await World.CreateAsync(engines);
        EnterpriseInfo enterprise = await world.EnterpriseAsync();
        EnterpriseInfo other = await world.EnterpriseAsync(auditDays: null);
        await world.ExecuteAsync(
            $"""
            INSERT INTO audit_destinations (enterprise_id, destination_id, name, kind, settings, status, cursor_sequence, next_attempt_at,
                                            created_at, updated_at)
            VALUES ('{enterprise.EnterpriseId}', gen_random_uuid(), 'siem', 'WEBHOOK', '', 'ACTIVE', 12, now(), now(), now())
            """
        );

        // What the destination has not taken stays.
        Assert.Equal(10, await world.TrimAsync());
        Assert.Equal(0, await world.TrimAsync());
        await world.ExecuteAsync("UPDATE audit_destinations SET status = 'INACTIVE'");
        Assert.Equal(5, await world.TrimAsync());
        Assert.Equal(0, await world.TrimAsync());

        AuditVerdict verdict = await world.VerifyAsync(enterprise);
        Assert.Null(verdict.Fault);
        Assert.Equal((7L, 16L, 22L), (verdict.Entries, verdict.First, verdict.Last));
        Assert.Equal((20L, 1L), ((await world.VerifyAsync(other)).Entries, (await world.VerifyAsync(other)).First));
        Assert.Equal(
            [5L, 10L],
            await world.Pipeline.QueryAsync(
                "SELECT deleted_rows FROM retention_runs WHERE data_class = 'AUDIT' ORDER BY 1",
                reader => reader.GetInt64(0)
            )
        );
        (int code, string told) = await world.ExportAsync(enterprise);
        Assert.Equal(AuditCommand.ExitWhole, code);
        Assert.StartsWith("Whole: 7 entries, 16 to 22", told, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("DELETE FROM audit_log WHERE sequence = 16", "REMOVED", 16)]
    [InlineData("UPDATE audit_log SET action = 'x' WHERE sequence = 16", "ALTERED", 16)]
    [InlineData("UPDATE audit_log SET previous_hash = sha256('x') WHERE sequence = 16", "ALTERED", 16)]
    [InlineData("DELETE FROM audit_checkpoints WHERE sequence = 15", "REMOVED", 1)]
    [InlineData("DELETE FROM audit_log WHERE sequence <= 20; UPDATE audit_trims SET sequence = 20", "REMOVED", 1)]
    [InlineData("UPDATE audit_trims SET sequence = 14", "REMOVED", 1)]
    [InlineData("DELETE FROM audit_trims", "REMOVED", 1)]
    public async Task Verify_WhenMoreIsGoneThanWasLetGo_ShouldFindIt(string tampering, string kind, long sequence)
    {
        await using World world = await World.CreateAsync(engines);
        EnterpriseInfo enterprise = await world.EnterpriseAsync();
        Assert.Equal(15, await world.TrimAsync());
        Assert.Null((await world.VerifyAsync(enterprise)).Fault);

        await world.ExecuteAsync(tampering);

        AuditFault? fault = (await world.VerifyAsync(enterprise)).Fault;
        Assert.Equal((kind, sequence), (fault?.Kind, fault?.Sequence ?? 0));
    }

    [Theory]
    [InlineData("UPDATE retention_settings SET legal_hold = true", 15, "keeps its audit log")]
    [InlineData("UPDATE retention_settings SET audit_days = NULL", 15, "keeps its audit log")]
    [InlineData("UPDATE retention_settings SET audit_days = 1", 20, "are kept still")]
    [InlineData("UPDATE retention_settings SET audit_days = 200", 15, "are kept still")]
    [InlineData("SELECT 1", 14, "no checkpoint")]
    [InlineData("SELECT 1", 15, "no entry tells of it")]
    public async Task TrimAudit_WhenItMayNot_ShouldRefuseWhoeverCalls(string sql, long through, string because)
    {
        await using World world = await World.CreateAsync(engines);
        EnterpriseInfo enterprise = await world.EnterpriseAsync();
        await world.ExecuteAsync(sql);

        PostgresException refused = await Assert.ThrowsAsync<PostgresException>(() =>
            World.CallAsync(world.Pipeline.Database.Pipeline, enterprise, through)
        );

        Assert.Contains(because, refused.MessageText, StringComparison.Ordinal);
        refused = await Assert.ThrowsAsync<PostgresException>(() =>
            World.CallAsync(world.Pipeline.Database.App, enterprise, through)
        );
        Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, refused.SqlState);
    }

    [Fact]
    public async Task RunAsync_WhenLegallyHeld_ShouldDeleteNothing()
    {
        await using World world = await World.CreateAsync(engines);
        await world.EnterpriseAsync();
        await world.ExecuteAsync("UPDATE retention_settings SET legal_hold = true");

        Assert.Equal(0, await world.TrimAsync());
    }

    /// <summary>Chains whose entries 1 to 15 are a hundred days old, and 16 to 20 ten; 10, 15 and 20 are signed.</summary>
    private sealed class World : IAsyncDisposable
    {
        private readonly SigningKeys _keys;
        private readonly AuditCheckpoints _checkpoints;

        private World(PipelineFixture pipeline)
        {
            Pipeline = pipeline;
            _keys = new SigningKeys(pipeline.Database, Engines.MasterKey, TimeProvider.System);
            _checkpoints = new AuditCheckpoints(pipeline.Database, pipeline.Enterprises, _keys, TimeProvider.System);
        }

        public PipelineFixture Pipeline { get; }

        public static async Task<World> CreateAsync(Engines engines) => new(await PipelineFixture.CreateAsync(engines));

        public async Task<EnterpriseInfo> EnterpriseAsync(int? auditDays = 60)
        {
            EnterpriseInfo enterprise = await Pipeline.AddEnterpriseAsync("Asia/Kolkata", 1);
            var time = new FakeTimeProvider(DateTimeOffset.UtcNow.AddDays(-100));
            AuditTrail trail = Trail(time);
            foreach ((int entries, int days) in new[] { (10, 0), (5, 90), (5, 0) })
            {
                for (int entry = 0; entry < entries; entry++)
                {
                    await trail.RecordAsync(
                        enterprise.EnterpriseId,
                        new AuditEntry("test.acted", "test", $"{entry}"),
                        Cancelled
                    );
                }

                Assert.NotNull(await _checkpoints.SignAsync(enterprise.EnterpriseId, Cancelled));
                time.Advance(TimeSpan.FromDays(days));
            }

            Trail(TimeProvider.System);
            await ExecuteAsync(
                $"""
                INSERT INTO retention_settings (enterprise_id, audit_days, updated_by, updated_at)
                VALUES ('{enterprise.EnterpriseId}', {(
                    auditDays is null ? "NULL" : $"{auditDays}"
                )}, gen_random_uuid(), now())
                """
            );
            return enterprise;
        }

        // It is the database's from then on.
        private AuditTrail Trail(TimeProvider time) =>
            new(Pipeline.Database, Pipeline.Enterprises, Pipeline.Months, Engines.MasterKey, time);

        public async Task<long> TrimAsync() =>
            await new AuditTrim(Pipeline.Database).RunAsync(
                await RetentionCutoffs.ReadAsync(
                    Pipeline.Database,
                    Pipeline.Enterprises,
                    DateTimeOffset.UtcNow,
                    Cancelled
                ),
                Cancelled
            );

        public async Task<AuditVerdict> VerifyAsync(EnterpriseInfo enterprise) =>
            (await _checkpoints.VerifyAsync(enterprise.EnterpriseId, 1, null, Cancelled)).Verdict;

        public async Task<(int Code, string Told)> ExportAsync(EnterpriseInfo enterprise)
        {
            using var stream = new MemoryStream();
            await new AuditExport(Pipeline.Database, _checkpoints).WriteAsync(
                stream,
                enterprise,
                AuditExport.NdJson,
                1,
                null,
                Cancelled
            );
            string file = Path.GetTempFileName();
            try
            {
                await File.WriteAllBytesAsync(file, stream.ToArray(), Cancelled);
                await using var told = new StringWriter();
                return (AuditCommand.Run(file, null, told, told), told.ToString());
            }
            finally
            {
                File.Delete(file);
            }
        }

        public static async Task CallAsync(NpgsqlDataSource login, EnterpriseInfo enterprise, long through)
        {
            await using NpgsqlConnection connection = await login.OpenConnectionAsync(Cancelled);
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(Cancelled);
            await using var own = new ScopedTransaction(connection, transaction);
            await own.SetAsync(Database.EnterpriseSetting, enterprise.EnterpriseId.ToString(), Cancelled);
            await own.ExecuteAsync("SELECT trim_audit($1, $2)", [enterprise.EnterpriseId, through], Cancelled);
        }

        public async Task ExecuteAsync(string sql)
        {
            await using var owner = new NpgsqlConnection(Pipeline.OwnerConnectionString);
            await owner.OpenAsync(Cancelled);
            await using var command = new NpgsqlCommand(sql, owner);
            await command.ExecuteNonQueryAsync(Cancelled);
        }

        public async ValueTask DisposeAsync()
        {
            _keys.Dispose();
            await Pipeline.DisposeAsync();
        }
    }
}
