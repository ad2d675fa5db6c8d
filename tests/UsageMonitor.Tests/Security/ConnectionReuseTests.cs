using CsCheck;
using Npgsql;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// Requests of different enterprises take turns on the same connections. However one ends (well, by an exception, cancelled,
/// with its connection cut), the next one begins without a scope. CsCheck prints the seed of what fails.
/// </summary>
public sealed class ConnectionReuseTests(TwoEnterprises two) : IClassFixture<TwoEnterprises>
{
    /// <summary>Of two to four requests each, so over 500 in all.</summary>
    private const int Interleavings = 200;
    private const int Connections = 2;
    private const int RequestsMax = 2;

    /// <summary>In which scope a request runs.</summary>
    private enum Scope
    {
        A,
        B,
        Lookup,
        Platform,
    }

    /// <summary>How it ends.</summary>
    private enum End
    {
        Commits,
        RollsBack,
        Throws,
        FailsInSql,
        IsCancelled,
        LosesItsConnection,
        LeavesAReaderOpen,
    }

    // To cancel or to cut costs a new connection.
    private static readonly Gen<End> s_end = Gen.Frequency(
        (30, Gen.Enum<End>().Where(end => end is not (End.IsCancelled or End.LosesItsConnection))),
        (2, Gen.Const(End.IsCancelled)),
        (1, Gen.Const(End.LosesItsConnection))
    );

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Connection_WhenRequestsEndInAnyWay_ShouldNeverCarryAScopeOn()
    {
        await using NpgsqlDataSource app = NpgsqlDataSource.Create(
            new NpgsqlConnectionStringBuilder(two.Database.Database.App.ConnectionString)
            {
                Password = Engines.MasterKey.DatabasePassword(Migrator.AppLogin),
                MaxPoolSize = Connections,
                ApplicationName = "reuse",
            }
        );
        await using var database = new Database(app, two.Database.Database.Pipeline);
        Gen<(Scope, End)[]> request = Gen.Select(Gen.Enum<Scope>(), s_end).Array[1, RequestsMax];

        // Two at a time, on two connections: they swap them as chance has it.
        await Gen.Select(request, request)
            .SampleAsync(
                async (left, right) =>
                {
                    await Task.WhenAll(RunAsync(database, left), RunAsync(database, right));
                    return true;
                },
                iter: Interleavings,
                threads: 1
            );
    }

    private async Task RunAsync(Database database, (Scope Scope, End End)[] requests)
    {
        foreach ((Scope scope, End end) in requests)
        {
            await AssertBareAsync(database);
            try
            {
                await AnswerAsync(database, scope, end);
            }
            catch (Exception exception)
                when (exception is ExpectedException or NpgsqlException or OperationCanceledException)
            {
                // As the request was to end.
            }
        }

        await AssertBareAsync(database);
    }

    private async Task AnswerAsync(Database database, Scope scope, End end)
    {
        await using ScopedTransaction transaction = scope switch
        {
            Scope.A => await database.OpenEnterpriseAsync(two.A, CancellationToken),
            Scope.B => await database.OpenEnterpriseAsync(two.B, CancellationToken),
            Scope.Lookup => await database.OpenLookupAsync(new byte[32], CancellationToken),
            _ => await database.OpenPlatformAsync(CancellationToken),
        };
        Guid[] expected = scope switch
        {
            Scope.A => [two.A],
            Scope.B => [two.B],
            Scope.Lookup => [],
            _ => [two.A, two.B],
        };
        Assert.Equal(expected.Order(), (await EnterprisesAsync(transaction)).Order());
        switch (end)
        {
            case End.Commits:
                await transaction.CommitAsync(CancellationToken);
                break;
            case End.Throws:
                throw new ExpectedException();
            case End.FailsInSql:
                await transaction.ExecuteAsync("SELECT 1 / 0", [], CancellationToken);
                break;
            case End.IsCancelled:
                using (var soon = new CancellationTokenSource(TimeSpan.FromMilliseconds(1)))
                {
                    await transaction.ExecuteAsync("SELECT pg_sleep(60)", [], soon.Token);
                }

                break;
            case End.LosesItsConnection:
                await two.OwnerReadsAsync<bool>("SELECT pg_terminate_backend($1)", transaction.Connection.ProcessID);
                await transaction.ExecuteAsync("SELECT 1", [], CancellationToken);
                break;
            case End.LeavesAReaderOpen:
                NpgsqlCommand command = transaction.Command("SELECT generate_series(1, 10000)");
                await (await command.ExecuteReaderAsync(CancellationToken)).ReadAsync(CancellationToken);
                break;
            default:
                break;
        }
    }

    // A connection fresh from the pool, used without a transaction, as code would that forgot to open a scope.
    private static async Task AssertBareAsync(Database database)
    {
        while (true)
        {
            try
            {
                await using NpgsqlCommand command = database.App.CreateCommand(
                    """
                    SELECT count(*) FROM enterprises
                    UNION ALL SELECT count(*) FROM users
                    UNION ALL SELECT length(concat(current_setting('app.enterprise_id', true), current_setting('app.lookup', true), current_setting('app.platform', true)))
                    """
                );
                await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(CancellationToken);
                while (await reader.ReadAsync(CancellationToken))
                {
                    Assert.Equal(0L, reader.GetInt64(0));
                }

                return;
            }
            catch (NpgsqlException exception)
                when (exception is { IsTransient: true } or { InnerException: IOException or EndOfStreamException })
            {
                // A connection that was cut is noticed at its next use; the pool then makes another.
            }
        }
    }

    private static async Task<List<Guid>> EnterprisesAsync(ScopedTransaction transaction)
    {
        var seen = new List<Guid>();
        await using NpgsqlCommand command = transaction.Command("SELECT enterprise_id FROM enterprises");
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(CancellationToken);
        while (await reader.ReadAsync(CancellationToken))
        {
            seen.Add(reader.GetGuid(0));
        }

        return seen;
    }

    private sealed class ExpectedException : Exception;
}
