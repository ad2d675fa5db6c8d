using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Policies;
using UsageMonitor.Tests.Fixtures;
using UsageMonitor.Tests.Processing;
using Xunit;

namespace UsageMonitor.Tests.Policies;

/// <summary>How long policies are good for when they change, and when they cannot be read.</summary>
public sealed class PolicySetsTests(Engines engines) : IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(Engines.Now);
    private PipelineFixture _pipeline = null!;
    private IdentityVersion _version = null!;
    private PolicySets _sets = null!;

    public async ValueTask InitializeAsync()
    {
        _pipeline = await PipelineFixture.CreateAsync(engines);
        _version = new IdentityVersion(_time);
        _sets = new PolicySets(_pipeline.Database, _version, _time, NullLogger<PolicySets>.Instance);
        Confirm(1);
    }

    public ValueTask DisposeAsync() => _pipeline.DisposeAsync();

    [Fact]
    public async Task FindAsync_WhenIdentityChanges_ShouldReadAnewButNotTooOften()
    {
        EnterpriseInfo enterprise = await _pipeline.AddEnterpriseAsync("UTC", 0);
        PolicySet first = await FindAsync(enterprise);
        Assert.True(first.IsOpen);
        await ForbidAsync(enterprise);

        Pass(milliseconds: 100);
        Assert.Same(first, await FindAsync(enterprise)); // nobody has heard of it yet
        Confirm(2);
        Assert.Same(first, await FindAsync(enterprise)); // read a moment ago
        Pass(milliseconds: PolicySets.RefreshMilliseconds);
        PolicySet second = await FindAsync(enterprise);

        Assert.False(second.IsOpen);
        Pass(milliseconds: 1_000);
        Assert.Same(second, await FindAsync(enterprise));
        _sets.Changed(enterprise.EnterpriseId);
        Assert.NotSame(second, await FindAsync(enterprise)); // this instance's own changes need not wait
    }

    [Fact]
    public async Task FindAsync_WhenPoliciesCannotBeRead_ShouldKeepTheLastForFiveSecondsAndThenFailClosed()
    {
        EnterpriseInfo strict = await _pipeline.AddEnterpriseAsync("UTC", 0);
        EnterpriseInfo open = await _pipeline.AddEnterpriseAsync("UTC", 0);
        EnterpriseInfo unknown = await _pipeline.AddEnterpriseAsync("UTC", 0);
        await ForbidAsync(strict);
        PolicySet last = await FindAsync(strict);
        PolicySet lastOfOpen = await FindAsync(open);
        await ExecuteAsync("ALTER TABLE policies RENAME TO policies_away");
        Confirm(2);

        await Assert.ThrowsAsync<PoliciesUnavailableException>(() => FindAsync(unknown));
        for (int passed = 0; passed < PolicySets.StaleMilliseconds; passed += 1_000)
        {
            Pass(milliseconds: passed == 0 ? 300 : 1_000);
            Assert.Same(last, await FindAsync(strict));
            Assert.Same(lastOfOpen, await FindAsync(open));
        }

        Pass(milliseconds: 1_500);
        await Assert.ThrowsAsync<PoliciesUnavailableException>(() => FindAsync(strict));
        Assert.Same(lastOfOpen, await FindAsync(open));

        await ExecuteAsync("ALTER TABLE policies_away RENAME TO policies");
        Pass(milliseconds: 300);
        Assert.False((await FindAsync(strict)).IsOpen);
    }

    private Task<PolicySet> FindAsync(EnterpriseInfo enterprise) =>
        _sets.FindAsync(enterprise, TestContext.Current.CancellationToken).AsTask();

    // The poll goes on, so that only the change itself makes an entry old.
    private void Pass(int milliseconds)
    {
        _time.Advance(TimeSpan.FromMilliseconds(milliseconds));
        Confirm(_version.Current);
    }

    private void Confirm(long version) =>
        _version.Confirm(new IdentityChanges(version, version, []), _time.GetTimestamp());

    private Task ForbidAsync(EnterpriseInfo enterprise) =>
        ExecuteAsync(
            $"UPDATE enterprises SET policy_default = 'FORBID' WHERE enterprise_id = '{enterprise.EnterpriseId}'"
        );

    private async Task ExecuteAsync(string sql) => await _pipeline.QueryAsync(sql, row => row.FieldCount);
}
