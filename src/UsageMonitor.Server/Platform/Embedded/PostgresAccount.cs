using System.Diagnostics;
using System.Globalization;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>
/// Who PostgreSQL's processes run as. It refuses to be root, so under root they get an unprivileged account; under
/// anyone else they are simply ours.
/// </summary>
internal sealed record PostgresAccount
{
    // The first is for packagers to make; the second is what Debian's own PostgreSQL packages make; the last always exists.
    private static readonly string[] Preferred = ["usage-monitor", "postgres", "nobody"];

    /// <summary>The account to change to, or null when we already are who PostgreSQL runs as.</summary>
    public (uint User, uint Group)? ChangeTo { get; private init; }

    /// <exception cref="InvalidOperationException">Under root: the account does not exist, or is root.</exception>
    public static PostgresAccount Choose(string? name)
    {
        if (!OperatingSystem.IsLinux() || !Environment.IsPrivilegedProcess)
        {
            return new PostgresAccount();
        }

        string[][] known = [.. File.ReadLines("/etc/passwd").Select(line => line.Split(':')).Where(f => f.Length >= 4)];
        foreach (string candidate in name is null ? Preferred : [name])
        {
            if (
                Array.Find(known, fields => fields[0] == candidate) is { } found
                && uint.TryParse(found[2], NumberStyles.None, CultureInfo.InvariantCulture, out uint user)
                && uint.TryParse(found[3], NumberStyles.None, CultureInfo.InvariantCulture, out uint group)
                && user != 0
            )
            {
                return new PostgresAccount { ChangeTo = (user, group) };
            }
        }

        throw new InvalidOperationException(
            $"PostgreSQL does not run as root, and there is no other account {name ?? string.Join(", ", Preferred)}; "
                + "name one in Postgres:User."
        );
    }

    /// <summary>A program started as this account.</summary>
    /// <param name="program">The program's path.</param>
    /// <param name="workingFolder">Entered before the account is changed, so the account need not be able to walk there.</param>
    /// <param name="signalWhenParentDies">Linux: the signal it gets when the thread that started it ends, or null.</param>
    /// <remarks>
    /// <c>setsid</c> keeps the terminal's Ctrl+C away from it: we stop it last, when nobody needs it any more.
    /// <c>setpriv</c> asks for the death signal after it has changed the account, which would clear it. The environment is
    /// emptied since ours may hold secrets.
    /// </remarks>
    public ProcessStartInfo Program(string program, string workingFolder, string? signalWhenParentDies = null)
    {
        var start = new ProcessStartInfo
        {
            FileName = OperatingSystem.IsLinux() ? "/usr/bin/setsid" : program,
            WorkingDirectory = workingFolder,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
        };
        if (OperatingSystem.IsLinux())
        {
            start.ArgumentList.Add("/usr/bin/setpriv");
            start.ArgumentList.Add("--no-new-privs");
            if (ChangeTo is var (user, group))
            {
                start.ArgumentList.Add(string.Create(CultureInfo.InvariantCulture, $"--reuid={user}"));
                start.ArgumentList.Add(string.Create(CultureInfo.InvariantCulture, $"--regid={group}"));
                start.ArgumentList.Add("--clear-groups");
            }

            if (signalWhenParentDies is not null)
            {
                start.ArgumentList.Add("--pdeathsig=" + signalWhenParentDies);
            }

            start.ArgumentList.Add("--");
            start.ArgumentList.Add(program);
        }

        string? path = Environment.GetEnvironmentVariable("PATH");
        start.Environment.Clear();
        start.Environment["PATH"] = path;
        start.Environment["LC_ALL"] = "C";
        return start;
    }

    /// <summary>Gives a file or folder to the account.</summary>
    public void Own(string path)
    {
        if (ChangeTo is var (user, group))
        {
            Unix.ChangeOwner(path, user, group);
        }
    }

    /// <summary>Runs a program to its end.</summary>
    /// <returns>Its exit code and what it said on both outputs.</returns>
    public async Task<(int ExitCode, string Output)> RunAsync(
        string program,
        string workingFolder,
        string[] arguments,
        CancellationToken cancellationToken
    )
    {
        ProcessStartInfo start = Program(program, workingFolder);
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        try
        {
            process.StandardInput.Close();
            Task<string> output = process.StandardOutput.ReadToEndAsync(cancellationToken);
            Task<string> errors = process.StandardError.ReadToEndAsync(cancellationToken);
            await process.WaitForExitAsync(cancellationToken);
            return (process.ExitCode, (await output + await errors).Trim());
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }
    }
}
