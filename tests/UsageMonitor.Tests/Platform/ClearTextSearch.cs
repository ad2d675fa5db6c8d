using System.Text;

namespace UsageMonitor.Tests.Platform;

/// <summary>Looks for secrets in bytes, in every form in which a careless program would write one.</summary>
internal sealed class ClearTextSearch
{
    private const int ChunkBytes = 4 * 1024 * 1024;
    private readonly List<(string Name, byte[] Form)> _forms = [];

    /// <param name="secrets">By what each is.</param>
    public ClearTextSearch(IEnumerable<(string Name, string Secret)> secrets)
    {
        foreach ((string name, string secret) in secrets)
        {
            byte[] utf8 = Encoding.UTF8.GetBytes(secret);
            Add(name, "UTF-8", utf8);
            Add(name, "UTF-16 LE", Encoding.Unicode.GetBytes(secret));
            Add(name, "UTF-16 BE", Encoding.BigEndianUnicode.GetBytes(secret));
            Add(name, "hex", Encoding.ASCII.GetBytes(Convert.ToHexStringLower(utf8)));
            Add(name, "HEX", Encoding.ASCII.GetBytes(Convert.ToHexString(utf8)));
            Add(name, "URL", Encoding.ASCII.GetBytes(Uri.EscapeDataString(secret)));
            for (int before = 0; before < 3; before++)
            {
                string inside = Inside64(utf8, before);
                Add(name, "base64", Encoding.ASCII.GetBytes(inside));
                Add(name, "base64url", Encoding.ASCII.GetBytes(inside.Replace('+', '-').Replace('/', '_')));
            }
        }
    }

    private int FormBytesMax => _forms.Max(form => form.Form.Length);

    /// <summary>What is found in some bytes: the names of the secrets with their forms.</summary>
    public IEnumerable<string> Find(ReadOnlySpan<byte> bytes)
    {
        var found = new List<string>();
        foreach ((string name, byte[] form) in _forms)
        {
            if (bytes.IndexOf(form) >= 0)
            {
                found.Add(name);
            }
        }

        return found;
    }

    /// <summary>What is found in a file, piece by piece; one that has gone meanwhile holds nothing.</summary>
    public IReadOnlySet<string> FindInFile(string path)
    {
        try
        {
            return FindIn(path);
        }
        catch (FileNotFoundException)
        {
            return new HashSet<string>();
        }
    }

    private HashSet<string> FindIn(string path)
    {
        var found = new HashSet<string>(StringComparer.Ordinal);
        byte[] buffer = new byte[ChunkBytes];
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        int kept = 0;
        while (file.Read(buffer, kept, buffer.Length - kept) is > 0 and int read)
        {
            int length = kept + read;
            if (buffer.AsSpan(0, length).ContainsAnyExcept((byte)0))
            {
                found.UnionWith(Find(buffer.AsSpan(0, length)));
            }

            kept = Math.Min(length, FormBytesMax - 1); // one may lie across two pieces
            buffer.AsSpan(length - kept, kept).CopyTo(buffer);
        }

        return found;
    }

    private void Add(string name, string form, byte[] bytes)
    {
        if (!_forms.Any(known => known.Form.AsSpan().SequenceEqual(bytes)))
        {
            _forms.Add(($"{name} as {form}", bytes));
        }
    }

    // The characters that depend on nothing but the secret when some bytes come before it and others after it.
    private static string Inside64(byte[] secret, int before)
    {
        string text = Convert.ToBase64String([.. new byte[before], .. secret]);
        int first = before == 0 ? 0 : before + 1;
        int last = (before + secret.Length) * 8 / 6;
        return text[first..last];
    }
}
