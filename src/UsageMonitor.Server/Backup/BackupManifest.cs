using System.Text.Json;

namespace UsageMonitor.Server.Backup;

/// <summary>A file of a backup.</summary>
/// <param name="Path">Below the cluster, with slashes.</param>
/// <param name="Bytes">How long it is.</param>
/// <param name="Sha256">Of what was written, in hexadecimal digits.</param>
internal sealed record BackedUpFile(string Path, long Bytes, string Sha256);

/// <summary>What a base backup is made of; a folder without it is no backup.</summary>
/// <param name="Id">The backup's name: the instant at which it began.</param>
/// <param name="StartedAt">From here on its changes are in the WAL.</param>
/// <param name="StoppedAt">Restored to anything from here on it is consistent.</param>
/// <param name="FirstWal">The first segment that a restore needs.</param>
/// <param name="LastWal">The last one without which it cannot be restored at all.</param>
/// <param name="PostgresVersion">The major version that wrote it.</param>
/// <param name="SystemIdentifier">The cluster's.</param>
/// <param name="MasterKeyId">Derived from the master key, and tells nothing of it: the key that opens what is in here.</param>
/// <param name="Folders">The cluster's folders, the empty ones too.</param>
/// <param name="Files">All of the cluster's files.</param>
internal sealed record BackupManifest(
    string Id,
    DateTimeOffset StartedAt,
    DateTimeOffset StoppedAt,
    string FirstWal,
    string LastWal,
    int PostgresVersion,
    string SystemIdentifier,
    string MasterKeyId,
    IReadOnlyList<string> Folders,
    IReadOnlyList<BackedUpFile> Files
)
{
    public const string FileName = "manifest.json";
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, s_json);

    /// <exception cref="BackupException">It cannot be read.</exception>
    public static BackupManifest Read(string file)
    {
        try
        {
            return JsonSerializer.Deserialize<BackupManifest>(File.ReadAllBytes(file), s_json)
                ?? throw new BackupException($"{file}: is no manifest.");
        }
        catch (Exception exception) when (exception is JsonException or IOException)
        {
            throw new BackupException($"{file}: {exception.Message}", exception);
        }
    }
}

/// <summary>A backup or a restore that cannot be done; the message says why, for the operator.</summary>
internal sealed class BackupException(string message, Exception? inner = null) : Exception(message, inner);
