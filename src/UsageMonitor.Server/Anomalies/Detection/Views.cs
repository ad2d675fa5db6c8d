using System.Runtime.CompilerServices;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>How strange a sample looks from different sides. None has a unit; <see cref="Tail"/> makes them comparable.</summary>
internal struct Views
{
    /// <summary>The sides: jump, record, shift, silence, rarity.</summary>
    public const int Count = 5;

    private const double LevelRate = 0.1;
    private const double ScaleRate = 0.01;
    private const double ShortRate = 1.0 / 12;
    private const double LongRate = 0.001;
    private const double MiddleRate = 0.01;
    private const double SpreadRate = 0.002;
    private const double RestRate = 1.0 / 600;
    private const double RarityRate = 0.001;
    private const int SamplesOfFirstMiddle = 50;
    private const double CellsOfLog = 8;
    private const int Cells = 128;

    private double _previous;
    private double _greatestSize;
    private double _jump;
    private double _least;
    private double _most;
    private double _level;
    private double _shortMean;
    private double _longMean;
    private double _longVariance;
    private double _shortError;
    private double _longError;
    private double _middle;
    private double _spread;
    private Histogram _share;

    /// <summary>Looks at a sample, then learns it.</summary>
    /// <param name="value">The sample.</param>
    /// <param name="samples">How many came before.</param>
    /// <param name="fades">Whether records fade.</param>
    /// <param name="strangeness">One for each of <see cref="Count"/> sides.</param>
    public void Look(double value, long samples, bool fades, Span<double> strangeness)
    {
        if (samples == 0)
        {
            _previous = _level = _shortMean = _longMean = _middle = _least = _most = value;
        }

        double Rate(double rate) => Math.Max(rate, 1.0 / (samples + 1));
        _greatestSize = Math.Max(_greatestSize, Math.Abs(value));
        double none = (1e-6 * _greatestSize) + 1e-9;

        // Jump: the change since the sample before.
        double change = Math.Abs(value - _previous);
        strangeness[0] = change / (_jump + none);
        _jump += Rate(ScaleRate) * (change - _jump);
        _previous = value;

        // Record: beyond all there was.
        double range = _most - _least;
        strangeness[1] = Math.Max(0, Math.Max(value - _most, _least - value)) / (range + none);
        if (fades)
        {
            _most -= range / Tail.SamplesOfMemory / 2;
            _least += range / Tail.SamplesOfMemory / 2;
        }

        _most = Math.Max(_most, value);
        _least = Math.Min(_least, value);

        // Shift: the mean of the last ones away from the usual.
        _shortMean += Rate(ShortRate) * (value - _shortMean);
        strangeness[2] = Math.Abs(_shortMean - _longMean) / (Math.Sqrt(_longVariance) + none);
        double away = value - _longMean;
        _longVariance += Rate(LongRate) * ((away * away) - _longVariance);
        _longMean += Rate(LongRate) * away;

        // Silence: it moves less than it does.
        double error = Math.Abs(value - _level);
        _shortError += Rate(ShortRate) * (error - _shortError);
        _longError += Rate(RestRate) * (error - _longError);
        strangeness[3] = (_longError + none) / (_shortError + none + (0.01 * _longError));
        _level += Rate(LevelRate) * (value - _level);

        // Rarity: few samples were near this value. The cells are fine near the middle and coarse far from it.
        int cell =
            (int)Math.Clamp(Math.Floor(CellsOfLog * Math.Asinh((value - _middle) / (_spread + none))), -61, 61) + 64;
        double near =
            (3 * _share[cell]) + (2 * (_share[cell - 1] + _share[cell + 1])) + _share[cell - 2] + _share[cell + 2];
        strangeness[4] = 1 / ((near / 9) + (0.25 / Math.Max(samples, 1)));
        double kept = 1 - Rate(RarityRate);
        for (int i = 0; i < Cells; i++)
        {
            _share[i] = (float)(_share[i] * kept);
        }

        _share[cell] += (float)Rate(RarityRate);
        _spread += Rate(SpreadRate) * (Math.Abs(value - _middle) - _spread);
        _middle +=
            (Rate(MiddleRate) * Math.Sign(value - _middle) * _spread)
            + (samples < SamplesOfFirstMiddle ? (value - _middle) / (samples + 1) : 0);
    }

    [InlineArray(Cells)]
    private struct Histogram
    {
        private float _first;
    }
}
