using System.Reflection;
using System.Text.RegularExpressions;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Security;

/// <summary>
/// <c>docs/security.md</c> names a test for what it claims, or says that there is none. A test that is renamed or removed takes
/// the claim with it.
/// </summary>
public sealed partial class SecurityDocTests
{
    private const string Page = "docs/security.md";
    private const int RowsMin = 60;

    /// <summary>How the third column begins when no test is named.</summary>
    private static readonly string[] s_withoutTest = ["by design", "not yet", "`./bench"];

    [Fact]
    public void Rows_WhenCounted_ShouldBeThoseOfAWholePage()
    {
        int count = Rows().Count;

        Assert.True(count >= RowsMin, $"{Page} has {count} rows that name a requirement; {RowsMin} are the least.");
    }

    [Fact]
    public void Requirements_WhenListed_ShouldBeIdsOfAsvsNamedOnce()
    {
        List<Row> rows = Rows();
        var wrong = rows.Where(row => !RequirementId().IsMatch(row.Requirement))
            .Select(row => $"line {row.Line}: «{row.Requirement}» is no id such as 6.2.1")
            .ToList();
        wrong.AddRange(
            rows.GroupBy(row => row.Requirement, StringComparer.Ordinal)
                .Where(same => same.Count() > 1)
                .Select(same => $"{same.Key} is in lines {string.Join(", ", same.Select(row => row.Line))}")
        );

        AssertNone(wrong);
    }

    [Fact]
    public void Proofs_WhenListed_ShouldBeTestsThatExistOrSayThatThereAreNone()
    {
        var sources = new Lazy<string[]>(EndToEndSources);
        List<string> wrong = [];
        foreach (Row row in Rows())
        {
            if (s_withoutTest.Any(words => row.Proof.StartsWith(words, StringComparison.Ordinal)))
            {
                continue;
            }

            if (!OnlyTests().IsMatch(row.Proof))
            {
                wrong.Add($"line {row.Line}: {row.Requirement} is proven by «{row.Proof}»");
                continue;
            }

            wrong.AddRange(
                TestName()
                    .Matches(row.Proof)
                    .Where(test => !Exists(test.Groups["class"].Value, test.Groups["method"].Value, sources))
                    .Select(test => $"line {row.Line}: {row.Requirement} names {test.Value}, which there is not")
            );
        }

        AssertNone(wrong);
    }

    private static void AssertNone(List<string> wrong) =>
        Assert.True(wrong.Count == 0, $"{Page}:\n  {string.Join("\n  ", wrong)}");

    /// <summary>The rows of every table whose head is that of the requirements.</summary>
    private static List<Row> Rows()
    {
        List<Row> rows = [];
        string[] lines = File.ReadAllLines(Path.Combine(Snapshot.Root, Page));
        bool inside = false;
        for (int index = 0; index < lines.Length; index++)
        {
            string line = lines[index].Trim();
            if (!line.StartsWith('|'))
            {
                inside = false;
                continue;
            }

            string[] cells = [.. line.Trim('|').Split('|').Select(cell => cell.Trim())];
            if (cells[0] == "requirement")
            {
                inside = true;
            }
            else if (inside && !cells.All(cell => cell.All(character => character is '-' or ':')))
            {
                Assert.True(cells.Length == 3, $"{Page}, line {index + 1}: three columns are expected: {line}");
                rows.Add(new Row(index + 1, cells[0], cells[2]));
            }
        }

        return rows;
    }

    private static bool Exists(string name, string method, Lazy<string[]> sources)
    {
        Type[] types =
        [
            .. typeof(SecurityDocTests).Assembly.GetTypes().Where(type => !type.IsNested && type.Name == name),
        ];
        if (types.Length > 0)
        {
            // A simple name that two folders have would not say which test is meant.
            return types.Length == 1
                && types[0]
                    .GetMethods(BindingFlags.Public | BindingFlags.Instance)
                    .Any(candidate => candidate.Name == method);
        }

        string declared = $"class {name}";
        return sources.Value.Any(source =>
            source.Contains(declared, StringComparison.Ordinal)
            && source.Contains($" {method}(", StringComparison.Ordinal)
        );
    }

    private static string[] EndToEndSources() =>
        [
            .. Directory
                .EnumerateFiles(
                    Path.Combine(Snapshot.Root, "tests", "UsageMonitor.EndToEnd"),
                    "*.cs",
                    SearchOption.AllDirectories
                )
                .Select(File.ReadAllText),
        ];

    [GeneratedRegex(@"^\d{1,2}\.\d{1,2}\.\d{1,2}$", RegexOptions.CultureInvariant)]
    private static partial Regex RequirementId();

    [GeneratedRegex(
        @"^`[A-Za-z0-9]+\.[A-Za-z0-9_]+`(, `[A-Za-z0-9]+\.[A-Za-z0-9_]+`)*$",
        RegexOptions.CultureInvariant
    )]
    private static partial Regex OnlyTests();

    [GeneratedRegex(@"(?<class>[A-Za-z0-9]+)\.(?<method>[A-Za-z0-9_]+)", RegexOptions.CultureInvariant)]
    private static partial Regex TestName();

    /// <param name="Line">Where in the page, from one.</param>
    /// <param name="Requirement">The requirement's id.</param>
    /// <param name="Proof">The third column.</param>
    private sealed record Row(int Line, string Requirement, string Proof);
}
