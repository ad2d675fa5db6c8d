using Xunit;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>What is committed must be what is. <c>UPDATE_SNAPSHOTS=1 ./test Snapshot</c> writes it anew; look at the difference.</summary>
internal static class Snapshot
{
    private const string UpdateVariable = "UPDATE_SNAPSHOTS";

    /// <summary>The repository's root.</summary>
    public static string Root { get; } = FindRoot();

    /// <param name="path">From the repository's root.</param>
    /// <param name="actual">What is now.</param>
    public static void AssertMatches(string path, string actual)
    {
        string file = Path.Combine(Root, path);
        actual = actual.ReplaceLineEndings("\n").TrimEnd('\n') + "\n";
        if (Environment.GetEnvironmentVariable(UpdateVariable) == "1")
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, actual);
            return;
        }

        Assert.True(File.Exists(file), $"{path} is missing: run the tests with {UpdateVariable}=1 once and commit it.");
        string expected = File.ReadAllText(file).ReplaceLineEndings("\n");
        Assert.True(
            expected == actual,
            $"{path} is not what is now; meant? Then run with {UpdateVariable}=1.\n{FirstDifference(expected, actual)}"
        );
    }

    private static string FirstDifference(string expected, string actual)
    {
        string[] was = expected.Split('\n');
        string[] now = actual.Split('\n');
        int line = was.Zip(now).TakeWhile(pair => pair.First == pair.Second).Count();
        return $"line {line + 1}\n  committed: {was.ElementAtOrDefault(line)}\n  now:       {now.ElementAtOrDefault(line)}";
    }

    private static string FindRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "UsageMonitor.slnx")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("The tests do not run inside the repository.");
    }
}
