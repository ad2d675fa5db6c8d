using System.CommandLine;
using System.Security.Cryptography;
using Npgsql;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

/// <summary><c>usage-monitor archive open</c>: a sealed file becomes plain Parquet, for whoever has the master key and the database.</summary>
internal static class ArchiveCommand
{
    private const int ConfigurationErrorExitCode = 2;

    public static Command Create()
    {
        var file = new Argument<string>("file") { Description = "A .parquet.sealed file of the archive." };
        var target = new Argument<string>("target")
        {
            Description = "Where the plain Parquet goes; it must not exist.",
        };
        var open = new Command(
            "open",
            "Opens a sealed file of the archive. Needs the master key as serve does, and ConnectionStrings__Postgres."
        )
        {
            file,
            target,
        };
        open.SetAction(
            (parsed, cancellationToken) =>
                OpenAsync(parsed.GetRequiredValue(file), parsed.GetRequiredValue(target), cancellationToken)
        );
        var command = new Command("archive", "Works on the files of the archive.");
        command.Subcommands.Add(open);
        return command;
    }

    private static async Task<int> OpenAsync(string file, string target, CancellationToken cancellationToken)
    {
        try
        {
            IConfiguration configuration = new ConfigurationBuilder().AddEnvironmentVariables().Build();
            var settings = ServerSettings.Load(configuration);
            if (settings.Postgres is null)
            {
                await Console.Error.WriteLineAsync("ConnectionStrings__Postgres: is needed.");
                return ConfigurationErrorExitCode;
            }

            WrappingKeys keys = await MasterKeySource.LoadAsync(settings, cancellationToken);
            await using var database = NpgsqlDataSource.Create(settings.Postgres);
            await OpenAsync(database, keys, file, target, cancellationToken);
            return 0;
        }
        catch (Exception exception)
            when (exception
                    is SettingsException
                        or MasterKeyException
                        or NpgsqlException
                        or IOException
                        or CryptographicException
            )
        {
            await Console.Error.WriteLineAsync(exception.Message);
            return ConfigurationErrorExitCode;
        }
    }

    private const string ReadKey = "SELECT data_key FROM enterprises WHERE enterprise_id = $1";

    /// <param name="owner">The owner's login, or a superuser's: it reads the enterprise's wrapped key.</param>
    /// <param name="keys">The master key.</param>
    /// <param name="file">Sealed.</param>
    /// <param name="target">Readable by this user only; removed when it cannot be opened.</param>
    /// <param name="cancellationToken">Cancels.</param>
    internal static async Task OpenAsync(
        NpgsqlDataSource owner,
        WrappingKeys keys,
        string file,
        string target,
        CancellationToken cancellationToken
    )
    {
        await using FileStream source = File.OpenRead(file);
        SealedIdentity identity = SealedFile.Identify(source);
        await using NpgsqlConnection connection = await owner.OpenConnectionAsync(cancellationToken);
        byte[] root =
            await RootKey.FindAsync(connection, keys, cancellationToken)
            ?? throw new MasterKeyException("The database has no root key yet.");

        // The tables hold their owner to row-level security as well; a superuser passes it.
        await using var command = new NpgsqlCommand(ReadKey, connection);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = identity.EnterpriseId });
        if (await command.ExecuteScalarAsync(cancellationToken) is not byte[] wrapped)
        {
            throw new CryptographicException(
                $"This login sees no enterprise {identity.EnterpriseId}: it must be a superuser's, or the enterprise was erased."
            );
        }

        byte[] dataKey = new MasterKey(keys, root).Unwrap(wrapped, identity.EnterpriseId);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        await using var destination = new FileStream(target, options);
        try
        {
            SealedFile.Open(source, destination, dataKey, identity, withProperties: true, cancellationToken);
        }
        catch
        {
            File.Delete(target);
            throw;
        }
    }
}
