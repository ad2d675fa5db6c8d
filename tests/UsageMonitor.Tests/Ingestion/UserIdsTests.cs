using System.Text;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

public sealed class UserIdsTests
{
    private static readonly Guid s_dns = Guid.Parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8");

    [Fact]
    public void Resolve_WhenTheIdIsExternal_ShouldGiveTheUuidOfTheRfc()
    {
        // RFC 9562, appendix A.4
        var expected = Guid.Parse("2ed6657d-e927-568b-95e1-2665a8aea6a2");

        Assert.Equal(expected, UserIds.Resolve(s_dns, "www.example.com", out string? externalId));
        Assert.Equal("www.example.com", externalId);
        Assert.Equal(expected, UserIds.Resolve(s_dns, "www.example.com"u8, out externalId));
        Assert.Equal("www.example.com", externalId);
    }

    [Theory]
    [InlineData("0190f3a0-1234-7abc-8def-0123456789ab")]
    [InlineData("0190F3A0-1234-7ABC-8DEF-0123456789AB")]
    public void Resolve_WhenTheIdIsAUuid_ShouldBeIt(string userId)
    {
        Assert.Equal(Guid.Parse(userId), UserIds.Resolve(s_dns, userId, out string? externalId));
        Assert.Null(externalId);
    }

    [Theory]
    [InlineData("{0190f3a0-1234-7abc-8def-0123456789ab}")]
    [InlineData("0190f3a012347abc8def0123456789ab")]
    [InlineData(" 0190f3a0-1234-7abc-8def-0123456789a")]
    [InlineData("0x90f3a0-1234-7abc-8def-0123456789ab")]
    [InlineData("+190f3a0-1234-7abc-8def-0123456789ab")]
    [InlineData("0190f3a0-1234-7abc-8def-0123456789ag")]
    [InlineData("ann@example.com")]
    public void Resolve_WhenTheFormIsAnother_ShouldBeExternal(string userId)
    {
        Guid fromText = UserIds.Resolve(s_dns, userId, out string? externalId);

        Assert.Equal(userId, externalId);
        Assert.Equal(fromText, UserIds.Resolve(s_dns, Encoding.UTF8.GetBytes(userId), out _));
    }

    [Theory]
    [InlineData("Ann.Rao@Example.COM", "ann.rao@example.com")]
    [InlineData("ÅSA@example.com", "åsa@example.com")]
    [InlineData("A\u030ASA@example.com", "åsa@example.com")]
    [InlineData("Ann", "Ann")]
    public void Resolve_WhenTheIdIsAnEmail_ShouldBeThePersonsWhoSignsInWithIt(string userId, string expected)
    {
        Guid fromText = UserIds.Resolve(s_dns, userId, out string? externalId);
        Guid fromBytes = UserIds.Resolve(s_dns, Encoding.UTF8.GetBytes(userId), out string? externalIdOfBytes);

        Assert.Equal((expected, expected), (externalId, externalIdOfBytes));
        Assert.Equal(UserIds.FromExternal(s_dns, Encoding.UTF8.GetBytes(expected)), fromText);
        Assert.Equal(fromText, fromBytes);
    }

    [Fact]
    public void Resolve_WhenTheEnterpriseOrTheLengthDiffers_ShouldDiffer()
    {
        string longId = new('é', 1_000);

        Assert.NotEqual(UserIds.Resolve(s_dns, "ann", out _), UserIds.Resolve(Guid.Empty, "ann", out _));
        Assert.NotEqual(UserIds.Resolve(s_dns, longId, out _), UserIds.Resolve(s_dns, longId + "é", out _));
    }
}
