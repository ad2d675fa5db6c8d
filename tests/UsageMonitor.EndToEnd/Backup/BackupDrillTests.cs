using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Backup;

/// <summary>
/// The machine is lost under load, and what was backed up is restored elsewhere: nothing that was acknowledged before the last archived
/// WAL is missing, nothing is there twice, and ledger, log and audit chains are whole.
/// </summary>
/// <remarks>The long form: <c>BACKUP_SECONDS=300 ./test BackupDrillTests</c>.</remarks>
public sealed class BackupDrillTests(ITestOutputHelper output)
{
    private const int EventsOfBatch = 20;
    private const int SecondsDefault = 8;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Restore_WhenTheMachineIsLostUnderLoad_ShouldHoldWhatWasAcknowledgedBeforeTheLastArchivedWal()
    {
        int seconds = int.TryParse(
            Environment.GetEnvironmentVariable("BACKUP_SECONDS"),
            CultureInfo.InvariantCulture,
            out int asked
        )
            ? asked
            : SecondsDefault;
        using var folder = new TemporaryFolder();
        string data = folder.File("data");
        string backup = folder.File("backup");
        string key = folder.File("master.key");
        string wal = Path.Combine(backup, "wal");
        var acknowledged = new ConcurrentDictionary<Guid, DateTime>();
        var segments = new List<(DateTime At, string Segment)>();
        Tenant tenant;
        DateTime between;
        DateTime killedAt;
        await using (
            ServerProcess server = await ServerProcess.StartReadyAsync(
                new ServerOptions(data, Ports.Free())
                {
                    Settings = new Dictionary<string, string>
                    {
                        ["Backup__Folder"] = backup,
                        ["Backup__WalSeconds"] = "2",
                    },
                }
            )
        )
        {
            using (Api platform = await Api.SignInAsOperatorAsync(server.Address))
            {
                tenant = await platform.CreateTenantAsync("drill", "Asia/Kolkata");
            }

            File.Copy(Path.Combine(data, "master.key"), key);
            await using NpgsqlDataSource owner = new PostgresOf(data).OpenAsOwner();
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
            Task load = LoadAsync(server.Address, tenant, acknowledged, stop.Token);
            Task watch = WatchAsync(owner, segments, stop.Token);
            await Task.Delay(TimeSpan.FromSeconds(1), Cancelled);

            // One that is killed on its way is none.
            await using (
                var killed = ChildProcess.Start("dotnet", [Repository.Server, "backup", "--data", data, "--to", backup])
            )
            {
                await Eventually.TrueAsync(
                    () =>
                        Task.FromResult(
                            killed.HasExited
                                || Directory
                                    .EnumerateDirectories(Path.Combine(backup, "base"), "*.partial")
                                    .Any(partial => Directory.Exists(Path.Combine(partial, "cluster", "base")))
                        ),
                    () => "the first backup is on its way",
                    TimeSpan.FromSeconds(30)
                );
                killed.Kill();
                await killed.WaitForExitAsync();
            }

            Assert.Empty(
                Directory.EnumerateFiles(Path.Combine(backup, "base"), "manifest.json", SearchOption.AllDirectories)
            );
            await RunAsync(0, "backup", "--data", data, "--to", backup);
            Assert.Single(Directory.EnumerateDirectories(Path.Combine(backup, "base")));
            await Task.Delay(TimeSpan.FromSeconds(1), Cancelled);

            // A moment with nothing acknowledged around it.
            await stop.CancelAsync();
            await EndAsync(load, watch);
            await Task.Delay(TimeSpan.FromSeconds(1), Cancelled);
            between = DateTime.UtcNow;
            await Task.Delay(TimeSpan.FromSeconds(1), Cancelled);
            using var again = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
            load = LoadAsync(server.Address, tenant, acknowledged, again.Token);
            watch = WatchAsync(owner, segments, again.Token);
            await Task.Delay(TimeSpan.FromSeconds(seconds), Cancelled);
            killedAt = DateTime.UtcNow;
            int? postmaster = new PostgresOf(data).Postmaster;
            server.Kill();
            await server.WaitForExitAsync();
            await again.CancelAsync();
            await EndAsync(load, watch);
            await Eventually.TrueAsync(
                () => Task.FromResult(postmaster is null || !Directory.Exists($"/proc/{postmaster}")),
                () => "its PostgreSQL has ended with it",
                TimeSpan.FromSeconds(30)
            );
        }

        Directory.Delete(data, recursive: true);
        string newest = Directory
            .EnumerateFiles(wal)
            .Select(file => Path.GetFileName(file)[..^".zst".Length])
            .Where(name => name.Length == 24)
            .Max(StringComparer.Ordinal)!;
        DateTime safe = segments.Where(one => string.CompareOrdinal(one.Segment, newest) <= 0).Max(one => one.At);

        await RunAsync(0, "backup", "verify", "--from", backup);
        await RefusalsAsync(folder, backup, key);

        // To the end of what there is.
        string restored = folder.File("restored");
        var clock = Stopwatch.StartNew();
        string told = await RunAsync(0, "restore", "--from", backup, "--data", restored, "--master-key-file", key);
        TimeSpan took = clock.Elapsed;
        Assert.DoesNotContain("WRONG", told, StringComparison.Ordinal);
        Dictionary<Guid, long> stored = await StoredAsync(restored, tenant);
        Guid[] missing =
        [
            .. acknowledged.Where(one => one.Value < safe && !stored.ContainsKey(one.Key)).Select(one => one.Key),
        ];
        int lost = acknowledged.Keys.Count(id => !stored.ContainsKey(id));
        output.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{acknowledged.Count} events acknowledged; {lost} after the last archived WAL lost, {(killedAt - safe).TotalSeconds:N1} s; restored in {took.TotalSeconds:N1} s.\n{told}"
            )
        );
        Assert.Empty(missing);
        Assert.All(stored, one => Assert.Equal(1, one.Value));
        Assert.True((killedAt - safe).TotalSeconds < 10, $"{killedAt - safe} without archived WAL");

        // To a moment between.
        string then = folder.File("then");
        await RunAsync(
            0,
            "restore",
            "--from",
            backup,
            "--data",
            then,
            "--master-key-file",
            key,
            "--to-time",
            between.ToString("O", CultureInfo.InvariantCulture)
        );
        Assert.Equal(
            acknowledged.Where(one => one.Value < between).Select(one => one.Key).Order(),
            (await StoredAsync(then, tenant)).Keys.Order()
        );
    }

    // A server that is gone answers nobody.
    private static async Task EndAsync(params Task[] tasks)
    {
        foreach (Task task in tasks)
        {
            try
            {
                await task;
            }
            catch (Exception exception)
                when (exception is OperationCanceledException or HttpRequestException or NpgsqlException)
            {
                Assert.False(Cancelled.IsCancellationRequested);
            }
        }
    }

    private static async Task RefusalsAsync(TemporaryFolder folder, string backup, string key)
    {
        string target = folder.File("refused");
        string otherKey = folder.File("other.key");
        await File.WriteAllTextAsync(otherKey, Convert.ToBase64String(new byte[32]), Cancelled);
        Assert.Contains(
            "does not open the backup",
            await RunAsync(1, "restore", "--from", backup, "--data", target, "--master-key-file", otherKey),
            StringComparison.Ordinal
        );
        Assert.False(Directory.Exists(target));
        Assert.Contains(
            "is not empty",
            await RunAsync(1, "restore", "--from", backup, "--data", backup, "--master-key-file", key),
            StringComparison.Ordinal
        );

        string damaged = Directory
            .EnumerateFiles(Path.Combine(backup, "base"), "PG_VERSION", SearchOption.AllDirectories)
            .First();
        byte[] content = await File.ReadAllBytesAsync(damaged, Cancelled);
        await File.WriteAllBytesAsync(damaged, [.. content.Select(one => (byte)(one ^ 1))], Cancelled);
        Assert.Contains(
            damaged,
            await RunAsync(1, "restore", "--from", backup, "--data", target, "--master-key-file", key),
            StringComparison.Ordinal
        );
        Assert.Contains(damaged, await RunAsync(1, "backup", "verify", "--from", backup), StringComparison.Ordinal);
        Assert.False(Directory.Exists(target));
        await File.WriteAllBytesAsync(damaged, content, Cancelled);
    }

    private static async Task<string> RunAsync(int expected, params string[] arguments)
    {
        (int code, string said) = await ChildProcess.RunAsync(arguments);
        Assert.True(code == expected, $"{string.Join(' ', arguments)} ended with {code}:\n{said}");
        return said;
    }

    private static async Task LoadAsync(
        Uri address,
        Tenant tenant,
        ConcurrentDictionary<Guid, DateTime> acknowledged,
        CancellationToken cancellationToken
    )
    {
        using var api = new Api(address, tenant.Key);
        while (!cancellationToken.IsCancellationRequested)
        {
            Guid[] ids = [.. Enumerable.Range(0, EventsOfBatch).Select(_ => Guid.NewGuid())];
            var lines = new StringBuilder();
            foreach (Guid id in ids)
            {
                lines.AppendLine(
                    JsonSerializer.Serialize(
                        new UsageEvent("user-" + id.ToString()[..2], "feature", id),
                        JsonSerializerOptions.Web
                    )
                );
            }

            // What is on its way is answered before it ends, unless the server has gone.
            if (await api.TryPostEventsAsync(lines.ToString(), CancellationToken.None) is not null)
            {
                DateTime now = DateTime.UtcNow;
                foreach (Guid id in ids)
                {
                    acknowledged[id] = now;
                }
            }
        }
    }

    // Whatever was acknowledged before a moment is in the segment of that moment, or in one before it.
    private static async Task WatchAsync(
        NpgsqlDataSource owner,
        List<(DateTime, string)> segments,
        CancellationToken cancellationToken
    )
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            DateTime before = DateTime.UtcNow;
            await using NpgsqlCommand command = owner.CreateCommand(
                "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
            );
            segments.Add((before, (string)(await command.ExecuteScalarAsync(cancellationToken))!));
            await Task.Delay(TimeSpan.FromMilliseconds(100), cancellationToken);
        }
    }

    /// <summary>The ids of the tenant's events, when all that the log holds is stored, and how often each is there.</summary>
    private static async Task<Dictionary<Guid, long>> StoredAsync(string data, Tenant tenant)
    {
        await using ServerProcess server = await ServerProcess.StartReadyAsync(new ServerOptions(data, Ports.Free()));
        using var api = new Api(server.Address, tenant.Key);
        await Eventually.TrueAsync(
            async () => (await api.LedgerAsync()).Total.Pending == 0,
            () => "everything is processed",
            TimeSpan.FromSeconds(60)
        );
        var stored = new Dictionary<Guid, long>();
        await using NpgsqlDataSource owner = new PostgresOf(data).OpenAsOwner();
        await using (
            NpgsqlCommand command = owner.CreateCommand(
                $"SELECT event_id, count(*) FROM usage_events WHERE enterprise_id = '{tenant.EnterpriseId}' GROUP BY event_id"
            )
        )
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(Cancelled);
            while (await reader.ReadAsync(Cancelled))
            {
                stored[reader.GetGuid(0)] = reader.GetInt64(1);
            }
        }

        Assert.Equal(0, await server.StopAsync());
        return stored;
    }
}
