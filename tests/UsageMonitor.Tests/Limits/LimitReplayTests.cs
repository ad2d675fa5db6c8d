using CsCheck;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using Xunit;
using static UsageMonitor.Tests.Limits.LimitMaking;

namespace UsageMonitor.Tests.Limits;

/// <summary>The replay against a model that is too simple to be wrong: count each window's events one by one.</summary>
public sealed class LimitReplayTests
{
    private static readonly Guid[] s_users =
    [
        .. Enumerable.Range(1, 5).Select(number => new Guid(number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    ];

    private static readonly LimitWindow[] s_windows = [LimitWindow.Hourly, LimitWindow.Daily, LimitWindow.Monthly];
    private static readonly LimitScope[] s_scopes = [LimitScope.User, LimitScope.Role, LimitScope.Enterprise];

    // Around the days on which clocks are changed, and the end of a month.
    private static readonly (string Zone, string From)[] s_places =
    [
        ("Europe/Berlin", "2026-03-28T00:00:00Z"),
        ("Europe/Berlin", "2026-10-23T12:00:00Z"),
        ("America/New_York", "2026-10-30T00:00:00Z"),
        ("Asia/Kolkata", "2026-02-26T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
    ];

    private static readonly Gen<(string Zone, (Guid User, DateTime At)[] Events)> s_histories = Gen.Select(
        OneOf(s_places),
        Gen.Select(Gen.Int[0, s_users.Length - 1], Gen.Int[0, 5 * 24 * 60]).Array[0, 200],
        (place, events) =>
            (
                place.Zone,
                events
                    .Select(one => (s_users[one.Item1], Utc(place.From).AddMinutes(one.Item2)))
                    .OrderBy(one => one.Item2)
                    .ToArray()
            )
    );

    [Fact]
    public void Add_WhateverTheHistory_ShouldRefuseWhatTheModelRefuses() =>
        Gen.Select(s_histories, OneOf(s_scopes), OneOf(s_windows), Gen.Long[0, 6])
            .Sample(
                (history, scope, window, limit) =>
                {
                    var replay = new LimitReplay(scope, window, limit, Local(history.Zone));
                    foreach ((Guid user, DateTime at) in history.Events)
                    {
                        replay.Add(user, at);
                    }

                    replay.Finish();
                    NaiveAdmission model = NaiveAdmission.Of(history.Zone, history.Events, scope, window, limit);
                    Assert.Equal(history.Events.Length, replay.Events);
                    Assert.Equal(model.Refused.Count, replay.Blocked);
                    Assert.Equal(model.Windows, replay.WindowsEvaluated);
                    Assert.Equal(model.Refused.Select(one => one.Window).Distinct().Count(), replay.WindowsReached);
                    Assert.Equal(model.Refused.Count == 0 ? (DateTime?)null : model.Refused[0].At, replay.FirstAt);
                    Assert.Equal(0, replay.Unattributed);
                    Assert.Equal(
                        model
                            .Refused.GroupBy(one => one.User)
                            .ToDictionary(
                                user => user.Key,
                                user => new ReplayedUser(
                                    user.Count(),
                                    user.Select(one => one.Window).Distinct().Count(),
                                    user.First().At
                                )
                            ),
                        replay.Users
                    );
                    Assert.Equal(replay.Blocked, replay.Windows.Sum(each => each.Blocked));
                    Assert.All(
                        replay.Windows,
                        each =>
                        {
                            Assert.True(each.Span.Contains(each.FirstAt));
                            Assert.Equal(model.Refused.Count(one => each.Span.Contains(one.At)), each.Blocked);
                        }
                    );
                }
            );

    [Fact]
    public void AddDay_WhateverTheHistory_ShouldCountAsByEvents() =>
        Gen.Select(s_histories, OneOf(s_scopes), OneOf(LimitWindow.Daily, LimitWindow.Monthly), Gen.Long[0, 20])
            .Sample(
                (history, scope, window, limit) =>
                {
                    LocalTime local = Local(history.Zone);
                    var replay = new LimitReplay(scope, window, limit, local);
                    foreach (
                        IGrouping<DateTime, (Guid User, DateTime At)> day in history
                            .Events.GroupBy(one => local.DayStart(one.At))
                            .OrderBy(day => day.Key)
                    )
                    {
                        replay.AddDay(
                            day.Key,
                            [
                                .. day.GroupBy(one => one.User)
                                    .Select(user => new UserDay(user.Key, user.Count(), user.Min(one => one.At))),
                            ]
                        );
                    }

                    replay.Finish();
                    NaiveAdmission model = NaiveAdmission.Of(history.Zone, history.Events, scope, window, limit);
                    Assert.Equal(model.Refused.Count, replay.Blocked);
                    Assert.Equal(model.Windows, replay.WindowsEvaluated);
                    Assert.Equal(model.Refused.Select(one => one.Window).Distinct().Count(), replay.WindowsReached);
                    Assert.Equal(
                        model.Refused.Count,
                        replay.Users.Values.Sum(user => user.Blocked) + replay.Unattributed
                    );
                    var refused = model
                        .Refused.GroupBy(one => one.User)
                        .ToDictionary(user => user.Key, user => (long)user.Count());
                    if (scope == LimitScope.User)
                    {
                        Assert.Equal(refused, replay.Users.ToDictionary(user => user.Key, user => user.Value.Blocked));
                    }

                    // Nobody is said to have been refused more than they were, nor on a later day.
                    Assert.All(replay.Users, user => Assert.True(user.Value.Blocked <= refused[user.Key]));
                    Assert.Equal(
                        model.Refused.Count == 0 ? (DateOnly?)null : local.DateOf(model.Refused[0].At),
                        replay.FirstAt is { } first ? local.DateOf(first) : (DateOnly?)null
                    );
                }
            );
}
