using System.Globalization;

namespace UsageMonitor.Server.Platform.Embedded;

/// <summary>
/// One instance a data folder: an exclusive lock of the operating system on <c>.lock</c>, which ends with our process
/// however it ends. The holder's process id stands beside it, for the message only.
/// </summary>
internal sealed class DataFolderLock : IDisposable
{
    private readonly FileStream _file;

    private DataFolderLock(FileStream file) => _file = file;

    /// <exception cref="DataFolderInUseException">Another instance holds it.</exception>
    public static DataFolderLock Take(string dataFolder)
    {
        string path = Path.Combine(dataFolder, ".lock");
        FileStream file;
        try
        {
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException exception) when (File.Exists(path))
        {
            throw new DataFolderInUseException(dataFolder, ReadHolder(path), exception);
        }

        File.WriteAllText(HolderPath(path), Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
        return new DataFolderLock(file);
    }

    public void Dispose() => _file.Dispose();

    private static string HolderPath(string path) => path + ".pid";

    private static int? ReadHolder(string path)
    {
        try
        {
            return int.Parse(File.ReadAllText(HolderPath(path)), CultureInfo.InvariantCulture);
        }
        catch (Exception exception) when (exception is IOException or FormatException)
        {
            return null;
        }
    }
}

/// <summary>Another process works in the data folder.</summary>
internal sealed class DataFolderInUseException(string dataFolder, int? processId, Exception? inner = null)
    : Exception(
        $"The data folder {dataFolder} is in use by process {processId?.ToString(CultureInfo.InvariantCulture) ?? "unknown"}; "
            + "stop that one, or choose another folder with --data.",
        inner
    )
{
    public string DataFolder { get; } = dataFolder;

    public int? ProcessId { get; } = processId;
}
