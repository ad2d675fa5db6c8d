using System.IO.Hashing;
using System.Security.Cryptography;

namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// Finds duplicate member names in the objects of one event, in constant time a name however many there are: a caller can
/// put thousands of names into 32 KB, also spread over nested objects.
/// </summary>
/// <remarks>
/// A name is represented by its 64-bit hash, seeded with a secret of the process and with the number of its object. Two
/// different names of one event are taken for the same with a probability of about 2^-60; the caller would get their event back.
/// </remarks>
internal sealed class MemberNames
{
    private const int SlotsMin = 64;
    private static readonly long s_secret = BitConverter.ToInt64(RandomNumberGenerator.GetBytes(sizeof(long)));

    private ulong[] _slots = new ulong[SlotsMin];
    private int _count;

    /// <summary>Forgets the names, for the next event.</summary>
    public void Clear()
    {
        // A grown table stays, for this request only. At worst 32 KB of tiny names leave 128 KB, cleared in some microseconds.
        Array.Clear(_slots);
        _count = 0;
    }

    /// <returns>False when this object has had the name.</returns>
    /// <param name="objectNumber">Which object of the event.</param>
    /// <param name="name">The name in UTF-8 after unescaping.</param>
    public bool Add(int objectNumber, ReadOnlySpan<byte> name)
    {
        ulong hash = XxHash3.HashToUInt64(name, s_secret + objectNumber);
        return TryInsert(hash == 0 ? 1 : hash); // 0 is an empty slot
    }

    private bool TryInsert(ulong hash)
    {
        ulong[] slots = _slots;
        int slot = (int)hash & (slots.Length - 1);
        while (slots[slot] != 0)
        {
            if (slots[slot] == hash)
            {
                return false;
            }

            slot = (slot + 1) & (slots.Length - 1);
        }

        slots[slot] = hash;
        if (++_count > slots.Length / 2)
        {
            Grow();
        }

        return true;
    }

    private void Grow()
    {
        ulong[] outgrown = _slots;
        _slots = new ulong[outgrown.Length * 4];
        _count = 0;
        foreach (ulong hash in outgrown)
        {
            if (hash != 0)
            {
                TryInsert(hash);
            }
        }
    }
}
