using System.Text.Json;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>An entry as it is kept or exported, not yet known to be genuine.</summary>
/// <param name="Columns">What is hashed in the clear.</param>
/// <param name="PreviousHash">As the entry says.</param>
/// <param name="Hash">As the entry says.</param>
/// <param name="Salt">Of the content; null when the content cannot be read any more.</param>
/// <param name="Content">Canonical JSON; null when it cannot be read any more.</param>
internal sealed record AuditRecord(
    AuditColumns Columns,
    byte[] PreviousHash,
    byte[] Hash,
    byte[]? Salt,
    string? Content
)
{
    public long Sequence => Columns.Sequence;

    /// <summary>The content's members, or null.</summary>
    public JsonElement? Members
    {
        get
        {
            if (Content is null)
            {
                return null;
            }

            using var document = JsonDocument.Parse(Content);
            return document.RootElement.Clone();
        }
    }

    /// <summary>Opens what is sealed; content that does not open is content that somebody has changed.</summary>
    public static (byte[]? Salt, string? Content) Open(
        byte[]? dataKey,
        Guid enterpriseId,
        byte[] contentHash,
        byte[] sealedContent
    )
    {
        if (dataKey is null)
        {
            return (null, null);
        }

        try
        {
            byte[] plain = Sealing.Open(dataKey, sealedContent, AuditChain.SealContext(enterpriseId, contentHash));
            return (
                plain[..AuditChain.SaltBytes],
                System.Text.Encoding.UTF8.GetString(plain.AsSpan(AuditChain.SaltBytes))
            );
        }
        catch (Exception exception)
            when (exception is System.Security.Cryptography.CryptographicException or ArgumentException)
        {
            return ([], "");
        }
    }
}

/// <summary>A signed statement: at this sequence the chain's hash was this.</summary>
/// <param name="PreviousHash">The hash before it, which tells whether that entry alone is another; null: not said.</param>
internal sealed record AuditAnchor(long Sequence, byte[] Hash, byte[]? PreviousHash, DateTimeOffset SignedAt);
