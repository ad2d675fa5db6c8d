using System.Runtime.InteropServices;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Limits;

/// <summary>What a user did on a local day.</summary>
internal readonly record struct UserDay(Guid UserId, long Count, DateTime FirstAt);

/// <summary>A window in which something was refused; see <see cref="Contracts.BacktestWindow"/>.</summary>
internal sealed record ReplayedWindow(WindowSpan Span, long Attempts, long Blocked, int? Users, DateTime FirstAt);

/// <summary>A user to whom something was refused.</summary>
internal record struct ReplayedUser(long Blocked, int Windows, DateTime FirstAt);

/// <summary>
/// Does in the order of event time what admission does: lets the first N of a window through, and refuses the rest, which do not
/// count. Holds a number for each user of the window, and for each who was refused something.
/// </summary>
internal sealed class LimitReplay(LimitScope scope, LimitWindow window, long limit, LocalTime local)
{
    private readonly Dictionary<Guid, long> _attempts = [];
    private readonly Dictionary<Guid, ReplayedUser> _users = [];
    private readonly HashSet<Guid> _refused = [];
    private readonly List<ReplayedWindow> _windows = [];
    private WindowSpan _window;
    private long _windowBlocked;
    private long _windowUnattributed;
    private DateTime _windowFirstAt;

    public long Events { get; private set; }

    public long Blocked { get; private set; }

    /// <summary>Refusals of which only the day is known, and not whose they are.</summary>
    public long Unattributed { get; private set; }

    /// <summary>Windows in which something was counted, of each subject.</summary>
    public long WindowsEvaluated { get; private set; }

    /// <summary>Of these, those in which something was refused.</summary>
    public long WindowsReached { get; private set; }

    public DateTime? FirstAt { get; private set; }

    public IReadOnlyDictionary<Guid, ReplayedUser> Users => _users;

    /// <summary>The windows in which something was refused, after <see cref="Finish"/>.</summary>
    public IReadOnlyList<ReplayedWindow> Windows => _windows;

    /// <summary>The next event.</summary>
    public void Add(Guid userId, DateTime at)
    {
        MoveTo(at);
        if (Count(SubjectOf(userId), 1) > 0)
        {
            Refuse(userId, 1, at);
        }
    }

    /// <summary>The next local day as a whole, of a limit whose windows are no shorter.</summary>
    public void AddDay(DateTime dayStart, IReadOnlyList<UserDay> day)
    {
        MoveTo(dayStart);
        if (scope == LimitScope.User)
        {
            foreach (UserDay user in day)
            {
                long beyond = Count(user.UserId, user.Count);
                if (beyond > 0)
                {
                    Refuse(user.UserId, beyond, user.FirstAt);
                }
            }

            return;
        }

        bool isReached = _attempts.GetValueOrDefault(Guid.Empty) >= limit;
        long refused = day.Count == 0 ? 0 : Count(Guid.Empty, day.Sum(user => user.Count));
        if (isReached)
        {
            foreach (UserDay user in day)
            {
                Refuse(user.UserId, user.Count, user.FirstAt);
            }
        }
        else if (refused > 0)
        {
            // Reached in the midst of the day: somebody's, but the order of the day's events would tell whose.
            Unattributed += refused;
            _windowUnattributed += refused;
            Refuse(refused, day.Min(user => user.FirstAt));
        }
    }

    public void Finish()
    {
        if (_windowBlocked > 0)
        {
            WindowsReached += scope == LimitScope.User ? _refused.Count : 1;
            _windows.Add(
                new ReplayedWindow(
                    _window,
                    scope == LimitScope.User ? _refused.Sum(user => _attempts[user]) : _attempts[Guid.Empty],
                    _windowBlocked,
                    _windowUnattributed > 0 ? null : _refused.Count,
                    _windowFirstAt
                )
            );
        }

        _attempts.Clear();
        _refused.Clear();
        (_windowBlocked, _windowUnattributed) = (0, 0);
    }

    private void MoveTo(DateTime at)
    {
        if (!_window.Contains(at))
        {
            Finish();
            _window = WindowSpan.Of(window, local, at);
        }
    }

    private Guid SubjectOf(Guid userId) => scope == LimitScope.User ? userId : Guid.Empty;

    /// <returns>How many of them are beyond the limit.</returns>
    private long Count(Guid subject, long count)
    {
        ref long attempts = ref CollectionsMarshal.GetValueRefOrAddDefault(_attempts, subject, out bool known);
        WindowsEvaluated += known ? 0 : 1;
        Events += count;
        long before = Math.Max(0, attempts - limit);
        attempts += count;
        return Math.Max(0, attempts - limit) - before;
    }

    private void Refuse(Guid userId, long count, DateTime at)
    {
        ref ReplayedUser user = ref CollectionsMarshal.GetValueRefOrAddDefault(_users, userId, out bool known);
        user = new ReplayedUser(
            user.Blocked + count,
            user.Windows + (_refused.Add(userId) ? 1 : 0),
            known && user.FirstAt < at ? user.FirstAt : at
        );
        Refuse(count, at);
    }

    private void Refuse(long count, DateTime at)
    {
        Blocked += count;
        _windowFirstAt = _windowBlocked == 0 || at < _windowFirstAt ? at : _windowFirstAt;
        _windowBlocked += count;
        FirstAt = FirstAt is { } first && first < at ? first : at;
    }
}
