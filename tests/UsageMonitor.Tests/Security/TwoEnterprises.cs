using Npgsql;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>A database in which two enterprises have a row in every table, and the eyes of its owner, whom nothing hides from.</summary>
public sealed class TwoEnterprises(Engines engines) : IAsyncLifetime
{
    internal TestDatabase Database { get; private set; } = null!;

    internal Guid A { get; } = Guid.NewGuid();

    internal Guid B { get; } = Guid.NewGuid();

    /// <summary>Tables that have <c>enterprise_id</c>; partitions are seen through them.</summary>
    internal IReadOnlyList<string> Tables { get; private set; } = [];

    public async ValueTask InitializeAsync()
    {
        Database = await engines.CloneAsync();
        RowGenerator rows = await RowGenerator.LoadAsync(Database.OwnerConnectionString, CancellationToken.None);
        await rows.FillAsync(A, "planted-a", optional: true, CancellationToken.None);
        await rows.FillAsync(B, "planted-b", optional: true, CancellationToken.None);
        Tables = [.. rows.Tables];
    }

    /// <summary>As the owner, a superuser.</summary>
    internal async Task<T> OwnerReadsAsync<T>(string sql, params object[] parameters) =>
        (await OwnerListsAsync<T>(sql, parameters))[0];

    /// <summary>As the owner: the first column.</summary>
    internal async Task<List<T>> OwnerListsAsync<T>(string sql, params object[] parameters)
    {
        await using var connection = new NpgsqlConnection(Database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        var list = new List<T>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        while (await reader.ReadAsync(TestContext.Current.CancellationToken))
        {
            list.Add(reader.GetFieldValue<T>(0));
        }

        return list;
    }

    public ValueTask DisposeAsync() => Database.DisposeAsync();
}
