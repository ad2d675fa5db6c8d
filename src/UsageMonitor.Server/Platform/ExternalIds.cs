using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>A user's id as the enterprise knows it (an e-mail address, an SSO subject), sealed with the enterprise's key.</summary>
internal static class ExternalIds
{
    private static ReadOnlySpan<byte> Purpose => "external-id"u8;

    public static byte[] Seal(EnterpriseInfo enterprise, string externalId) =>
        Sealing.Seal(enterprise.DataKey, Encoding.UTF8.GetBytes(externalId), Context(enterprise.EnterpriseId));

    public static string Open(EnterpriseInfo enterprise, byte[] sealedId) =>
        Encoding.UTF8.GetString(Sealing.Open(enterprise.DataKey, sealedId, Context(enterprise.EnterpriseId)));

    private static byte[] Context(Guid enterpriseId) => [.. enterpriseId.ToByteArray(), .. Purpose];
}
