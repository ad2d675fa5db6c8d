using System.Globalization;
using StackExchange.Redis;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>What the counters of an enterprise in Redis are worth.</summary>
/// <param name="Fence">The log's fence that they were begun under; they are good for as long as it stands.</param>
/// <param name="BuiltAt">When they were begun. A counter that is missing of a window that began later is zero.</param>
internal readonly record struct CounterState(long Fence, DateTimeOffset BuiltAt)
{
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Fence}:{BuiltAt.ToUnixTimeMilliseconds()}");

    public static CounterState? Parse(string? text) =>
        text?.Split(':') is [var fence, var builtAt]
            ? new CounterState(
                long.Parse(fence, CultureInfo.InvariantCulture),
                DateTimeOffset.FromUnixTimeMilliseconds(long.Parse(builtAt, CultureInfo.InvariantCulture))
            )
            : null;
}

/// <summary>What the script says of a request.</summary>
internal enum CounterAnswerKind
{
    /// <summary>Redis did not answer.</summary>
    Away,

    /// <summary>Redis has no counters of the enterprise, or of another fence.</summary>
    OtherState,

    /// <summary>Some counters must be loaded first; nothing was counted.</summary>
    Missing,

    /// <summary>All uses were admitted or refused.</summary>
    Done,
}

/// <param name="Kind">What follows.</param>
/// <param name="State">Of <see cref="CounterAnswerKind.OtherState"/>: what Redis has, or null for nothing.</param>
/// <param name="Places">Of <see cref="CounterAnswerKind.Missing"/>: the counters' places.</param>
/// <param name="Verdicts">Of <see cref="CounterAnswerKind.Done"/>: one a use.</param>
/// <param name="IsDoubtful">Something admitted long ago was never confirmed: the counters may be too high.</param>
internal sealed record CounterAnswer(
    CounterAnswerKind Kind,
    CounterState? State = null,
    int[]? Places = null,
    UseVerdict[]? Verdicts = null,
    bool IsDoubtful = false
)
{
    public static readonly CounterAnswer Away = new(CounterAnswerKind.Away);
}

/// <summary>What came of giving back.</summary>
internal enum ReleaseKind
{
    /// <summary>Redis did not answer.</summary>
    Away,

    /// <summary>Redis has no counters of the enterprise, or of another fence.</summary>
    OtherState,

    /// <summary>Given back, now or before.</summary>
    Done,
}

/// <summary>What became of a use.</summary>
/// <param name="RefusedBy">Which of its limits refused it, from 0; negative: admitted.</param>
/// <param name="Used">Of that limit, before the use.</param>
internal readonly record struct UseVerdict(int RefusedBy, long Used)
{
    public static readonly UseVerdict Admitted = new(-1, 0);

    public bool IsAdmitted => RefusedBy < 0;
}

/// <summary>
/// The counters in Redis: <c>lim:{enterprise}</c> says what they are worth, everything else has the fence in its name, so that
/// what an older fence left behind is never read again.
/// </summary>
internal sealed class CounterStore(RedisCalls redis)
{
    /// <summary>An admitted use's id is remembered for as long; retries that come later are looked up in the store.</summary>
    public const int IdsKeptMinutes = 15;

    /// <summary>Late events count on windows that are over; until then a counter is kept beyond its window's end.</summary>
    public const int CounterKeptDays = 8;

    /// <summary>An append takes seconds at most; what was not confirmed for as long is in doubt.</summary>
    public const int UnconfirmedSecondsMax = 60;

    // All or nothing for each use, in the order asked. The script is one step: nobody sees a counter between two of its lines.
    private const string AdmitScript = """
        local state = redis.call('GET', KEYS[1])
        if state ~= ARGV[1] then return { 'state', state or '' } end
        local n, c = tonumber(ARGV[5]), tonumber(ARGV[6])
        local used, missing = {}, { 'missing' }
        for i = 1, c do
            local kept = redis.call('GET', KEYS[2 + n + i])
            if kept then
                used[i] = tonumber(kept)
            elseif ARGV[5 + 2 * i + 1] == '1' then
                used[i] = 0
            else
                missing[#missing + 1] = i - 1
            end
        end
        if #missing > 1 then return missing end
        local at = 6 + 2 * c
        local changed = {}
        local doubtful = redis.call('ZCOUNT', KEYS[2], '-inf', ARGV[3]) > 0 and 1 or 0
        local answer = { 'done', doubtful }
        for e = 1, n do
            local k = tonumber(ARGV[at + 2])
            local refused, held = -1, 0
            if redis.call('EXISTS', KEYS[2 + e]) == 0 then
                for j = 1, k do
                    local counter, limit = tonumber(ARGV[at + 1 + 2 * j]), tonumber(ARGV[at + 2 + 2 * j])
                    if used[counter] >= limit then
                        refused, held = j - 1, used[counter]
                        break
                    end
                end
                if refused < 0 then
                    for j = 1, k do
                        local counter = tonumber(ARGV[at + 1 + 2 * j])
                        used[counter] = used[counter] + 1
                        changed[counter] = true
                    end
                    redis.call('SET', KEYS[2 + e], '1', 'PX', ARGV[4])
                    redis.call('ZADD', KEYS[2], ARGV[2], ARGV[at + 1])
                end
            end
            answer[#answer + 1] = refused
            answer[#answer + 1] = held
            at = at + 2 + 2 * k
        end
        for i, _ in pairs(changed) do
            redis.call('SET', KEYS[2 + n + i], string.format('%.0f', used[i]), 'PX', ARGV[5 + 2 * i])
        end
        if next(changed) then redis.call('PEXPIRE', KEYS[2], 86400000) end
        return answer
        """;

