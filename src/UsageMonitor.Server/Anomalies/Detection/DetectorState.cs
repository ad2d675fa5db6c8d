using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>All that is known of a series, as one block of memory: a copy of it is a copy of the detector.</summary>
internal struct DetectorState
{
    /// <summary>As of this layout; another one is another version.</summary>
    public const byte Version = 3;

    public long FirstSeconds;
    public long Samples;
    public double Previous;
    public Views Views;
    public Rhythm Rhythm;
    public UsualHours Usual;
    public Hold Hold;
    public Tails Tails;

    /// <summary>Whether the places in it that point are within it.</summary>
    public bool IsSound
    {
        get
        {
            bool isSound = Samples >= 0 && Rhythm.IsSound && Usual.IsSound;
            foreach (ref Tail tail in Tails.AsSpan())
            {
                isSound &= tail.IsSound;
            }

            return isSound;
        }
    }

    public static Span<byte> BytesOf(ref DetectorState state) =>
        MemoryMarshal.AsBytes(MemoryMarshal.CreateSpan(ref state, 1));
}

/// <summary>One for each of the <see cref="Views"/>, and two for what the hour foretold.</summary>
[InlineArray(Count)]
internal struct Tails
{
    public const int Count = Views.Count + 2;

    private Tail _first;

    [System.Diagnostics.CodeAnalysis.UnscopedRef]
    public Span<Tail> AsSpan() => this;
}
