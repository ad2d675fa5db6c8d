using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Processing;

/// <summary>A set of users of one enterprise, by their ordinals; exact, and cheap to unite and count.</summary>
internal sealed class UserSet
{
    private const byte Sparse = 0;
    private const byte Dense = 1;
    private ulong[] _words = [];

    public void Add(int ordinal)
    {
        Reserve((ordinal >> 6) + 1);
        _words[ordinal >> 6] |= 1UL << (ordinal & 63);
    }

    /// <summary>The members in ascending order.</summary>
    public int[] ToArray() => Members(Count(), _words.Length);

    public void UnionWith(UserSet other)
    {
        Reserve(other._words.Length);
        Or(_words, other._words);
    }

    public int Count()
    {
        int count = 0;
        foreach (ulong word in _words)
        {
            count += BitOperations.PopCount(word);
        }

        return count;
    }

    /// <summary>Writes <c>form (1) ‖ length (varint) ‖ …</c>: the gaps between members as varints, or the words, whichever is shorter.</summary>
    public void WriteTo(IBufferWriter<byte> writer)
    {
        int words = _words.Length;
        while (words > 0 && _words[words - 1] == 0)
        {
            words--;
        }

        int count = Count();

        // Gaps of dense small sets take a byte each, so eight words hold as much as 64 members; estimated, not encoded twice.
        if (count < words * sizeof(ulong))
        {
            WriteMembers(writer, Members(count, words));
            return;
        }

        Span<byte> head = writer.GetSpan(1 + Varint.BytesMax);
        head[0] = Dense;
        writer.Advance(1 + Varint.Write(head[1..], (uint)words));
        Span<byte> body = writer.GetSpan(words * sizeof(ulong));
        for (int i = 0; i < words; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(body[(i * sizeof(ulong))..], _words[i]);
        }

        writer.Advance(words * sizeof(ulong));
    }

    /// <summary>Adds the members of a written set and moves past it.</summary>
    public void UnionWith(ref ReadOnlySpan<byte> source)
    {
        byte form = source[0];
        source = source[1..];
        int length = checked((int)Varint.Read(ref source));
        if (form == Dense)
        {
            Reserve(length);
            ReadOnlySpan<byte> body = source[..(length * sizeof(ulong))];
            if (BitConverter.IsLittleEndian && body.Length % sizeof(ulong) == 0)
            {
                Or(_words, MemoryMarshal.Cast<byte, ulong>(body));
            }
            else
            {
                for (int i = 0; i < length; i++)
                {
                    _words[i] |= BinaryPrimitives.ReadUInt64LittleEndian(body[(i * sizeof(ulong))..]);
                }
            }

            source = source[body.Length..];
            return;
        }

        int ordinal = -1;
        for (int i = 0; i < length; i++)
        {
            ordinal += checked((int)Varint.Read(ref source)) + 1;
            Add(ordinal);
        }
    }

    /// <summary>Moves past a written set without reading it.</summary>
    public static void Skip(ref ReadOnlySpan<byte> source)
    {
        byte form = source[0];
        source = source[1..];
        int length = checked((int)Varint.Read(ref source));
        if (form == Dense)
        {
            source = source[(length * sizeof(ulong))..];
            return;
        }

        for (int i = 0; i < length; i++)
        {
            Varint.Read(ref source);
        }
    }

    /// <summary>Writes members as they are given, in ascending order without repeats, without a set being made of them.</summary>
    public static void WriteMembers(IBufferWriter<byte> writer, ReadOnlySpan<int> ascending)
    {
        Span<byte> head = writer.GetSpan(1 + Varint.BytesMax);
        head[0] = Sparse;
        writer.Advance(1 + Varint.Write(head[1..], (uint)ascending.Length));
        int previous = -1;
        foreach (int ordinal in ascending)
        {
            writer.Advance(Varint.Write(writer.GetSpan(Varint.BytesMax), (uint)(ordinal - previous - 1)));
            previous = ordinal;
        }
    }

    private int[] Members(int count, int words)
    {
        int[] members = new int[count];
        int next = 0;
        for (int i = 0; i < words; i++)
        {
            for (ulong word = _words[i]; word != 0; word &= word - 1)
            {
                members[next++] = (i << 6) + BitOperations.TrailingZeroCount(word);
            }
        }

        return members;
    }

    private static void Or(Span<ulong> target, ReadOnlySpan<ulong> other)
    {
        int i = 0;
        for (; i + Vector<ulong>.Count <= other.Length; i += Vector<ulong>.Count)
        {
            Vector.BitwiseOr(new Vector<ulong>(target[i..]), new Vector<ulong>(other[i..])).CopyTo(target[i..]);
        }

        for (; i < other.Length; i++)
        {
            target[i] |= other[i];
        }
    }

    private void Reserve(int words)
    {
        if (words > _words.Length)
        {
            Array.Resize(ref _words, Math.Max(words, _words.Length * 2));
        }
    }
}
