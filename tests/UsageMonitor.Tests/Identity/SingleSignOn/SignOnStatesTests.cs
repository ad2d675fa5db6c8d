using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Identity.SingleSignOn;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>A sign-in under way, kept by the browser.</summary>
public sealed class SignOnStatesTests
{
    private readonly FakeTimeProvider _time = new(Engines.Now);

    [Fact]
    public void End_WhenTenMinutesHavePassed_ShouldBeTooLate()
    {
        var states = new SignOnStates(Engines.MasterKey, _time);
        (string state, string cookie) = Begin(states, secure: true);

        _time.Advance(SignOnStates.Lifetime - TimeSpan.FromSeconds(1));
        Assert.NotNull(states.End(With(cookie), state, secure: true));
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Null(states.End(With(cookie), state, secure: true));
    }

    [Fact]
    public void End_WhenAnotherMasterKeySealedIt_ShouldKnowNothing()
    {
        (string state, string cookie) = Begin(
            new SignOnStates(new MasterKey(new byte[MasterKey.KeyBytes]), _time),
            secure: false
        );

        Assert.Null(new SignOnStates(Engines.MasterKey, _time).End(With(cookie), state, secure: false));
    }

    [Fact]
    public void Begin_WhenOverTls_ShouldSetACookieOfThisHostAlone()
    {
        var states = new SignOnStates(Engines.MasterKey, _time);

        (_, string secure) = Begin(states, secure: true, out string attributes);

        Assert.StartsWith("__Host-um_sso_", secure, StringComparison.Ordinal);
        foreach (string attribute in new[] { "path=/", "secure", "httponly", "samesite=lax", "max-age=600" })
        {
            Assert.Contains(attribute, attributes, StringComparison.OrdinalIgnoreCase);
        }

        Assert.DoesNotContain("domain", attributes, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public void Begin_WhenManyAreUnderWay_ShouldForgetThem()
    {
        var states = new SignOnStates(Engines.MasterKey, _time);
        string[] cookies =
        [
            .. Enumerable.Range(0, SignOnStates.UnderWayMax).Select(_ => Begin(states, secure: false).Cookie),
        ];
        var context = With(string.Join("; ", cookies));

        states.Begin(context, Begun(), secure: false);

        string[] set = [.. context.Response.Headers.SetCookie.OfType<string>()];
        Assert.Equal(SignOnStates.UnderWayMax, set.Count(cookie => cookie.Contains("1970", StringComparison.Ordinal)));
        Assert.Equal(SignOnStates.UnderWayMax + 1, set.Length);
    }

    private (string State, string Cookie) Begin(SignOnStates states, bool secure) => Begin(states, secure, out _);

    private (string State, string Cookie) Begin(SignOnStates states, bool secure, out string attributes)
    {
        var context = new DefaultHttpContext();
        string state = states.Begin(context, Begun(), secure);
        attributes = Assert.Single(context.Response.Headers.SetCookie)!;
        return (state, attributes.Split(';')[0]);
    }

    private SignOnState Begun() =>
        new(Guid.NewGuid(), Guid.NewGuid(), "issuer", "client", "nonce", "verifier", "uri", "/", _time.GetUtcNow());

    private static DefaultHttpContext With(string cookies)
    {
        var context = new DefaultHttpContext();
        context.Request.Headers.Cookie = cookies;
        return context;
    }
}
