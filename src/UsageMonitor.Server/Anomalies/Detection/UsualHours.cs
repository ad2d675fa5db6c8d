using System.Runtime.CompilerServices;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>
/// What was strange at about this time of the last days is less strange today: a nightly job, the jump at the start of work.
/// </summary>
internal struct UsualHours
{
    private const int Slots = 48;
    private const int SlotSeconds = 86_400 / Slots;

    /// <summary>What a day leaves of it.</summary>
    private const double Kept = 0.7;

    /// <summary>How much of it is excused: not all, or the second bad day would be none.</summary>
    private const double Excused = 0.6;

    private int _slot;
    private float _strongest;
    private Evidence _evidence;

    public readonly bool IsSound => _slot is >= 0 and < Slots;

    /// <returns>What remains of the evidence.</returns>
    public double Discount(long unixSeconds, double evidence)
    {
        int slot = (int)(((unixSeconds / SlotSeconds % Slots) + Slots) % Slots);
        if (slot != _slot)
        {
            _evidence[_slot] = Math.Max((float)(_evidence[_slot] * Kept), _strongest);
            _strongest = 0;
            _slot = slot;
        }

        _strongest = Math.Max(_strongest, (float)evidence);
        double usual = Math.Max(
            _evidence[slot],
            Math.Max(_evidence[(slot + 1) % Slots], _evidence[(slot + Slots - 1) % Slots])
        );
        return Math.Max(0, evidence - (Excused * usual));
    }

    [InlineArray(Slots)]
    private struct Evidence
    {
        private float _first;
    }
}
