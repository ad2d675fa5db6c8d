using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web;
using Xunit;

namespace UsageMonitor.Tests.Web;

public sealed class PagesTests
{
    private static readonly DateOnly s_today = new(2026, 11, 23);

    [Theory]
    [InlineData("/?range=7d", "/?range=7d")]
    [InlineData("/api-keys", "/api-keys")]
    [InlineData(null, "/")]
    [InlineData("https://evil.example/", "/")]
    [InlineData("//evil.example/", "/")]
    [InlineData("/\\evil.example/", "/")]
    [InlineData("/\t/evil.example/", "/")]
    [InlineData("/é", "/")]
    public void LocalOrHome_WhenGivenAnAddress_ShouldStayOnThisSite(string? address, string expected) =>
        Assert.Equal(expected, Pages.LocalOrHome(address));

    [Theory]
    [InlineData("", "30d", "2026-10-25", "2026-11-23", "day")]
    [InlineData("?range=today", "today", "2026-11-23", "2026-11-23", "hour")]
    [InlineData("?range=7d&interval=hour", "7d", "2026-11-17", "2026-11-23", "hour")]
    [InlineData("?range=90d&interval=hour", "90d", "2026-08-26", "2026-11-23", "day")]
    [InlineData("?from=2026-11-01&to=2026-11-24", null, "2026-11-01", "2026-11-24", "day")]
    [InlineData("?from=2020-01-01&to=2026-11-24", null, "2025-11-24", "2026-11-24", "week")]
    [InlineData("?from=2026-11-24&to=2026-11-01", "30d", "2026-10-25", "2026-11-23", "day")]
    [InlineData("?from=tomorrow&to=2026-11-01", "30d", "2026-10-25", "2026-11-23", "day")]
    public void Parse_WhenGivenAQuery_ShouldFindTheDaysAndAnInterval(
        string query,
        string? name,
        string from,
        string through,
        string interval
    )
    {
        DateRange range = DateRange.Parse(new QueryCollection(QueryHelpers.ParseQuery(query)), s_today);

        Assert.Equal(
            (name, from, through, interval),
            (range.Name, DateRange.Text(range.From), DateRange.Text(range.Through), range.Interval)
        );
    }

    [Fact]
    public void Address_WhenAFeatureHasAnyCharacters_ShouldComeBackTheSame()
    {
        const string Feature = "a&b=<c> \"é\"+%";
        DateRange range = DateRange.Parse(new QueryCollection(), s_today);
        string address = range.AddressWithFeature(Feature);

        DateRange again = DateRange.Parse(new QueryCollection(QueryHelpers.ParseQuery(address[1..])), s_today);

        Assert.Equal(Feature, again.Feature);
    }

    [Theory]
    [InlineData("de-DE,de;q=0.9,en;q=0.5", "1.234.567")]
    [InlineData("en;q=0.5,de-CH", "1’234’567")]
    [InlineData("xx-nonsense-123456789,*", "1,234,567")]
    [InlineData("", "1,234,567")]
    public void Number_WhenTheBrowserPrefersALanguage_ShouldBeWrittenInIt(string acceptLanguage, string expected)
    {
        var context = new DefaultHttpContext();
        context.Request.Headers.AcceptLanguage = acceptLanguage;

        Assert.Equal(expected, Formats.For(context.Request, TimeZoneInfo.Utc).Number(1_234_567));
    }

    [Fact]
    public void Unprotect_WhenSealedForAnotherPurpose_ShouldRefuse()
    {
        var protection = new MasterKeyProtection(new MasterKey(new byte[MasterKey.KeyBytes]));
        byte[] sealedBytes = protection.CreateProtector("form").Protect([1, 2, 3]);

        Assert.Equal([1, 2, 3], protection.CreateProtector("form").Unprotect(sealedBytes));
        Assert.ThrowsAny<System.Security.Cryptography.CryptographicException>(() =>
            protection.CreateProtector("other").Unprotect(sealedBytes)
        );
    }

    [Fact]
    public void Days_WhenTheCultureIsInvariant_ShouldNameTheMonth() =>
        Assert.Equal(
            "Nov 01 – Nov 24",
            new Formats(CultureInfo.InvariantCulture, TimeZoneInfo.Utc).Days(new(2026, 11, 1), new(2026, 11, 24))
        );
}
