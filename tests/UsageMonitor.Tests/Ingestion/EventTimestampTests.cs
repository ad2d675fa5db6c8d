using System.Globalization;
using System.Text;
using CsCheck;
using UsageMonitor.Server.Ingestion;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

public sealed class EventTimestampTests
{
    private static readonly string[] s_formats =
    [
        "yyyy-MM-ddTHH:mm:ss.fffffffzzz",
        "yyyy-MM-dd HH:mm:ss.fffzzz",
        "yyyy-MM-ddTHH:mm:sszzz",
        "yyyy-MM-ddTHH:mmzzz",
    ];

    [Theory]
    [InlineData("2026-01-31T09:30:15Z", "2026-01-31T09:30:15.000000Z")]
    [InlineData("2026-01-31t09:30:15z", "2026-01-31T09:30:15.000000Z")]
    [InlineData("2026-01-31 09:30Z", "2026-01-31T09:30:00.000000Z")]
    [InlineData("2026-01-31T09:30:15.1Z", "2026-01-31T09:30:15.100000Z")]
    [InlineData("2026-01-31T09:30:15.1234569Z", "2026-01-31T09:30:15.123456Z")]
    [InlineData("2026-01-31T09:30:15.12345678901234567890Z", "2026-01-31T09:30:15.123456Z")]
    [InlineData("2026-01-31T09:30:15+05:30", "2026-01-31T04:00:15.000000Z")]
    [InlineData("2026-01-31T09:30:15-0530", "2026-01-31T15:00:15.000000Z")]
    [InlineData("2026-01-31T09:30+05", "2026-01-31T04:30:00.000000Z")]
    [InlineData("2026-01-01T00:00:00+14:00", "2025-12-31T10:00:00.000000Z")]
    [InlineData("2024-02-29T23:59:59.999999-00:00", "2024-02-29T23:59:59.999999Z")]
    public void TryParse_WhenValid_ShouldGiveTheInstant(string text, string expected)
    {
        Assert.True(EventTimestamp.TryParse(Encoding.UTF8.GetBytes(text), out long microseconds));
        Assert.Equal(expected, Format(microseconds));
    }

    [Theory]
    [InlineData("")]
    [InlineData("now")]
    [InlineData("2026-01-31")]
    [InlineData("2026-01-31T09:30")]
    [InlineData("2026-01-31T09:30:15")]
    [InlineData("2026-01-31T09:30:15.123")]
    [InlineData("2026-01-31T09:30:15.Z")]
    [InlineData("2026-01-31T09:30:15,5Z")]
    [InlineData("2026-01-31T09:30:Z")]
    [InlineData("2026-01-31T09:30:5Z")]
    [InlineData("2026-01-31T09Z")]
    [InlineData("2026-1-31T09:30:15Z")]
    [InlineData("26-01-31T09:30:15Z")]
    [InlineData("2026-02-30T09:30:15Z")]
    [InlineData("2025-02-29T09:30:15Z")]
    [InlineData("2026-00-10T09:30:15Z")]
    [InlineData("2026-13-10T09:30:15Z")]
    [InlineData("2026-01-00T09:30:15Z")]
    [InlineData("2026-01-32T09:30:15Z")]
    [InlineData("0000-01-01T09:30:15Z")]
    [InlineData("2026-01-31T24:00:00Z")]
    [InlineData("2026-01-31T09:60:00Z")]
    [InlineData("2026-01-31T09:30:60Z")]
    [InlineData("2026-01-31T09:30:15+24:00")]
    [InlineData("2026-01-31T09:30:15+05:60")]
    [InlineData("2026-01-31T09:30:15+5:30")]
    [InlineData("2026-01-31T09:30:15+05-30")]
    [InlineData("2026-01-31T09:30:15+05:3")]
    [InlineData("2026-01-31T09:30:15 +05:30")]
    [InlineData("2026-01-31T09:30:15Z ")]
    [InlineData(" 2026-01-31T09:30:15Z")]
    [InlineData("2026-01-31T09:30:15ZZ")]
    [InlineData("2026-01-31_09:30:15Z")]
    [InlineData("-026-01-31T09:30:15Z")]
    [InlineData("2026-W05-6T09:30:15Z")]
    [InlineData("2026-01-31T09:30:15\u00B1")]
    [InlineData("２026-01-31T09:30:15Z")]
    [InlineData("1767225600")]
    public void TryParse_WhenNotValid_ShouldRefuse(string text) =>
        Assert.False(EventTimestamp.TryParse(Encoding.UTF8.GetBytes(text), out _));

    [Fact]
    public void TryParse_WhenDotNetWroteIt_ShouldAgreeWithDotNet() =>
        Gen.Select(
                Gen.Long[
                    new DateTime(1, 1, 2, 0, 0, 0, DateTimeKind.Utc).Ticks,
                    new DateTime(9999, 12, 30, 0, 0, 0, DateTimeKind.Utc).Ticks
                ],
                Gen.Int[-14 * 60, 14 * 60],
                Gen.Int[0, s_formats.Length - 1]
            )
            .Sample(
                (ticks, offsetMinutes, index) =>
                {
                    string format = s_formats[index];
                    string text = new DateTimeOffset(ticks, TimeSpan.Zero)
                        .ToOffset(TimeSpan.FromMinutes(offsetMinutes))
                        .ToString(format, CultureInfo.InvariantCulture);
                    var oracle = DateTimeOffset.ParseExact(text, format, CultureInfo.InvariantCulture);

                    Assert.True(EventTimestamp.TryParse(Encoding.UTF8.GetBytes(text), out long microseconds));
                    Assert.Equal(EventTimestamp.FromInstant(oracle), microseconds);
                }
            );

    [Fact]
    public void TryParse_WhenACharacterIsChanged_ShouldNotTakeWhatDotNetRefuses() =>
        Gen.Select(Gen.Int[0, 24], Gen.Char["0123456789+-:.TZ x"])
            .Sample(
                (at, character) =>
                {
                    char[] changed = "2024-02-29T23:58:59+13:30".ToCharArray();
                    changed[at] = character;
                    string text = new(changed);
                    if (EventTimestamp.TryParse(Encoding.UTF8.GetBytes(text), out long microseconds))
                    {
                        string[] formats = ["yyyy-MM-ddTHH:mm:sszzz", "yyyy-MM-dd HH:mm:sszzz"];
                        bool known = DateTimeOffset.TryParseExact(
                            text,
                            formats,
                            CultureInfo.InvariantCulture,
                            DateTimeStyles.None,
                            out DateTimeOffset oracle
                        );

                        // .NET knows no offset beyond 14 hours and no fraction or shorter offset in these formats.
                        if (known)
                        {
                            Assert.Equal(EventTimestamp.FromInstant(oracle), microseconds);
                        }
                        else
                        {
                            Assert.Contains(at, (int[])[19, 20, 21, 22]);
                        }
                    }
                }
            );

    private static string Format(long microseconds) =>
        DateTimeOffset
            .UnixEpoch.AddMicroseconds(microseconds)
            .ToString("yyyy-MM-ddTHH:mm:ss.ffffffZ", CultureInfo.InvariantCulture);
}
