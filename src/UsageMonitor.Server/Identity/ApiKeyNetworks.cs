using System.Globalization;
using System.Net.Sockets;
using IPAddress = System.Net.IPAddress;
using IPNetwork = System.Net.IPNetwork;

namespace UsageMonitor.Server.Identity;

/// <summary>Where an API key may be used from: networks as people write them, and the one form in which they are kept.</summary>
internal static class ApiKeyNetworks
{
    public const int NetworksMax = 20;
    private const int Ipv4Bits = 32;
    private const int Ipv6Bits = 128;
    private const int MappedPrefixBits = 96;
    private const int CharactersMax = 49; // the longest IPv6 address and its prefix

    /// <summary>Reads networks, or tells which of them is none.</summary>
    /// <param name="texts">Such as <c>10.1.0.0/16</c>, <c>2001:db8::/32</c>, or an address alone; null and none: anywhere.</param>
    /// <param name="networks">Each once, without bits beyond the prefix, IPv4 as IPv4; null: anywhere.</param>
    /// <param name="wrong">What is wrong, in words.</param>
    public static bool TryRead(IReadOnlyList<string>? texts, out IPNetwork[]? networks, out string wrong)
    {
        networks = null;
        wrong = "";
        if (texts is null or [])
        {
            return true;
        }

        if (texts.Count > NetworksMax)
        {
            wrong = $"networks may have {NetworksMax} entries.";
            return false;
        }

        var read = new List<IPNetwork>();
        for (int i = 0; i < texts.Count; i++)
        {
            if (!TryRead(texts[i], out IPNetwork network))
            {
                wrong = $"networks[{i}] must be a network such as 10.1.0.0/16 or 2001:db8::/32, or an address.";
                return false;
            }

            read.Add(network);
        }

        networks = [.. read.Distinct()];
        return true;
    }

    private static bool TryRead(string? text, out IPNetwork network)
    {
        network = default;
        string[] parts = text is { Length: > 0 and <= CharactersMax } ? text.Trim().Split('/') : [];
        if (parts.Length is 0 or > 2 || !TryReadAddress(parts[0], out IPAddress address))
        {
            return false;
        }

        int bits = address.AddressFamily == AddressFamily.InterNetwork ? Ipv4Bits : Ipv6Bits;
        int prefix = bits;
        if (
            parts.Length == 2
            && (!int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out prefix) || prefix > bits)
        )
        {
            return false;
        }

        // IPv4 in IPv6's clothes: callers are compared as IPv4 too.
        if (address.IsIPv4MappedToIPv6)
        {
            if (prefix < MappedPrefixBits)
            {
                return false;
            }

            (address, prefix) = (address.MapToIPv4(), prefix - MappedPrefixBits);
        }

        network = new IPNetwork(Masked(address, prefix), prefix);
        return true;
    }

    // What inet_aton takes beside four decimal numbers (0x0a.1, 167772161, 010.1.2.3) means something else to half of its readers.
    private static bool TryReadAddress(string text, out IPAddress address) =>
        IPAddress.TryParse(text, out address!)
        && (
            address.AddressFamily == AddressFamily.InterNetwork
                ? address.ToString() == text
                : !text.Contains('%', StringComparison.Ordinal) && !text.Contains('[', StringComparison.Ordinal)
        );

    private static IPAddress Masked(IPAddress address, int prefix)
    {
        byte[] bytes = address.GetAddressBytes();
        for (int i = 0; i < bytes.Length; i++)
        {
            int kept = Math.Clamp(prefix - (i * 8), 0, 8);
            bytes[i] &= (byte)(0xFF << (8 - kept));
        }

        return new IPAddress(bytes);
    }
}
