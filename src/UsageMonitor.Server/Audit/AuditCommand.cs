using System.CommandLine;
using System.Text.Json;

namespace UsageMonitor.Server.Audit;

/// <summary><c>usage-monitor audit verify FILE</c>: checks an export without any server.</summary>
internal static class AuditCommand
{
    public const int ExitWhole = 0;
    public const int ExitFault = 1;
    public const int ExitUnreadable = 2;

    public static Command Create()
    {
        var file = new Argument<string>("FILE")
        {
            Description = "An export of the audit log in NDJSON; - is standard input.",
        };
        var keys = new Option<string?>("--keys")
        {
            Description =
                "A JSON Web Key Set of the checkpoints' keys, as /v1/audit/keys gives it, kept where the export was not. "
                + "Without it the keys in the export are believed.",
        };
        var verify = new Command(
            "verify",
            "Follows the chain of an export and names the first entry that was altered, removed, inserted or reordered. "
                + "Exit code 0: the chain is whole; 1: it is not; 2: it cannot be read."
        )
        {
            file,
            keys,
        };
        verify.SetAction(parsed =>
            Run(
                parsed.GetValue(file)!,
                parsed.GetValue(keys),
                parsed.InvocationConfiguration.Output,
                parsed.InvocationConfiguration.Error
            )
        );
        return new Command("audit", "Checks the audit log.") { verify };
    }

    /// <summary>Checks a file.</summary>
    /// <returns>The exit code.</returns>
    public static int Run(string file, string? keysFile, TextWriter output, TextWriter error)
    {
        try
        {
            Dictionary<string, JsonElement>? trusted = keysFile is null ? null : KeysOf(File.ReadAllText(keysFile));
            using TextReader reader = file == "-" ? Console.In : File.OpenText(file);
            return Run(reader, trusted, output);
        }
        catch (Exception exception)
            when (exception is IOException or UnauthorizedAccessException or JsonException or FormatException)
        {
            error.WriteLine("It cannot be read: " + exception.Message);
            return ExitUnreadable;
        }
    }

    private static int Run(TextReader reader, Dictionary<string, JsonElement>? trusted, TextWriter output)
    {
        var keys = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        var anchors = new List<CheckpointClaims>();
        AuditVerifier? verifier = null;
        Guid? enterpriseId = null;
        long number = 0;
        while (reader.ReadLine() is { } text)
        {
            number++;
            if (text.Length == 0)
            {
                continue;
            }

            AuditLine line;
            AuditRecord? record = null;
            try
            {
                line = AuditLines.Read(text);
                record = line.Entry is null ? null : AuditLines.RecordOf(line);
            }
            catch (Exception exception) when (exception is JsonException or FormatException)
            {
                output.WriteLine($"ALTERED: line {number} is no line of an export: {exception.Message}");
                return ExitFault;
            }

            if (line.Jwk is { } jwk && jwk.TryGetProperty("kid", out JsonElement keyId))
            {
                keys[keyId.GetString() ?? ""] = jwk;
            }
            else if (line.Jws is { } jws)
            {
                Dictionary<string, JsonElement> believed = trusted ?? keys;
                if (
                    CheckpointSignature.KeyIdOf(jws) is not { } id
                    || !believed.TryGetValue(id, out JsonElement key)
                    || CheckpointSignature.Read(jws, key) is not { } claims
                )
                {
                    output.WriteLine(
                        $"ALTERED: the checkpoint in line {number} was not signed by a key that is known."
                    );
                    return ExitFault;
                }

                anchors.Add(claims);
            }
            else if (record is not null)
            {
                enterpriseId ??= record.Columns.EnterpriseId;
                verifier ??= new AuditVerifier(
                    anchors.Where(claims => claims.EnterpriseId == enterpriseId).Select(claims => claims.Anchor),
                    from: BeginningOf(record, anchors)
                );
                if (record.Columns.EnterpriseId != enterpriseId)
                {
                    output.WriteLine($"INSERTED: entry {record.Sequence} in line {number} is of another enterprise.");
                    return ExitFault;
                }

                verifier.Add(record);
            }
        }

        return Tell(
            verifier ?? new AuditVerifier(anchors.Select(claims => claims.Anchor), from: 1),
            anchors.Count,
            output
        );
    }

    // A part of a chain begins where it was asked to; but what has been signed within an export is in it, so an export that begins
    // behind one of its checkpoints has lost its beginning. The checkpoint of the entry just before it tells what it goes on from.
    private static long BeginningOf(AuditRecord first, List<CheckpointClaims> anchors)
    {
        long earliest = anchors.Count == 0 ? long.MaxValue : anchors.Min(claims => claims.Sequence);
        return earliest == first.Sequence - 1 ? first.Sequence : Math.Min(first.Sequence, earliest);
    }

    private static int Tell(AuditVerifier verifier, int checkpoints, TextWriter output)
    {
        AuditVerdict verdict = verifier.End();
        if (verdict.Fault is { } fault)
        {
            output.WriteLine($"{fault.Kind}: {fault.Detail}");
            return ExitFault;
        }

        output.WriteLine(
            $"Whole: {verdict.Entries} entries, {verdict.First} to {verdict.Last}; "
                + (
                    checkpoints == 0
                        ? "no checkpoint, so that an end that was cut off would not be seen."
                        : $"{checkpoints} checkpoints, the newest at {verdict.AnchoredTo}."
                )
        );
        if (verdict.Sealed > 0)
        {
            output.WriteLine($"Of {verdict.Sealed} entries the content is not there: their key was destroyed.");
        }

        return ExitWhole;
    }

    private static Dictionary<string, JsonElement> KeysOf(string json)
    {
        using var set = JsonDocument.Parse(json);
        return set
            .RootElement.GetProperty("keys")
            .EnumerateArray()
            .ToDictionary(key => key.GetProperty("kid").GetString() ?? "", key => key.Clone(), StringComparer.Ordinal);
    }
}
