using System.Text;
using System.Text.Json;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Audit;

/// <summary>
/// Writes a part of the chain. In NDJSON checkpoints and keys come first, one of them signed just now: so also an export whose end
/// was cut off is told from a whole one.
/// </summary>
internal sealed class AuditExport(Database database, AuditCheckpoints checkpoints)
{
    public const string NdJson = "ndjson";
    public const string Csv = "csv";
    public const string Cef = "cef";
    private const int CheckpointsMax = 10_000;
    private static readonly byte[] s_newLine = [(byte)'\n'];

    public static string? MediaTypeOf(string format) =>
        format switch
        {
            NdJson => "application/x-ndjson",
            Csv => "text/csv; charset=utf-8",
            Cef => "text/plain; charset=utf-8",
            _ => null,
        };

    public async Task WriteAsync(
        Stream stream,
        EnterpriseInfo enterprise,
        string format,
        long from,
        long? to,
        CancellationToken cancellationToken
    )
    {
        Checkpoint? signed = await checkpoints.SignAsync(enterprise.EnterpriseId, cancellationToken);
        long last = Math.Min(to ?? long.MaxValue, signed?.Sequence ?? 0);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        from = Math.Max(
            from,
            (await AuditCheckpoints.TrimmedAsync(own, enterprise.EnterpriseId, cancellationToken)).Through + 1
        );
        if (format == NdJson)
        {
            foreach (JsonElement jwk in (await AuditCheckpoints.KeysAsync(own, cancellationToken)).Values)
            {
                await LineAsync(stream, AuditLines.Json(jwk), cancellationToken);
            }

            List<Checkpoint> kept = await AuditCheckpoints.ListAsync(
                own,
                enterprise.EnterpriseId,
                last + 1,
                from - 1,
                CheckpointsMax,
                cancellationToken
            );
            foreach (Checkpoint checkpoint in kept)
            {
                await LineAsync(stream, AuditLines.Json(checkpoint), cancellationToken);
            }
        }
        else if (format == Csv)
        {
            await LineAsync(stream, AuditLines.CsvHeader, cancellationToken);
        }

        await foreach (
            AuditRecord record in AuditReader.ReadAsync(
                sql => own.Command(sql),
                enterprise.EnterpriseId,
                enterprise.DataKey,
                from,
                last,
                cancellationToken
            )
        )
        {
            string line =
                format == NdJson ? AuditLines.Json(record)
                : format == Csv ? AuditLines.Csv(record)
                : AuditLines.Cef(record);
            await LineAsync(stream, line, cancellationToken);
        }
    }

    private static async Task LineAsync(Stream stream, string line, CancellationToken cancellationToken)
    {
        await stream.WriteAsync(Encoding.UTF8.GetBytes(line), cancellationToken);
        await stream.WriteAsync(s_newLine, cancellationToken);
    }
}
