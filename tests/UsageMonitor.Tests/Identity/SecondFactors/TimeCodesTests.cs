using System.Text;
using UsageMonitor.Server.Identity.SecondFactors;
using Xunit;

namespace UsageMonitor.Tests.Identity.SecondFactors;

public sealed class TimeCodesTests
{
    // RFC 6238, appendix B, SHA-1; its eight digits end in the six of ours.
    [Theory]
    [InlineData(59, "287082")]
    [InlineData(1111111109, "081804")]
    [InlineData(1111111111, "050471")]
    [InlineData(1234567890, "005924")]
    [InlineData(2000000000, "279037")]
    [InlineData(20000000000, "353130")]
    public void StepOf_WhenTheCodeIsTheStandards_ShouldFindItsStep(long seconds, string code)
    {
        byte[] secret = Encoding.ASCII.GetBytes("12345678901234567890");

        long? step = TimeCodes.StepOf(secret, code, DateTimeOffset.FromUnixTimeSeconds(seconds), 0);

        Assert.Equal(seconds / TimeCodes.StepSeconds, step);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("28708")]
    [InlineData("2870820")]
    [InlineData("28708x")]
    [InlineData("٢٨٧٠٨٢")]
    public void StepOf_WhenItIsNoCode_ShouldFindNone(string? code) =>
        Assert.Null(
            TimeCodes.StepOf(
                Encoding.ASCII.GetBytes("12345678901234567890"),
                code,
                DateTimeOffset.FromUnixTimeSeconds(59),
                0
            )
        );
}
