namespace UsageMonitor.Server.Platform;

/// <summary>Unsigned LEB128: seven bits a byte, the high bit says that more follow.</summary>
internal static class Varint
{
    /// <summary>The most bytes a 32-bit number takes.</summary>
    public const int BytesMax = 5;

    /// <returns>The bytes written.</returns>
    public static int Write(Span<byte> destination, uint number)
    {
        int length = 0;
        while (number >= 0x80)
        {
            destination[length++] = (byte)(number | 0x80);
            number >>= 7;
        }

        destination[length++] = (byte)number;
        return length;
    }

    /// <summary>Reads a number and moves past it.</summary>
    /// <exception cref="InvalidDataException">The bytes end inside a number, or it needs more than 32 bits.</exception>
    public static uint Read(ref ReadOnlySpan<byte> source)
    {
        uint number = 0;
        for (int i = 0; i < BytesMax && i < source.Length; i++)
        {
            byte next = source[i];
            number |= (uint)(next & 0x7F) << (7 * i);
            if (next < 0x80)
            {
                source = source[(i + 1)..];
                return number;
            }
        }

        throw new InvalidDataException("A number in a stored block is cut off or too long.");
    }
}
