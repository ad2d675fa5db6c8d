using DuckDB.NET.Data;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary>DuckDB in memory, which may read and write in one folder and nowhere else, and use so much memory.</summary>
internal sealed class Duck : IDisposable
{
    private const int ThreadsMax = 4;
    private readonly DuckDBConnection _connection;

    public Duck(OpenedFolder folder, ArchiveSettings settings)
    {
        _connection = new DuckDBConnection("DataSource=:memory:");
        _connection.Open();
        string path = Quote(folder.Path);
        Execute(
            $"""
            SET memory_limit = '{settings.MemoryMegabytes}MB';
            SET threads = {Math.Clamp(Environment.ProcessorCount, 1, ThreadsMax)};
            SET temp_directory = {Quote(Path.Combine(folder.Path, "spilled"))};
            SET TimeZone = 'UTC';
            SET autoinstall_known_extensions = false;
            SET autoload_known_extensions = false;
            SET allowed_directories = [{path}];
            SET enable_external_access = false;
            SET lock_configuration = true;
            """
        );
    }

    public DuckDBConnection Connection => _connection;

    public DuckDBCommand Command(string sql, params ReadOnlySpan<object?> parameters)
    {
        DuckDBCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        foreach (object? parameter in parameters)
        {
            command.Parameters.Add(new DuckDBParameter(parameter ?? DBNull.Value));
        }

        return command;
    }

    /// <summary>Runs statements that no caller has a say in; values go as parameters of <see cref="Command"/>.</summary>
    public void Execute(string sql, CancellationToken cancellationToken = default)
    {
        using DuckDBCommand command = Command(sql);
        using CancellationTokenRegistration registration = cancellationToken.Register(command.Cancel);
        try
        {
            command.ExecuteNonQuery();
        }
        catch (DuckDBException) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
    }

    /// <summary>A path of ours as a literal, where a statement takes no parameter.</summary>
    public static string Quote(string path) => "'" + path.Replace("'", "''", StringComparison.Ordinal) + "'";

    public void Dispose() => _connection.Dispose();
}
