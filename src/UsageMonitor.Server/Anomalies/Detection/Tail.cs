using System.Runtime.CompilerServices;

namespace UsageMonitor.Server.Anomalies.Detection;

/// <summary>
/// How unlikely a strangeness is by the series' own history: the estimator of extreme quantiles by Weissman (1978) over the greatest
/// values so far, with the tail's index by Hill (1975). p(s) = K/N · (s / s_K)^(−1/γ), γ = mean of log(s_i / s_K).
/// </summary>
internal struct Tail
{
    /// <summary>How many of the greatest are kept: 2 % of a fortnight of five minutes.</summary>
    public const int Kept = 80;

    /// <summary>From here on the past fades: an age's greatest are worth a third an age later.</summary>
    public const double SamplesOfMemory = 1 << 15;

    /// <summary>Powers of ten that one view may claim beyond what has been seen.</summary>
    private const double BeyondMax = 5;

    private const double Least = 1e-6;
    private const double IndexLeast = 0.05;
    private const float StrangenessMax = 1e30f;

    private int _samples;
    private Greatest _greatest;

    /// <summary>How many are remembered, the one in question included.</summary>
    public readonly double Samples => Math.Min(_samples + 1.0, SamplesOfMemory);

    public readonly bool IsSound => _samples >= 0;

    private readonly bool IsFull => _samples >= Kept;

    /// <summary>−log₁₀ of the probability of at least this strangeness; 0 within the ordinary.</summary>
    /// <param name="strangeness">Not negative.</param>
    public readonly double EvidenceOf(double strangeness)
    {
        if (!IsFull)
        {
            return 0;
        }

        double least = Math.Max(_greatest[Kept - 1], Least);
        if (strangeness <= least)
        {
            return 0;
        }

        double index = 0;
        for (int i = 0; i < Kept - 1; i++)
        {
            index += Math.Log(Math.Max(_greatest[i] / least, 1));
        }

        index = Math.Max(index / (Kept - 1), IndexLeast);
        return Math.Min(BeyondMax, Math.Log10(strangeness / least) / index) + Math.Log10(Samples / Kept);
    }

    public void Add(double strangeness)
    {
        if (_samples >= SamplesOfMemory)
        {
            for (int i = 0; i < Kept; i++)
            {
                _greatest[i] *= (float)(1 - (1 / SamplesOfMemory));
            }
        }

        float added = (float)Math.Min(strangeness, StrangenessMax);
        int at = Math.Min(_samples, Kept - 1);
        bool isGreater = !IsFull || added > _greatest[at];
        _samples = Math.Min(_samples + 1, int.MaxValue - 1);
        if (!isGreater)
        {
            return;
        }

        for (; at > 0 && _greatest[at - 1] < added; at--)
        {
            _greatest[at] = _greatest[at - 1];
        }

        _greatest[at] = added;
    }

    /// <summary>In falling order.</summary>
    [InlineArray(Kept)]
    private struct Greatest
    {
        private float _first;
    }
}
