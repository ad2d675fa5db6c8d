using System.Text;
using CsCheck;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity;

public sealed class PasswordRulesTests
{
    private static readonly PasswordContext s_context = new(
        "ada.lovelace@analytical.example",
        "Ada Lovelace",
        "Analytical Engines Ltd"
    );

    [Theory]
    [InlineData("correct horse battery staple")]
    [InlineData("vier unvereinbare Wörter übrig")]
    [InlineData("k3Jx9 qpw2 vvz")]
    [InlineData("        x9 - 7!         ")]
    [InlineData("夜の港に七つの静かな灯が揺れる")]
    [InlineData("🦀🪐🧵🎻🗝️🧭🫖🪁🧊🛶🪵🧿")]
    [InlineData(PeopleOf.Password)]
    [InlineData(Acme.AdminPassword)]
    [InlineData("admin-of-the-bench-1")]
    [InlineData("operator-of-the-bench-1")]
    [InlineData("operator-of-the-end-to-end-tests")]
    public void WhatIsWrong_WhenItIsLongAndNotGuessable_ShouldBeNothing(string password) =>
        Assert.Null(PasswordRules.WhatIsWrong(password, s_context));

    [Theory]
    [InlineData("password1234")]
    [InlineData("Passw0rd!2024")]
    [InlineData("P@ssw0rdP@ssw0rd")]
    [InlineData("123456789012")]
    [InlineData("qwertyuiop12")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    [InlineData("letmeinletmein")]
    [InlineData("Ada.Lovelace1")]
    [InlineData("lovelace lovelace")]
    [InlineData("analytical engines")]
    [InlineData("AnalyticalEnginesLtd1")]
    [InlineData("UsageMonitor1")]
    [InlineData("usage monitor 2026")]
    public void WhatIsWrong_WhenItIsCommonOrOfThePerson_ShouldSayThatItIsGuessable(string password) =>
        Assert.Contains(
            "easy to guess",
            PasswordRules.WhatIsWrong(password, s_context) ?? "",
            StringComparison.Ordinal
        );

    [Fact]
    public void WhatIsWrong_WhenLengthIsMeasured_ShouldCountCodePointsOfTheComposedForm()
    {
        string eleven = string.Concat(Enumerable.Range(0, 11).Select(i => char.ConvertFromUtf32(0x1F400 + (i * 7))));
        string decomposed = string.Concat("zäöüéèñçåøẽ".Normalize(NormalizationForm.FormD));
        string longest = string.Concat(
            Enumerable
                .Range(0, PasswordRules.CharactersMax)
                .Select(i => char.ConvertFromUtf32(0x1F400 + (i * 37 % 200)))
        );

        Assert.Contains("12 to 128", PasswordRules.WhatIsWrong(eleven, s_context)!, StringComparison.Ordinal);
        Assert.Contains("12 to 128", PasswordRules.WhatIsWrong(decomposed, s_context)!, StringComparison.Ordinal);
        Assert.Null(PasswordRules.WhatIsWrong(longest, s_context));
        Assert.Contains("12 to 128", PasswordRules.WhatIsWrong(longest + "x", s_context)!, StringComparison.Ordinal);
        Assert.NotNull(PasswordRules.WhatIsWrong(null, s_context));
        Assert.NotNull(PasswordRules.WhatIsWrong("half a surrogate \ud800 pair", s_context));
        Assert.NotNull(PasswordRules.WhatIsWrong(new string('x', 100_000), s_context));
    }

    [Fact]
    public void WhatIsWrong_WhenGivenAnyText_ShouldAnswer() =>
        Gen.String[0, 200]
            .Sample(text => PasswordRules.WhatIsWrong(text, s_context) is null or { Length: > 0 }, iter: 200);

    [Fact]
    public async Task VerifyAsync_WhenTypedInTheOtherUnicodeForm_ShouldBeTheSamePassword()
    {
        using var passwords = new Passwords();
        string hash = passwords.Hash("sieben ruhige Laternen für Zoë".Normalize(NormalizationForm.FormD));

        PasswordCheck check = await passwords.VerifyAsync(
            hash,
            "sieben ruhige Laternen für Zoë".Normalize(NormalizationForm.FormC),
            TestContext.Current.CancellationToken
        );

        Assert.Equal(PasswordCheck.Right, check);
    }
}
