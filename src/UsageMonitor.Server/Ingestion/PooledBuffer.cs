using System.Buffers;

namespace UsageMonitor.Server.Ingestion;

/// <summary>
/// Contiguous bytes from the shared pool that grow up to a limit. The room grows with what has really arrived, so that a
/// caller who only announces much holds little.
/// </summary>
internal sealed class PooledBuffer(int bytesMax) : IDisposable
{
    // Fourfold: at the limit the outgrown array is a quarter of the new one, and few copies are made on the way.
    private const int GrowthFactor = 4;
    private const int BytesMin = 4 * 1024;

    private byte[] _bytes = [];

    /// <summary>Bytes written.</summary>
    public int Length { get; private set; }

    public ReadOnlyMemory<byte> Written => _bytes.AsMemory(0, Length);

    /// <summary>Makes room for so many bytes in one step, within the limit.</summary>
    public void Reserve(int bytes)
    {
        bytes = Math.Min(bytes, bytesMax);
        if (bytes <= _bytes.Length)
        {
            return;
        }

        byte[] larger = ArrayPool<byte>.Shared.Rent(bytes);
        _bytes.AsSpan(0, Length).CopyTo(larger);
        Return();
        _bytes = larger;
    }

    /// <summary>Room to write to, before <see cref="Advance"/>; empty only at the limit.</summary>
    public Span<byte> Free()
    {
        if (Length == Math.Min(_bytes.Length, bytesMax))
        {
            Reserve((int)Math.Clamp((long)Length * GrowthFactor, BytesMin, bytesMax));
        }

        return _bytes.AsSpan(Length, Math.Min(_bytes.Length, bytesMax) - Length);
    }

    public void Advance(int bytes) => Length += bytes;

    /// <summary>Appends the bytes, or returns false when they would exceed the limit.</summary>
    public bool TryAppend(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            Span<byte> free = Free();
            if (free.IsEmpty)
            {
                return false;
            }

            int count = Math.Min(free.Length, bytes.Length);
            bytes[..count].CopyTo(free);
            Advance(count);
            bytes = bytes[count..];
        }

        return true;
    }

    /// <summary>Returns the bytes to the pool: nothing may use them any more.</summary>
    public void Dispose()
    {
        Return();
        _bytes = [];
        Length = 0;
    }

    private void Return()
    {
        if (_bytes.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_bytes);
        }
    }
}
