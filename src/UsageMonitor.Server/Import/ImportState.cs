using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace UsageMonitor.Server.Import;

/// <summary>
/// How far one input has been acknowledged by one platform. A line is counted only when every line before it is, so
/// continuing after it loses nothing; what was acknowledged out of turn is sent again and deduplicated by its id.
/// </summary>
/// <param name="Path">The input, in full.</param>
/// <param name="Target">The platform's address and a fingerprint of the key: another enterprise's import is another.</param>
/// <param name="SizeBytes">With the next two: whether the input is still the same.</param>
/// <param name="ModifiedAt">When the input was last written.</param>
/// <param name="HeadSha256">Of its first <see cref="HeadBytes"/>.</param>
internal sealed record ImportState(string Path, string Target, long SizeBytes, DateTime ModifiedAt, string HeadSha256)
{
    private const int HeadBytes = 1 << 10;
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    /// <summary>Lines acknowledged, from the first on without a gap.</summary>
    public long Lines { get; init; }

    public long Accepted { get; init; }

    public long WithoutEventId { get; init; }

    /// <summary>Refused events by code.</summary>
    public IReadOnlyDictionary<string, long> Rejected { get; init; } = new Dictionary<string, long>();

    /// <summary>True when every line has been acknowledged.</summary>
    public bool Finished { get; init; }

    public static ImportState Of(string path, string target)
    {
        using FileStream file = File.OpenRead(path);
        byte[] head = new byte[HeadBytes];
        int length = file.ReadAtLeast(head, HeadBytes, throwOnEndOfStream: false);
        return new ImportState(
            System.IO.Path.GetFullPath(path),
            target,
            file.Length,
            File.GetLastWriteTimeUtc(path),
            Convert.ToHexStringLower(SHA256.HashData(head.AsSpan(0, length)))
        );
    }

    /// <summary>Whether both speak of the same bytes and the same platform, however far they came.</summary>
    public bool IsOfSameInput(ImportState other) =>
        (Path, Target, SizeBytes, ModifiedAt, HeadSha256)
        == (other.Path, other.Target, other.SizeBytes, other.ModifiedAt, other.HeadSha256);

    /// <summary>The states kept in a file: none when it does not exist.</summary>
    /// <exception cref="JsonException">The file is something else.</exception>
    public static List<ImportState> ReadAll(string statePath) =>
        File.Exists(statePath)
            ? JsonSerializer.Deserialize<List<ImportState>>(File.ReadAllBytes(statePath), Json) ?? []
            : [];

    /// <summary>Keeps this state in place of the input's former one; whoever reads the file sees the old or the new, whole.</summary>
    public void Write(string statePath)
    {
        List<ImportState> all = ReadAll(statePath);
        all.RemoveAll(other => other.Path == Path && other.Target == Target);
        all.Add(this);
        string partial = statePath + ".partial";
        File.WriteAllBytes(partial, JsonSerializer.SerializeToUtf8Bytes(all, Json));
        File.Move(partial, statePath, overwrite: true);
    }

    public static string TargetOf(Uri platform, string apiKey) =>
        $"{platform} {Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(apiKey)))[..16]}";
}