    // A counter that somebody else has loaded meanwhile may have gone on: it stays.
    private const string LoadScript = """
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i - 2], 'NX', 'PX', ARGV[2 * i - 1]) end
        return 1
        """;

    // Fences only rise: who comes late with a lower one changes nothing.
    private const string BeginScript = """
        local state = redis.call('GET', KEYS[1])
        if state and tonumber(string.match(state, '^(%d+)')) >= tonumber(ARGV[2]) then return state end
        redis.call('SET', KEYS[1], ARGV[1])
        return ARGV[1]
        """;

    private const string ReleaseScript = """
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
        if redis.call('DEL', KEYS[2]) == 0 then return 0 end
        redis.call('ZREM', KEYS[3], ARGV[2])
        for i = 4, #KEYS do
            if tonumber(redis.call('GET', KEYS[i]) or '0') > 0 then redis.call('DECR', KEYS[i]) end
        end
        return 1
        """;

    private const string ReadScript = """
        local answer = { redis.call('GET', KEYS[1]) or '' }
        for i = 2, #KEYS do answer[i] = redis.call('GET', KEYS[i]) or '' end
        return answer
        """;

    public async ValueTask<CounterAnswer> AdmitAsync(
        AdmissionPlan plan,
        CounterState state,
        IReadOnlyList<PlannedUse> uses,
        DateTimeOffset now
    )
    {
        int count = uses.Count;
        var counters = new List<int>();
        var places = new Dictionary<int, int>();
        var arguments = new List<RedisValue>();
        foreach (PlannedUse use in uses)
        {
            arguments.Add(use.UseId.ToString("N"));
            arguments.Add(use.Count);
            for (int j = use.First; j < use.First + use.Count; j++)
            {
                if (places.TryAdd(plan.Limits[j].Counter, counters.Count + 1))
                {
                    counters.Add(plan.Limits[j].Counter);
                }

                arguments.Add(places[plan.Limits[j].Counter]);
                arguments.Add(plan.Limits[j].Limit.LimitValue);
            }
        }

        long nowMilliseconds = now.ToUnixTimeMilliseconds();
        RedisValue[] head = new RedisValue[6 + (2 * counters.Count)];
        head[0] = state.ToString();
        head[1] = nowMilliseconds;
        head[2] = nowMilliseconds - (UnconfirmedSecondsMax * 1_000);
        head[3] = IdsKeptMinutes * 60_000;
        head[4] = count;
        head[5] = counters.Count;
        var keys = new RedisKey[2 + count + counters.Count];
        Guid enterpriseId = plan.Enterprise.EnterpriseId;
        keys[0] = StateKey(enterpriseId);
        keys[1] = OpenKey(enterpriseId, state.Fence);
        for (int i = 0; i < count; i++)
        {
            keys[2 + i] = IdKey(enterpriseId, state.Fence, uses[i].UseId);
        }

        for (int i = 0; i < counters.Count; i++)
        {
            Counter counter = plan.Counters[counters[i]];
            keys[2 + count + i] = CounterKey(enterpriseId, state.Fence, counter);
            head[6 + (2 * i)] = KeptFor(counter, now);
            head[7 + (2 * i)] = IsZeroWhenMissing(counter, state) ? 1 : 0;
        }

        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(AdmitScript, keys, [.. head, .. arguments]),
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
                    Places: [.. parts.Skip(1).Select(place => counters[(int)place])]
                );
            default:
                var verdicts = new UseVerdict[count];
                for (int i = 0; i < count; i++)
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
        Guid enterpriseId = plan.Enterprise.EnterpriseId;
        var keys = new RedisKey[1 + plan.Counters.Count];
        keys[0] = StateKey(enterpriseId);
        for (int i = 0; i < plan.Counters.Count; i++)
        {
            keys[1 + i] = CounterKey(enterpriseId, state.Fence, plan.Counters[i]);
        }

        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(ReadScript, keys),
            RedisCalls.CallTimeMax
        );
        if (!answer.TryGet(out RedisResult? result) || (RedisResult[]?)result is not { Length: > 0 } parts)
        {
            return (false, null, []);
        }

        var kept = CounterState.Parse((string?)parts[0] is { Length: > 0 } text ? text : null);
        return (
            true,
            kept,
            kept != state
                ? []
                :
                [
                    .. plan.Counters.Select<Counter, long?>(
                        (counter, i) =>
                            (string?)parts[1 + i] is { Length: > 0 } used
                                ? long.Parse(used, CultureInfo.InvariantCulture)
                            : IsZeroWhenMissing(counter, state) ? 0
                            : null
                    ),
                ]
        );
    }

    /// <summary>Sets counters that are missing.</summary>
    /// <returns>False: Redis is away or of another state.</returns>
    public async ValueTask<bool> LoadAsync(
        AdmissionPlan plan,
        CounterState state,
        IReadOnlyList<(int Counter, long Used)> counts,
        DateTimeOffset now
    )
    {
        Guid enterpriseId = plan.Enterprise.EnterpriseId;
        RedisKey[] keys =
        [
            StateKey(enterpriseId),
            .. counts.Select(count => CounterKey(enterpriseId, state.Fence, plan.Counters[count.Counter])),
        ];
        RedisValue[] arguments =
        [
            state.ToString(),
            .. counts.SelectMany(count => new RedisValue[] { count.Used, KeptFor(plan.Counters[count.Counter], now) }),
        ];
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(LoadScript, keys, arguments),
            RedisCalls.CallTimeMax
        );
        return answer.TryGet(out RedisResult? result) && (int)result == 1;
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
        IReadOnlyCollection<Guid> pendingIds
    )
    {
        foreach (Guid[] ids in pendingIds.Chunk(1_000))
        {
            RedisAnswer<bool> kept = await redis.AskAsync(
                database =>
                {
                    IBatch batch = database.CreateBatch();
                    Task<bool>[] set =
                    [
                        .. ids.Select(id =>
                            batch.StringSetAsync(
                                IdKey(enterpriseId, state.Fence, id),
                                "1",
                                TimeSpan.FromMinutes(IdsKeptMinutes)
                            )
                        ),
                    ];
                    batch.Execute();
                    return AllAsync(set);
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
                database.ScriptEvaluateAsync(BeginScript, [StateKey(enterpriseId)], [state.ToString(), state.Fence]),
            RedisCalls.CallTimeMax
        );
        return answer.TryGet(out RedisResult? result) ? CounterState.Parse((string?)result) : null;

        static async Task<bool> AllAsync(Task<bool>[] set) => Array.TrueForAll(await Task.WhenAll(set), done => done);
    }

    /// <summary>What was admitted is in the log now. Not waited for: unconfirmed it is only in doubt.</summary>
    public void Confirm(Guid enterpriseId, long fence, IEnumerable<Guid> useIds) =>
        _ = redis
            .AskAsync(
                database =>
                    database.SortedSetRemoveAsync(
                        OpenKey(enterpriseId, fence),
                        [.. useIds.Select(id => (RedisValue)id.ToString("N"))]
                    ),
                RedisCalls.CallTimeMax
            )
            .AsTask();

    /// <summary>Gives back what a use has taken, once.</summary>
    public async ValueTask<ReleaseKind> ReleaseAsync(AdmissionPlan plan, CounterState state, Guid useId)
    {
        Guid enterpriseId = plan.Enterprise.EnterpriseId;
        RedisKey[] keys =
        [
            StateKey(enterpriseId),
            IdKey(enterpriseId, state.Fence, useId),
            OpenKey(enterpriseId, state.Fence),
            .. plan.Counters.Select(counter => CounterKey(enterpriseId, state.Fence, counter)),
        ];
        RedisAnswer<RedisResult> answer = await redis.AskAsync(
            database => database.ScriptEvaluateAsync(ReleaseScript, keys, [state.ToString(), useId.ToString("N")]),
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

    // An event may be ahead by a few minutes: it can have been stored before a window that had not begun when counting began.
    private static bool IsZeroWhenMissing(Counter counter, CounterState state) =>
        counter.Window.Start > state.BuiltAt.UtcDateTime.AddMinutes(TimestampWindow.AheadMinutesMax);

    private static long KeptFor(Counter counter, DateTimeOffset now) =>
        Math.Max(
            (long)(counter.Window.End.AddDays(CounterKeptDays) - now.UtcDateTime).TotalMilliseconds,
            IdsKeptMinutes * 60_000
        );

    // The braces keep an enterprise's keys on one shard of a cluster: a script must find them together.
    private RedisKey StateKey(Guid enterpriseId) => redis.Key($"lim:{{{enterpriseId:N}}}");

    private RedisKey OpenKey(Guid enterpriseId, long fence) => redis.Key($"lim:{{{enterpriseId:N}}}:{fence}:open");

    private RedisKey IdKey(Guid enterpriseId, long fence, Guid useId) =>
        redis.Key($"lim:{{{enterpriseId:N}}}:{fence}:{useId:N}");

    private RedisKey CounterKey(Guid enterpriseId, long fence, Counter counter) =>
        redis.Key(
            $"lim:{{{enterpriseId:N}}}:{fence}:{counter.Meter.MeterId:N}:{counter.SubjectId:N}:{new DateTimeOffset(counter.Window.Start).ToUnixTimeSeconds()}"
        );
}
