using System.Security.Cryptography;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class WrappingKeysTests
{
    private static readonly byte[] s_old = RandomNumberGenerator.GetBytes(32);
    private static readonly byte[] s_new = RandomNumberGenerator.GetBytes(32);
    private static readonly Guid s_acme = Guid.NewGuid();

    [Fact]
    public void Wrap_WhenThereAreSeveralKeys_ShouldUseTheFirstAndOpenWithAny()
    {
        byte[] dataKey = RandomNumberGenerator.GetBytes(32);
        var before = new MasterKey(new WrappingKeys([s_old]), s_old);
        var during = new MasterKey(new WrappingKeys([s_new, s_old]), s_old);
        var after = new MasterKey(new WrappingKeys([s_new]), s_old);

        byte[] underOld = before.Wrap(dataKey, s_acme);
        byte[] underNew = during.Wrap(dataKey, s_acme);

        Assert.Equal(before.Keys.FirstId, WrappingKeys.IdOf(underOld));
        Assert.Equal(after.Keys.FirstId, WrappingKeys.IdOf(underNew));
        Assert.Equal(dataKey, during.Unwrap(underOld, s_acme));
        Assert.Equal(dataKey, after.Unwrap(underNew, s_acme));
        Assert.ThrowsAny<CryptographicException>(() => after.Unwrap(underOld, s_acme));
        Assert.ThrowsAny<CryptographicException>(() => before.Unwrap(underNew, s_acme));
    }

    [Fact]
    public void Unwrap_WhenAnythingWasAltered_ShouldRefuse()
    {
        byte[] dataKey = RandomNumberGenerator.GetBytes(32);
        var masterKey = new MasterKey(s_old);
        byte[] wrapped = masterKey.Wrap(dataKey, s_acme);

        Assert.Equal(-1, wrapped.AsSpan().IndexOf(dataKey));
        Assert.ThrowsAny<CryptographicException>(() => masterKey.Unwrap(wrapped, Guid.NewGuid()));
        for (int place = 0; place < wrapped.Length; place++)
        {
            byte[] altered = [.. wrapped];
            altered[place] ^= 1;
            Assert.ThrowsAny<CryptographicException>(() => masterKey.Unwrap(altered, s_acme));
        }
    }

    [Fact]
    public void Derive_WhenTheWrappingKeyIsReplaced_ShouldStayTheSame()
    {
        var before = new MasterKey(new WrappingKeys([s_old]), s_old);
        var after = new MasterKey(new WrappingKeys([s_new]), s_old);

        Assert.Equal(before.Derive("email-index"), after.Derive("email-index"));
        Assert.Equal(before.DatabasePassword("login"), after.DatabasePassword("login"));
        Assert.NotEqual(before.Derive("email-index"), before.Derive("signing-key"));
    }

    [Theory]
    [InlineData("")]
    [InlineData(" , \n")]
    [InlineData("c2hvcnQ=")]
    [InlineData("not base64 at all")]
    [InlineData("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")]
    [InlineData("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    public void Parse_WhenItIsNoListOfKeys_ShouldRefuseWithoutQuotingIt(string text)
    {
        FormatException exception = Assert.Throws<FormatException>(() => WrappingKeys.Parse(text));

        Assert.DoesNotContain("AAAA", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_WhenKeysAreOnLinesOrSeparatedByCommas_ShouldKeepTheirOrder()
    {
        (string one, string two) = (Convert.ToBase64String(s_new), Convert.ToBase64String(s_old));
        IReadOnlyList<string> expected = new WrappingKeys([s_new, s_old]).Ids;

        Assert.Equal(expected, WrappingKeys.Parse($"{one},{two}").Ids);
        Assert.Equal(expected, WrappingKeys.Parse($"\n{one}\r\n{two}\n").Ids);
        Assert.NotEqual(expected[0], expected[1]);
    }
}
