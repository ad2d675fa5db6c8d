using System.Globalization;
using StackExchange.Redis;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>
/// The counters in Redis: <c>lim:{enterprise}</c> says what they are worth, everything else has the fence in its name, so that
/// what an older fence left behind is never read again.
/// </summary>
/// <remarks>
/// The counters of a meter in a window are one hash, a field for each subject. The ids of admitted uses are sets, a new one
/// every <see cref="IdsKeptMinutes"/>: an id is looked for in the present one, in the one before, and in the one after, since
/// clocks of instances differ.
/// </remarks>
internal sealed class CounterStore(RedisCalls redis)
{
    /// <summary>An admitted use's id is remembered for at least as long; retries that come later are looked up in the store.</summary>
    public const int IdsKeptMinutes = 15;

    /// <summary>Late events count on windows that are over; until then a counter is kept beyond its window's end.</summary>
    public const int CounterKeptDays = 8;

    /// <summary>An append takes seconds at most; what was not confirmed for as long is in doubt.</summary>
    public const int UnconfirmedSecondsMax = 60;

    /// <summary>Fields of one call, which lets nobody else count meanwhile.</summary>
    private const int FieldsOfOneCall = 1_000;
    private const int Generations = 3;

    public async ValueTask<CounterAnswer> AdmitAsync(
        AdmissionPlan plan,
        CounterState state,
        IReadOnlyList<PlannedUse> uses,
        DateTimeOffset now
    )
    {
        var wanted = new WantedCounters(plan);
        foreach (PlannedUse use in uses)
        {
            for (int j = use.First; j < use.First + use.Count; j++)
            {
                wanted.Add(plan.Limits[j].Counter);
            }
        }

        wanted.Number();
        long nowMilliseconds = now.ToUnixTimeMilliseconds();
        var arguments = new List<RedisValue>(6 + (4 * uses.Count) + wanted.Counters)
        {
            state.ToString(),
            nowMilliseconds,
            nowMilliseconds - (UnconfirmedSecondsMax * 1_000),
            IdsKeptMilliseconds(),
            uses.Count,
            wanted.Groups.Count,
        };
        foreach ((int group, List<int> counters) in wanted.Groups)
        {
            CounterGroup window = plan.Groups[group];
            arguments.Add(KeptFor(window, now));
            arguments.Add(IsZeroWhenMissing(window, state) ? 1 : 0);
            arguments.Add(counters.Count);
            arguments.AddRange(counters.Select(counter => Field(plan.Counters[counter].SubjectId)));
        }

        arguments.AddRange(uses.Select(use => Field(use.UseId)));
        foreach (PlannedUse use in uses)
        {
            arguments.Add(use.Count);
            for (int j = use.First; j < use.First + use.Count; j++)
            {
                arguments.Add(wanted.PlaceOf(plan.Limits[j].Counter) + 1);
                arguments.Add(plan.Limits[j].Limit.LimitValue);
            }
        }

        RedisKey[] keys =
        [
            StateKey(plan.Enterprise.EnterpriseId),
            OpenKey(plan.Enterprise.EnterpriseId, state.Fence),
            .. IdKeys(plan.Enterprise.EnterpriseId, state.Fence, now),
            .. wanted.Groups.Select(group => GroupKey(plan, state, group.Group)),
        ];
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(CounterScripts.Admit, keys, [.. arguments]),
            RedisCalls.CallTimeMax
        );
        if (!answer.TryGet(out RedisResult? result) || (RedisResult[]?)result is not { Length: > 0 } parts)
        {
            return CounterAnswer.Away;
        }

