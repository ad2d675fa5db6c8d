using CsCheck;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class IdentityVersionTests
{
    private const int Enterprises = 3;
    private const int Instances = 3;
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void Holds_WhenThePollFallsSilent_ShouldTrustMemoryForFiveSecondsOnly()
    {
        var version = new IdentityVersion(_time);
        EnterpriseChange one = version.Of(Guid.NewGuid());
        Assert.False(version.Holds(0, one));

        version.Confirm(new IdentityChanges(7, 0, []), _time.GetTimestamp());

        Assert.True(version.Holds(7, one));
        Assert.True(version.Holds(7));
        _time.Advance(TimeSpan.FromMilliseconds(IdentityVersion.IdentityStaleMilliseconds));
        Assert.True(version.Holds(7, one));
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.False(version.Holds(7, one));
        Assert.False(version.Holds(7));
    }

    [Fact]
    public void Holds_WhenAnotherEnterpriseChanges_ShouldKeepWhatIsRemembered()
    {
        var version = new IdentityVersion(_time);
        (Guid changed, Guid other) = (Guid.NewGuid(), Guid.NewGuid());
        version.Confirm(new IdentityChanges(7, 0, []), _time.GetTimestamp());

        version.Confirm(new IdentityChanges(8, 0, [(changed, 8)]), _time.GetTimestamp());

        Assert.False(version.Holds(7, version.Of(changed)));
        Assert.True(version.Holds(7, version.Of(other)));
        Assert.True(version.Holds(8, version.Of(changed)));
        Assert.False(version.Holds(7));
    }

    [Fact]
    public void Holds_WhenAChangeIsOfNoSingleEnterprise_ShouldDropEverything()
    {
        var version = new IdentityVersion(_time);
        version.Confirm(new IdentityChanges(7, 0, []), _time.GetTimestamp());

        version.Confirm(new IdentityChanges(8, 8, []), _time.GetTimestamp());

        Assert.False(version.Holds(7, version.Of(Guid.NewGuid())));
        Assert.True(version.Holds(8, version.Of(Guid.NewGuid())));
    }

    [Fact]
    public void Committed_WhenOthersChangedBefore_ShouldNotBeTakenForHavingSeenThem()
    {
        var version = new IdentityVersion(_time);
        (Guid own, Guid other) = (Guid.NewGuid(), Guid.NewGuid());
        version.Confirm(new IdentityChanges(7, 0, []), _time.GetTimestamp());

        version.Committed(9, own); // 8 was another instance's

        Assert.False(version.Holds(7, version.Of(own)));
        Assert.Equal(7, version.Current);
        version.Confirm(new IdentityChanges(9, 0, [(other, 8), (own, 9)]), _time.GetTimestamp());
        Assert.False(version.Holds(7, version.Of(other)));
        Assert.True(version.Holds(9, version.Of(own)));
    }

    private enum Step
    {
        Commit,
        CommitAndCrash,
        LookAndFinish,
        BeginLook,
        EndLook,
        BeginLoad,
        EndLoad,
        LoadFromShared,
        Check,
    }

    /// <summary>
    /// Instances change, look, load (a credential that is made of the directory's entry, which is cached too, and of the
    /// database), share what they loaded, in any order and overlapping. Whatever is served has every change up to the last
    /// look that ended, and every change of the instance's own.
    /// </summary>
    [Fact]
    public void Holds_WhenInstancesInterleaveAtRandom_ShouldServeNothingOlderThanTheLastLook() =>
        Gen.Select(Gen.Enum<Step>(), Gen.Int[0, Instances - 1], Gen.Int[0, Enterprises - 1])
            .Array[1, 120]
            .Sample(steps => new Model().Run(steps), iter: 20_000);

    private sealed class Model
    {
        private readonly FakeTimeProvider _time = new();
        private readonly Guid[] _ids = [.. Enumerable.Range(0, Enterprises).Select(_ => Guid.NewGuid())];

        /// <summary>The database: every commit so far as (enterprise, number); an enterprise's state is its last number.</summary>
        private readonly long[] _state = new long[Enterprises];
        private long _version;

        /// <summary>Redis: what instances have shared.</summary>
        private readonly Cached?[] _shared = new Cached?[Enterprises];
        private readonly Instance[] _instances;

        public Model() =>
            _instances = [
                .. Enumerable.Range(0, Instances).Select(_ => new Instance { Version = new IdentityVersion(_time) }),
            ];

        public void Run((Step Step, int Instance, int Enterprise)[] steps)
        {
            foreach ((Step step, int number, int enterprise) in steps)
            {
                Instance at = _instances[number];
                switch (step)
                {
                    case Step.Commit:
                        _state[enterprise] = ++_version;
                        at.Version.Committed(_version, _ids[enterprise]);
                        at.MustKnow[enterprise] = _version;
                        break;
                    case Step.CommitAndCrash:
                        _state[enterprise] = ++_version;
                        break;
                    case Step.LookAndFinish:
                        End(at, Look(at));
                        break;
                    case Step.BeginLook:
                        at.Looks.Enqueue(Look(at));
                        break;
                    case Step.EndLook:
                        if (at.Looks.TryDequeue(out (IdentityChanges, long, long[]) look))
                        {
                            End(at, look);
                        }

                        break;
                    case Step.BeginLoad:
                        // The part from the directory is read first; the database's own part comes at the end.
                        at.Loading[enterprise] = (at.Version.Current, Directory(at, enterprise));
                        break;
                    case Step.EndLoad:
                        if (at.Loading[enterprise] is { } load)
                        {
                            at.Loading[enterprise] = null;
                            at.Credentials[enterprise] = new Cached(
                                load.Version,
                                Math.Min(load.Directory, _state[enterprise])
                            );
                            _shared[enterprise] = at.Credentials[enterprise];
                        }

                        break;
                    case Step.LoadFromShared:
                        if (_shared[enterprise] is { } kept && Holds(at, enterprise, kept.Version))
                        {
                            at.Credentials[enterprise] = kept;
                        }

                        break;
                    default:
                        break;
                }

                foreach (Instance each in _instances)
                {
                    Check(each);
                }
            }
        }

        private (IdentityChanges, long, long[]) Look(Instance at)
        {
            long since = at.Version.Current;
            var changes = _ids.Select((id, index) => (id, _state[index]))
                .Where(change => change.Item2 > since)
                .ToArray();
            return (new IdentityChanges(_version, 0, changes), _time.GetTimestamp(), [.. _state]);
        }

        private static void End(Instance at, (IdentityChanges Read, long StartedAt, long[] State) look)
        {
            at.Version.Confirm(look.Read, look.StartedAt);
            for (int enterprise = 0; enterprise < Enterprises; enterprise++)
            {
                at.MustKnow[enterprise] = Math.Max(at.MustKnow[enterprise], look.State[enterprise]);
            }
        }

        /// <summary>As <see cref="EnterpriseDirectory"/>: from memory while it holds.</summary>
        private long Directory(Instance at, int enterprise)
        {
            if (at.Directory[enterprise] is not { } known || !Holds(at, enterprise, known.Version))
            {
                at.Directory[enterprise] = known = new Cached(at.Version.Current, _state[enterprise]);
            }

            return known.State;
        }

        private bool Holds(Instance at, int enterprise, long version) =>
            at.Version.Holds(version, at.Version.Of(_ids[enterprise]));

        private void Check(Instance at)
        {
            for (int enterprise = 0; enterprise < Enterprises; enterprise++)
            {
                foreach (Cached? cached in new[] { at.Credentials[enterprise], at.Directory[enterprise] })
                {
                    if (cached is not null && Holds(at, enterprise, cached.Version))
                    {
                        Assert.True(
                            cached.State >= at.MustKnow[enterprise],
                            $"serves {cached.State}, read at {cached.Version}, but {at.MustKnow[enterprise]} is known"
                        );
                    }
                }
            }
        }

        private sealed record Cached(long Version, long State);

        private sealed class Instance
        {
            public required IdentityVersion Version { get; init; }
            public long[] MustKnow { get; } = new long[Enterprises];
            public Queue<(IdentityChanges, long, long[])> Looks { get; } = new();
            public (long Version, long Directory)?[] Loading { get; } = new (long, long)?[Enterprises];
            public Cached?[] Credentials { get; } = new Cached?[Enterprises];
            public Cached?[] Directory { get; } = new Cached?[Enterprises];
        }
    }
}
