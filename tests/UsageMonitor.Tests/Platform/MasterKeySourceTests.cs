using System.Diagnostics;
using System.Security.Cryptography;
using Microsoft.Extensions.Configuration;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class MasterKeySourceTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("usage-monitor-master-key-").FullName;
    private readonly byte[] _key = RandomNumberGenerator.GetBytes(32);

    private string Base64 => Convert.ToBase64String(_key);

    private string Id => new WrappingKeys([_key]).FirstId;

    private string KeyFile => Path.Combine(_folder, MasterKeySource.FileName);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task LoadAsync_WhenNothingIsSet_ShouldMakeAFileThatOnlyItsOwnerReads()
    {
        WrappingKeys made = await LoadAsync();
        WrappingKeys again = await LoadAsync();

        Assert.Equal(made.Ids, again.Ids);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(KeyFile));
    }

    [Fact]
    public async Task LoadAsync_WhenTheFileHasSeveralLines_ShouldWrapWithTheFirst()
    {
        await File.WriteAllTextAsync(
            KeyFile,
            $"{Base64}\n{Convert.ToBase64String(RandomNumberGenerator.GetBytes(32))}\n"
        );

        WrappingKeys keys = await LoadAsync();

        Assert.Equal((Id, 2), (keys.FirstId, keys.Ids.Count));
    }

    [Fact]
    public async Task LoadAsync_WhenTheSettingIsThere_ShouldNotTouchTheFile()
    {
        Assert.Equal(Id, (await LoadAsync(("MasterKey", Base64))).FirstId);
        Assert.False(File.Exists(KeyFile));
    }

    [Fact]
    public async Task LoadAsync_WhenACommandPrintsTheKey_ShouldTakeItWithoutAShell()
    {
        // What a shell would do with the argument shows: here it is one word, dollar and all.
        string file = Path.Combine(_folder, "$(id) key");
        await File.WriteAllTextAsync(file, Base64 + "\n");

        Assert.Equal(Id, (await LoadAsync(("MasterKeyCommand", $"cat '{file}'"))).FirstId);
        Assert.False(File.Exists(KeyFile));
    }

    [Theory]
    [InlineData("cat /nonexistent/key", "ended with 1")]
    [InlineData("/nonexistent/program", "cannot be started")]
    [InlineData("echo c2hvcnQ=", "MasterKeyCommand's output: a key must be 32 bytes")]
    [InlineData("head -c 200000 /dev/zero", "printed more than")]
    public async Task LoadAsync_WhenTheCommandFails_ShouldSayWhy(string command, string reason)
    {
        MasterKeyException exception = await Assert.ThrowsAsync<MasterKeyException>(() =>
            LoadAsync(("MasterKeyCommand", command))
        );

        Assert.Contains(reason, exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("c2hvcnQ=", exception.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(KeyFile));
    }

    [Fact]
    public async Task RunAsync_WhenTheProgramDoesNotEnd_ShouldEndItAndSaySo()
    {
        long begin = Stopwatch.GetTimestamp();

        MasterKeyException exception = await Assert.ThrowsAsync<MasterKeyException>(() =>
            MasterKeySource.RunAsync("sleep 600", TimeSpan.FromMilliseconds(200), TestContext.Current.CancellationToken)
        );

        Assert.Contains("did not end within", exception.Message, StringComparison.Ordinal);
        Assert.True(Stopwatch.GetElapsedTime(begin) < TimeSpan.FromSeconds(300));
    }

    [Theory]
    [InlineData("aws kms decrypt --output text", new[] { "aws", "kms", "decrypt", "--output", "text" })]
    [InlineData("  a  'b c' \"d 'e'\" f\"g h\" ''", new[] { "a", "b c", "d 'e'", "fg h", "" })]
    public void Split_WhenThereAreQuotes_ShouldKeepWhatIsInThemTogether(string command, string[] words) =>
        Assert.Equal(words, MasterKeySource.Split(command));

    [Theory]
    [InlineData("MasterKeyCommand", "cat 'key", "MasterKeyCommand: a quote is left open")]
    [InlineData("MasterKeyCommand", "''", "MasterKeyCommand: names no program")]
    [InlineData("MasterKey", "c2hvcnQ=", "MasterKey: a key must be 32 bytes")]
    public void Load_WhenASettingIsWrong_ShouldNameItWithAllOtherErrors(string setting, string value, string error)
    {
        SettingsException exception = Assert.Throws<SettingsException>(() => Settings((setting, value), ("Port", "x")));

        Assert.Contains(error, exception.Message, StringComparison.Ordinal);
        Assert.Contains("Port: 'x'", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_WhenTwoSourcesAreSetOrTheFileIsWrong_ShouldSaySo()
    {
        SettingsException two = Assert.Throws<SettingsException>(() =>
            Settings(("MasterKey", Base64), ("MasterKeyCommand", "cat key"))
        );
        File.WriteAllText(KeyFile, "no key");
        SettingsException file = Assert.Throws<SettingsException>(() => Settings());

        Assert.Contains("only one of them", two.Message, StringComparison.Ordinal);
        Assert.Contains($"{KeyFile}: a key must be base64", file.Message, StringComparison.Ordinal);
    }

    private Task<WrappingKeys> LoadAsync(params (string, string)[] settings) =>
        MasterKeySource.LoadAsync(Settings(settings), TestContext.Current.CancellationToken);

    private ServerSettings Settings(params (string Key, string Value)[] settings) =>
        ServerSettings.Load(
            new ConfigurationBuilder()
                .AddInMemoryCollection([
                    new("Data", _folder),
                    .. settings.Select(setting => new KeyValuePair<string, string?>(setting.Key, setting.Value)),
                ])
                .Build()
        );
}