        switch ((string?)parts[0])
        {
            case "state":
                return new CounterAnswer(
                    CounterAnswerKind.OtherState,
                    CounterState.Parse((string?)parts[1] is { Length: > 0 } kept ? kept : null)
                );
            case "missing":
                return new CounterAnswer(
                    CounterAnswerKind.Missing,
                    Places: [.. parts.Skip(1).Select(place => wanted.CounterAt((int)place))]
                );
            default:
                var verdicts = new UseVerdict[uses.Count];
                for (int i = 0; i < verdicts.Length; i++)
                {
                    verdicts[i] = new UseVerdict((int)parts[2 + (2 * i)], (long)parts[3 + (2 * i)]);
                }

                return new CounterAnswer(CounterAnswerKind.Done, Verdicts: verdicts, IsDoubtful: (int)parts[1] != 0);
        }
    }

    /// <summary>The counts of a plan's counters, null where one must be loaded first; nothing at all while Redis is away or of another state.</summary>
    public async ValueTask<(bool IsAnswered, CounterState? State, long?[] Used)> ReadAsync(
        AdmissionPlan plan,
        CounterState state
    )
    {
        WantedCounters wanted = AllOf(plan);
        RedisKey[] keys =
        [
            StateKey(plan.Enterprise.EnterpriseId),
            .. wanted.Groups.Select(group => GroupKey(plan, state, group.Group)),
        ];
        RedisValue[] arguments = [.. FieldsOf(plan, wanted)];
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(CounterScripts.Read, keys, arguments),
            RedisCalls.CallTimeMax
        );
        if (!answer.TryGet(out RedisResult? result) || (RedisResult[]?)result is not { Length: > 0 } parts)
        {
            return (false, null, []);
        }

        var kept = CounterState.Parse((string?)parts[0] is { Length: > 0 } text ? text : null);
        if (kept != state)
        {
            return (true, kept, []);
        }

        var used = new long?[plan.Counters.Count];
        for (int place = 0; place < wanted.Counters; place++)
        {
            int counter = wanted.CounterAt(place);
            used[counter] =
                (string?)parts[1 + place] is { Length: > 0 } count ? long.Parse(count, CultureInfo.InvariantCulture)
                : IsZeroWhenMissing(plan.Groups[plan.Counters[counter].Group], state) ? 0
                : null;
        }

        return (true, kept, used);
    }

    /// <summary>Sets counters that are missing.</summary>
    /// <returns>False: Redis is away or of another state.</returns>
    public async ValueTask<bool> LoadAsync(
        AdmissionPlan plan,
        CounterState state,
        IReadOnlyList<CounterLoad> loads,
        DateTimeOffset now
    )
    {
        foreach (CounterLoad load in loads)
        {
            // That the group is whole is said with the last of its counts.
            List<(RedisValue Field, long Used)> counts =
            [
                .. load.Counts.Select(count => (Field(count.SubjectId), count.Used)),
            ];
            if (load.IsWhole)
            {
                counts.Add((CounterScripts.WholeField, 1));
            }

            RedisKey[] keys = [StateKey(plan.Enterprise.EnterpriseId), GroupKey(plan, state, load.Group)];
            foreach ((RedisValue Field, long Used)[] chunk in counts.Chunk(FieldsOfOneCall))
            {
                RedisValue[] arguments =
                [
                    state.ToString(),
                    KeptFor(plan.Groups[load.Group], now),
                    chunk.Length,
                    .. chunk.Select(count => count.Field),
                    .. chunk.Select(count => (RedisValue)count.Used),
                ];
                RedisAnswer<RedisResult> answer = await redis.AskAsync(
                    database => database.ScriptEvaluateAsync(CounterScripts.Load, keys, arguments),
                    RedisCalls.CallTimeMax
                );
                if (!answer.TryGet(out RedisResult? result) || (int)result != 1)
                {
                    return false;
                }
            }
        }

        return true;
    }

    /// <summary>What Redis has of an enterprise.</summary>
    public async ValueTask<(bool IsAnswered, CounterState? State)> FindStateAsync(Guid enterpriseId)
    {
        RedisAnswer<RedisValue> answer = await redis.AskAsync(
            database => database.StringGetAsync(StateKey(enterpriseId)),
            RedisCalls.CallTimeMax
        );
        return answer.TryGet(out RedisValue value) ? (true, CounterState.Parse(value)) : (false, null);
    }

    /// <summary>Begins counting under a fence: first the ids of what the log still holds, then the state that makes them count.</summary>
    /// <returns>The state that Redis has now, which may be a later one; null while it is away.</returns>
    public async ValueTask<CounterState?> BeginAsync(
        Guid enterpriseId,
        CounterState state,
        IReadOnlyCollection<Guid> pendingIds,
        DateTimeOffset now
    )
    {
        RedisKey ids = IdKeys(enterpriseId, state.Fence, now)[0];
        foreach (Guid[] chunk in pendingIds.Chunk(FieldsOfOneCall))
        {
            RedisAnswer<bool> kept = await redis.AskAsync(
                async database =>
                {
                    await database.SetAddAsync(ids, [.. chunk.Select(Field)]);
                    return await database.KeyExpireAsync(ids, TimeSpan.FromMilliseconds(IdsKeptMilliseconds()));
                },
                RedisCalls.CallTimeMax
            );
            if (!kept.TryGet(out _))
            {
                return null;
            }
        }

        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database =>
                database.ScriptEvaluateAsync(
                    CounterScripts.Begin,
                    [StateKey(enterpriseId)],
                    [state.ToString(), state.Fence]
                ),
            RedisCalls.CallTimeMax
        );
        return answer.TryGet(out RedisResult? result) ? CounterState.Parse((string?)result) : null;
    }

    /// <summary>What was admitted is in the log now. Not waited for: unconfirmed it is only in doubt.</summary>
    public void Confirm(Guid enterpriseId, long fence, IEnumerable<Guid> useIds) =>
        _ = redis
            .AskAsync(
                database => database.SortedSetRemoveAsync(OpenKey(enterpriseId, fence), [.. useIds.Select(Field)]),
                RedisCalls.CallTimeMax
            )
            .AsTask();

    /// <summary>Gives back what a use has taken, once.</summary>
    public async ValueTask<ReleaseKind> ReleaseAsync(
        AdmissionPlan plan,
        CounterState state,
        Guid useId,
        DateTimeOffset now
    )
    {
        WantedCounters wanted = AllOf(plan);
        RedisKey[] keys =
        [
            StateKey(plan.Enterprise.EnterpriseId),
            OpenKey(plan.Enterprise.EnterpriseId, state.Fence),
            .. IdKeys(plan.Enterprise.EnterpriseId, state.Fence, now),
            .. wanted.Groups.Select(group => GroupKey(plan, state, group.Group)),
        ];
        RedisValue[] arguments = [state.ToString(), Field(useId), .. FieldsOf(plan, wanted)];
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(CounterScripts.Release, keys, arguments),
            RedisCalls.CallTimeMax
        );
        if (!answer.TryGet(out RedisResult? result))
        {
            return ReleaseKind.Away;
        }

        return (int)result < 0 ? ReleaseKind.OtherState : ReleaseKind.Done;
    }

    /// <summary>One instance at a time begins anew; the others see what it did. A courtesy: fences make it right without.</summary>
    public async ValueTask<bool> TakeTurnAsync(Guid enterpriseId, TimeSpan lasts)
    {
        RedisAnswer<bool> answer = await redis.AskAsync(
            database =>
                database.StringSetAsync(redis.Key($"lim:{{{enterpriseId:N}}}:turn"), "1", lasts, When.NotExists),
            RedisCalls.CallTimeMax
        );
        return answer.TryGet(out bool taken) && taken;
    }

    private static WantedCounters AllOf(AdmissionPlan plan)
    {
        var wanted = new WantedCounters(plan);
        for (int counter = 0; counter < plan.Counters.Count; counter++)
        {
            wanted.Add(counter);
        }

        wanted.Number();
        return wanted;
    }

    private static IEnumerable<RedisValue> FieldsOf(AdmissionPlan plan, WantedCounters wanted) =>
        wanted.Groups.SelectMany(group =>
            group.Counters.Select(counter => Field(plan.Counters[counter].SubjectId)).Prepend(group.Counters.Count)
        );

    // An event may be ahead by a few minutes: it can have been stored before a window that had not begun when counting began.
    private static bool IsZeroWhenMissing(CounterGroup group, CounterState state) =>
        group.Window.Start > state.BuiltAt.UtcDateTime.AddMinutes(TimestampWindow.AheadMinutesMax);

    private static long KeptFor(CounterGroup group, DateTimeOffset now) =>
        Math.Max(
            (long)(group.Window.End.AddDays(CounterKeptDays) - now.UtcDateTime).TotalMilliseconds,
            IdsKeptMinutes * 60_000
        );

    private static long IdsKeptMilliseconds() => Generations * IdsKeptMinutes * 60_000L;

    private static RedisValue Field(Guid id) => id.ToByteArray();

    // The braces keep an enterprise's keys on one shard of a cluster: a script must find them together.
    private RedisKey StateKey(Guid enterpriseId) => redis.Key($"lim:{{{enterpriseId:N}}}");

    private RedisKey OpenKey(Guid enterpriseId, long fence) => redis.Key($"lim:{{{enterpriseId:N}}}:{fence}:open");

    /// <summary>The ids of now, of before and of after: new ones go into the first.</summary>
    private RedisKey[] IdKeys(Guid enterpriseId, long fence, DateTimeOffset now)
    {
        long generation = now.ToUnixTimeSeconds() / (IdsKeptMinutes * 60);
        return
        [
            redis.Key($"lim:{{{enterpriseId:N}}}:{fence}:ids:{generation}"),
            redis.Key($"lim:{{{enterpriseId:N}}}:{fence}:ids:{generation - 1}"),
            redis.Key($"lim:{{{enterpriseId:N}}}:{fence}:ids:{generation + 1}"),
        ];
    }

    private RedisKey GroupKey(AdmissionPlan plan, CounterState state, int group) =>
        redis.Key(
            $"lim:{{{plan.Enterprise.EnterpriseId:N}}}:{state.Fence}:{plan.Groups[group].Meter.MeterId:N}:{new DateTimeOffset(plan.Groups[group].Window.Start).ToUnixTimeSeconds()}"
        );
}

/// <summary>Some of a plan's counters, by group: in the order that a script is told of them.</summary>
internal sealed class WantedCounters(AdmissionPlan plan)
{
    private readonly Dictionary<int, List<int>> _byGroup = [];
    private readonly Dictionary<int, int> _places = [];
    private readonly List<int> _counters = [];

    public List<(int Group, List<int> Counters)> Groups { get; } = [];

    public int Counters => _places.Count;

    public void Add(int counter)
    {
        if (!_places.TryAdd(counter, 0))
        {
            return;
        }

        int group = plan.Counters[counter].Group;
        if (!_byGroup.TryGetValue(group, out List<int>? counters))
        {
            _byGroup[group] = counters = [];
            Groups.Add((group, counters));
        }

        counters.Add(counter);
    }

    /// <summary>Gives each its place, from 0; to be called when all are added.</summary>
    public void Number()
    {
        foreach ((_, List<int> counters) in Groups)
        {
            foreach (int counter in counters)
            {
                _places[counter] = _counters.Count;
                _counters.Add(counter);
            }
        }
    }

    public int PlaceOf(int counter) => _places[counter];

    public int CounterAt(int place) => _counters[place];
}
