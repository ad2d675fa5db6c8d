using Microsoft.Extensions.Time.Testing;
using Microsoft.IdentityModel.Tokens;
using Npgsql;
using UsageMonitor.Server.Identity;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity;

/// <summary>Several instances over one database, all at the same time of day.</summary>
public sealed class SigningKeyRotationTests(Engines engines) : IAsyncLifetime
{
    private static readonly DateTimeOffset s_start = new(2026, 3, 10, 12, 0, 0, TimeSpan.Zero);
    private static readonly Person s_ana = new(Guid.NewGuid(), Guid.NewGuid(), "ana@acme.example", []);
    private readonly FakeTimeProvider _time = new(s_start);
    private TestDatabase _database = null!;
    private SigningKeys _one = null!;
    private SigningKeys _two = null!;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _database = await engines.CloneAsync();
        _one = NewInstance();
        _two = NewInstance();
    }

    public async ValueTask DisposeAsync()
    {
        _one.Dispose();
        _two.Dispose();
        await _database.DisposeAsync();
    }

    [Fact]
    public async Task RotateAsync_WhenANewKeyIsMade_ShouldPublishItBeforeItSigns()
    {
        string first = await SignsAsync(_one);
        Assert.Equal(first, await SignsAsync(_two));

        string second = (await _one.RotateAsync(Cancelled)).KeyId;
        await _two.MaintainAsync(Cancelled);

        foreach (SigningKeys instance in new[] { _one, _two })
        {
            Assert.Equal([second, first], await PublishedAsync(instance));
            Assert.Equal(first, await SignsAsync(instance));
        }

        _time.Advance(TimeSpan.FromSeconds(SigningKeys.PublishedAheadSeconds - 1));
        Assert.Equal((first, first), (await SignsAsync(_one), await SignsAsync(_two)));

        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal((second, second), (await SignsAsync(_one), await SignsAsync(_two)));
        Assert.Equal([second, first], await PublishedAsync(_two));
        Assert.True(SigningKeys.PublishedAheadSeconds > SigningKeys.PublishedCacheSeconds);
    }

    [Fact]
    public async Task MaintainAsync_WhenAKeyHasStoppedSigning_ShouldAcceptItAsLongAsItsTokensLiveAndThenDeleteIt()
    {
        string first = await SignsAsync(_one);
        await _one.RotateAsync(Cancelled);
        _time.Advance(TimeSpan.FromSeconds(SigningKeys.PublishedAheadSeconds - 1));
        var tokens = new AccessTokens(_one, _time);
        string last = await tokens.IssueAsync(s_ana, Guid.NewGuid(), Cancelled);
        _time.Advance(TimeSpan.FromSeconds(1)); // the new one signs

        _time.Advance(TimeSpan.FromSeconds(AccessTokens.LifetimeSeconds - 2));
        await _one.MaintainAsync(Cancelled);
        await _two.MaintainAsync(Cancelled);
        Assert.NotNull(await tokens.ValidateAsync(last, Cancelled));
        Assert.NotNull(await new AccessTokens(_two, _time).ValidateAsync(last, Cancelled));

        _time.Advance(TimeSpan.FromSeconds(SigningKeys.AcceptedSeconds - AccessTokens.LifetimeSeconds + 1));
        Assert.True(_two.TryGet(first, out _));

        // Refused from then on also by an instance that has not looked since.
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.False(_two.TryGet(first, out _));
        Assert.DoesNotContain(first, await PublishedAsync(_two));

        await _one.MaintainAsync(Cancelled);
        await using NpgsqlCommand count = _database.Database.App.CreateCommand("SELECT count(*) FROM signing_keys");
        Assert.Equal(1L, await count.ExecuteScalarAsync(Cancelled));
        Assert.True(SigningKeys.AcceptedSeconds > AccessTokens.LifetimeSeconds + AccessTokens.ClockSkewSeconds);
    }

    [Fact]
    public async Task MaintainAsync_WhenAKeyHasSignedForThirtyDays_ShouldMakeOneSuccessorWhoeverAsks()
    {
        string first = await SignsAsync(_one);
        _time.Advance(TimeSpan.FromDays(SigningKeys.SigningDaysMax) - TimeSpan.FromSeconds(1));
        await MaintainAllAsync();
        Assert.Equal([first], await PublishedAsync(_one));

        _time.Advance(TimeSpan.FromSeconds(1));
        await MaintainAllAsync();
        await MaintainAllAsync();

        IReadOnlyList<string> published = await PublishedAsync(_one);
        Assert.Equal(2, published.Count);
        Assert.Equal(published, await PublishedAsync(_two));
        Assert.Equal(first, await SignsAsync(_two));
    }

    [Fact]
    public async Task SigningKeyAsync_WhenManyInstancesStartAtOnce_ShouldAgreeOnOneKey()
    {
        SigningKeys[] instances = [.. Enumerable.Range(0, 6).Select(_ => NewInstance())];

        string[] ids = await Task.WhenAll(instances.Select(SignsAsync));
        SigningKey[] next = await Task.WhenAll(instances.Select(instance => instance.RotateAsync(Cancelled)));

        Assert.Single(ids.Distinct());
        Assert.Single(next.Select(key => key.KeyId).Distinct());
        Assert.NotEqual(ids[0], next[0].KeyId);
        foreach (SigningKeys instance in instances)
        {
            instance.Dispose();
        }
    }

    private SigningKeys NewInstance() => new(_database.Database, Engines.MasterKey, _time);

    private async Task MaintainAllAsync() =>
        await Task.WhenAll(_one.MaintainAsync(Cancelled), _two.MaintainAsync(Cancelled));

    private static async Task<string> SignsAsync(SigningKeys instance) =>
        (await instance.SigningKeyAsync(Cancelled)).KeyId;

    private static async Task<IReadOnlyList<string>> PublishedAsync(SigningKeys instance) =>
        [.. (await instance.AllAsync(Cancelled)).Select((ECDsaSecurityKey key) => key.KeyId)];
}
