using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Policies;

/// <summary>What is about to be done.</summary>
[Flags]
internal enum PolicyActions
{
    None = 0,

    /// <summary>An event is sent.</summary>
    Record = 1,

    /// <summary>It is asked in advance.</summary>
    Check = 2,
    Both = Record | Check,
}

/// <summary>Whether somebody may use a feature.</summary>
/// <param name="UserId">Who.</param>
/// <param name="ApiKeyId">The key that sends or asks, or null for a person.</param>
/// <param name="FeatureName">What.</param>
/// <param name="Action">One of <see cref="PolicyActions"/>.</param>
/// <param name="EventType">How.</param>
/// <param name="TimestampMicroseconds">When: microseconds since 1970-01-01Z.</param>
/// <param name="Address">Where the client sends from.</param>
internal readonly record struct PolicyQuestion(
    Guid UserId,
    Guid? ApiKeyId,
    string FeatureName,
    PolicyActions Action,
    string EventType,
    long TimestampMicroseconds,
    ClientAddress Address
);

/// <summary>The answer to a <see cref="PolicyQuestion"/>.</summary>
/// <param name="IsAllowed">They may.</param>
/// <param name="Code">One of <see cref="DecisionCodes"/>.</param>
/// <param name="PolicyId">The policy that says so, or null when none does.</param>
/// <param name="PolicyVersion">The policy's version.</param>
internal readonly record struct PolicyDecision(bool IsAllowed, string Code, Guid? PolicyId, int? PolicyVersion)
{
    public static readonly PolicyDecision PermittedByDefault = new(true, DecisionCodes.PolicyDefault, null, null);
    public static readonly PolicyDecision ForbiddenByDefault = new(false, DecisionCodes.PolicyDefault, null, null);
}

/// <summary>An address as a number; IPv4 is mapped into IPv6, as a socket for both sees it.</summary>
internal readonly struct ClientAddress
{
    private const int Ipv4MappedBits = 96;
    private static readonly UInt128 s_ipv4 = (UInt128)0xFFFF << 32;
    private readonly UInt128 _value;

    private ClientAddress(UInt128 value) => (_value, IsKnown) = (value, true);

    public bool IsKnown { get; }

    private bool IsIpv4 => _value >> 32 == 0xFFFF;

    public static ClientAddress Of(IPAddress? address)
    {
        if (address is null)
        {
            return default;
        }

        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out int written);
        return new ClientAddress(
            written == 4
                ? s_ipv4 | BinaryPrimitives.ReadUInt32BigEndian(bytes)
                : BinaryPrimitives.ReadUInt128BigEndian(bytes)
        );
    }

    /// <summary>Addresses that begin with the same bits, of one of the two families.</summary>
    public readonly struct Network
    {
        private readonly UInt128 _prefix;
        private readonly UInt128 _mask;
        private readonly bool _isIpv4;

        public Network(IPNetwork network)
        {
            _isIpv4 = network.BaseAddress.AddressFamily == AddressFamily.InterNetwork;
            int bits = network.PrefixLength + (_isIpv4 ? Ipv4MappedBits : 0);
            _mask = bits == 0 ? 0 : UInt128.MaxValue << (128 - bits);
            _prefix = Of(network.BaseAddress)._value & _mask;
        }

        // ::/0 is every address of IPv6, not also those of IPv4.
        public bool Contains(in ClientAddress address) =>
            address.IsKnown && address.IsIpv4 == _isIpv4 && (address._value & _mask) == _prefix;
    }
}
