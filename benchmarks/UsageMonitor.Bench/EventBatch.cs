using System.Globalization;
using System.Text;

namespace UsageMonitor.Bench;

/// <summary>Events of one enterprise as the bytes of one HTTP request, ready to be sent again with new ids.</summary>
internal sealed class EventBatch
{
    /// <summary>Room before the body for the request's head, which is known only when the enterprise has its key.</summary>
    private const int HeadBytesMax = 512;

    private readonly byte[] _buffer;
    private int _start = HeadBytesMax;

    private EventBatch(int enterprise, int events)
    {
        (Enterprise, Events) = (enterprise, events);
        _buffer = new byte[HeadBytesMax + 1 + (events * EventBodies.EventBytes)];
        _buffer[HeadBytesMax] = (byte)'[';
    }

    public int Enterprise { get; }

    public int Events { get; }

    public ReadOnlyMemory<byte> Request => _buffer.AsMemory(_start);

    public ReadOnlyMemory<byte> Body => _buffer.AsMemory(HeadBytesMax);

    public Span<byte> Event(int index) =>
        _buffer.AsSpan(HeadBytesMax + 1 + (index * EventBodies.EventBytes), EventBodies.EventBytes);

    public static EventBatch[] Make(int batches, int eventsInEach, EnterpriseMix mix, Random random)
    {
        var made = new EventBatch[batches];
        for (int at = 0; at < batches; at++)
        {
            var batch = new EventBatch(mix.Choose(random), eventsInEach);
            for (int index = 0; index < eventsInEach; index++)
            {
                EventBodies.Write(batch.Event(index), batch.Enterprise, random);
            }

            batch.Close();
            made[at] = batch;
        }

        return made;
    }

    /// <summary>A smaller batch of some of these events: the same users, so known to the platform as soon as they are.</summary>
    public EventBatch Slice(int first, int events, int enterprise)
    {
        var slice = new EventBatch(enterprise, events);
        for (int index = 0; index < events; index++)
        {
            Event((first + index) % Events).CopyTo(slice.Event(index));
            slice.Event(index)[^1] = (byte)',';
        }

        slice.Close();
        return slice;
    }

    public void Address(int port, string apiKey)
    {
        string head = string.Create(
            CultureInfo.InvariantCulture,
            $"POST /v1/usage/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {apiKey}\r\n"
                + $"Content-Type: application/json\r\nContent-Length: {Body.Length}\r\n\r\n"
        );
        _start = HeadBytesMax - head.Length;
        Encoding.ASCII.GetBytes(head, _buffer.AsSpan(_start));
    }

    /// <summary>Makes every event a new one of this moment.</summary>
    public void Renew(UniqueIds ids, Random? redraw = null)
    {
        Span<byte> timestamp = stackalloc byte[EventBodies.TimestampLetters];
        EventBodies.FormatTimestamp(DateTime.UtcNow, timestamp);
        for (int index = 0; index < Events; index++)
        {
            Span<byte> body = Event(index);
            EventBodies.Renew(body, ids.Next(), timestamp);
            if (redraw is not null && redraw.NextDouble() < EventBodies.FeatureRedrawShare)
            {
                EventBodies.RedrawFeature(body, redraw);
            }
        }
    }

    private void Close() => _buffer[^1] = (byte)']';
}
