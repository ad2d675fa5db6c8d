using System.ComponentModel;
using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>
/// Where the master key comes from, exactly one of: the setting <c>MasterKey</c>; what the program <c>MasterKeyCommand</c>
/// prints, such as a KMS's client; the file <c>master.key</c> in the data folder, made on the first start.
/// </summary>
internal static class MasterKeySource
{
    public const string FileName = "master.key";
    public const int CommandSecondsMax = 30;
    private const int OutputCharactersMax = 64 * 1024;
    private const int QuotedErrorCharactersMax = 500;

    /// <exception cref="MasterKeyException">It cannot be had; the message says why, and never quotes a key.</exception>
    public static async Task<WrappingKeys> LoadAsync(ServerSettings settings, CancellationToken cancellationToken)
    {
        if (settings.MasterKey is { } given)
        {
            return Parse(given, "MasterKey");
        }

        return settings.MasterKeyCommand is { } command
            ? Parse(
                await RunAsync(command, TimeSpan.FromSeconds(CommandSecondsMax), cancellationToken),
                "MasterKeyCommand's output"
            )
            : Parse(await ReadFileAsync(settings.DataFolder, cancellationToken), FileName);
    }

    /// <summary>What can be found wrong without starting anything.</summary>
    public static void Check(ServerSettings settings, List<string> errors)
    {
        string file = Path.Combine(settings.DataFolder, FileName);
        try
        {
            if (settings is { MasterKey: not null, MasterKeyCommand: not null })
            {
                errors.Add("MasterKey, MasterKeyCommand: only one of them can be where the key comes from.");
            }

            if (settings.MasterKey is { } given)
            {
                WrappingKeys.Parse(given);
            }
            else if (settings.MasterKeyCommand is { } command)
            {
                Split(command);
            }
            else if (File.Exists(file))
            {
                WrappingKeys.Parse(File.ReadAllText(file));
            }
        }
        catch (FormatException exception)
        {
            string name =
                settings.MasterKey is not null ? "MasterKey"
                : settings.MasterKeyCommand is not null ? "MasterKeyCommand"
                : file;
            errors.Add($"{name}: {exception.Message}.");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            errors.Add($"{file}: cannot be read: {exception.Message}");
        }
    }

    /// <summary>A program and its arguments, as written: separated by blanks, in quotes where one holds a blank. No shell looks at them.</summary>
    /// <exception cref="FormatException">A quote is left open, or there is no program.</exception>
    internal static IReadOnlyList<string> Split(string command)
    {
        var words = new List<string>();
        var word = new StringBuilder();
        bool inWord = false;
        char quote = '\0';
        foreach (char character in command)
        {
            if (quote == '\0' && char.IsWhiteSpace(character))
            {
                if (inWord)
                {
                    words.Add(word.ToString());
                    word.Clear();
                }

                inWord = false;
            }
            else if (quote == '\0' && character is '"' or '\'')
            {
                (quote, inWord) = (character, true);
            }
            else if (character == quote)
            {
                quote = '\0';
            }
            else
            {
                word.Append(character);
                inWord = true;
            }
        }

        if (quote != '\0')
        {
            throw new FormatException("a quote is left open");
        }

        if (inWord)
        {
            words.Add(word.ToString());
        }

        return words is [{ Length: > 0 }, ..] ? words : throw new FormatException("names no program");
    }

    /// <summary>Runs the program and takes what it prints.</summary>
    /// <exception cref="MasterKeyException">It cannot be started, fails, prints too much or takes too long.</exception>
    internal static async Task<string> RunAsync(string command, TimeSpan timeMax, CancellationToken cancellationToken)
    {
        IReadOnlyList<string> words = Split(command);
        using Process process = Start(words);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(timeMax);
        try
        {
            process.StandardInput.Close();
            Task<string> output = ReadAsync(process.StandardOutput, deadline.Token);
            Task<string> error = ReadAsync(process.StandardError, deadline.Token);
            await Task.WhenAll(output, error, process.WaitForExitAsync(deadline.Token));
            string said = Quoted(await error);
            return process.ExitCode == 0
                ? await output
                : throw new MasterKeyException($"MasterKeyCommand: {words[0]} ended with {process.ExitCode}: {said}");
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new MasterKeyException(
                $"MasterKeyCommand: {words[0]} did not end within {timeMax.TotalSeconds:0} seconds."
            );
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    private static Process Start(IReadOnlyList<string> words)
    {
        try
        {
            return Process.Start(
                new ProcessStartInfo(words[0], words.Skip(1))
                {
                    RedirectStandardInput = true,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                    UseShellExecute = false,
                }
            )!;
        }
        catch (Win32Exception exception)
        {
            throw new MasterKeyException(
                $"MasterKeyCommand: {words[0]} cannot be started: {exception.Message}.",
                exception
            );
        }
    }

    private static async Task<string> ReadAsync(StreamReader reader, CancellationToken cancellationToken)
    {
        char[] characters = new char[OutputCharactersMax + 1];
        int length = await reader.ReadBlockAsync(characters, cancellationToken);
        return length <= OutputCharactersMax
            ? new string(characters, 0, length)
            : throw new MasterKeyException($"MasterKeyCommand: printed more than {OutputCharactersMax} characters.");
    }

    private static string Quoted(string error)
    {
        string text = error.Trim();
        return text.Length == 0 ? "it said nothing on standard error."
            : text.Length > QuotedErrorCharactersMax ? text[..QuotedErrorCharactersMax] + "…"
            : text;
    }

    private static WrappingKeys Parse(string text, string name)
    {
        try
        {
            return WrappingKeys.Parse(text);
        }
        catch (FormatException exception)
        {
            throw new MasterKeyException($"{name}: {exception.Message}.", exception);
        }
    }

    private static async Task<string> ReadFileAsync(string dataFolder, CancellationToken cancellationToken)
    {
        string path = Path.Combine(dataFolder, FileName);
        try
        {
            if (!File.Exists(path))
            {
                Make(dataFolder, path);
            }

            return await File.ReadAllTextAsync(path, cancellationToken);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new MasterKeyException($"{path}: {exception.Message}", exception);
        }
    }

    // Readable by its owner only, and whole or not at all.
    private static void Make(string dataFolder, string path)
    {
        Directory.CreateDirectory(dataFolder);
        string partial = path + ".partial";
        File.Delete(partial);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        using (var file = new FileStream(partial, options))
        {
            file.Write(
                Encoding.ASCII.GetBytes(Convert.ToBase64String(RandomNumberGenerator.GetBytes(MasterKey.KeyBytes)))
            );
            file.Flush(flushToDisk: true);
        }

        File.Move(partial, path, overwrite: false);
    }
}
