namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>
/// The Lua scripts of <see cref="CounterStore"/>. Each is one step: nobody sees the counters between two of its lines. A call
/// from Lua costs more than what it does, so everything that can be asked at once is.
/// </summary>
internal static class CounterScripts
{
    /// <summary>The field of a group that says that all of its counts are there: one that is missing is zero.</summary>
    public const string WholeField = "*";

    // All or nothing for each use, in the order asked. KEYS: state, open, three generations of ids, groups. ARGV: state, now,
    // doubtful before, how long ids are kept; per group its lifetime, whether it began lately, its fields; the ids; per use its limits.
    public const string Admit = """
        local unpack = unpack or table.unpack
        local state = redis.call('GET', KEYS[1])
        if state ~= ARGV[1] then return { 'state', state or '' } end
        local n, g, at = tonumber(ARGV[5]), tonumber(ARGV[6]), 7
        local used, missing, groups = {}, { 'missing' }, {}
        for i = 1, g do
            local m = tonumber(ARGV[at + 2])
            local kept = redis.call('HMGET', KEYS[5 + i], '*', unpack(ARGV, at + 3, at + 2 + m))
            local whole = kept[1] or ARGV[at + 1] == '1'
            groups[i] = { #used, m, at }
            for j = 1, m do
                used[#used + 1] = kept[j + 1] and tonumber(kept[j + 1]) or 0
                if not kept[j + 1] and not whole then missing[#missing + 1] = #used - 1 end
            end
            at = at + 3 + m
        end
        if #missing > 1 then return missing end
        local doubtful = redis.call('ZCOUNT', KEYS[2], '-inf', ARGV[3]) > 0 and 1 or 0
        local known = {}
        for generation = 3, 5 do
            local found = redis.call('SMISMEMBER', KEYS[generation], unpack(ARGV, at, at + n - 1))
            for e = 1, n do
                if found[e] == 1 then known[ARGV[at + e - 1]] = true end
            end
        end
        local answer, fresh, open, changed = { 'done', doubtful }, {}, {}, {}
        local ids = at - 1
        at = at + n
        for e = 1, n do
            local k, id = tonumber(ARGV[at]), ARGV[ids + e]
            local refused, held = -1, 0
            if not known[id] then
                for j = 1, k do
                    local counter, limit = tonumber(ARGV[at + 2 * j - 1]), tonumber(ARGV[at + 2 * j])
                    if used[counter] >= limit then
                        refused, held = j - 1, used[counter]
                        break
                    end
                end
                if refused < 0 then
                    for j = 1, k do
                        local counter = tonumber(ARGV[at + 2 * j - 1])
                        used[counter] = used[counter] + 1
                        changed[counter] = true
                    end
                    known[id] = true
                    fresh[#fresh + 1] = id
                    open[#open + 1] = ARGV[2]
                    open[#open + 1] = id
                end
            end
            answer[#answer + 1] = refused
            answer[#answer + 1] = held
            at = at + 1 + 2 * k
        end
        if #fresh > 0 then
            redis.call('SADD', KEYS[3], unpack(fresh))
            redis.call('PEXPIRE', KEYS[3], ARGV[4])
            redis.call('ZADD', KEYS[2], unpack(open))
            redis.call('PEXPIRE', KEYS[2], 86400000)
            for i, group in ipairs(groups) do
                local set = {}
                for j = 1, group[2] do
                    if changed[group[1] + j] then
                        set[#set + 1] = ARGV[group[3] + 2 + j]
                        set[#set + 1] = string.format('%.0f', used[group[1] + j])
                    end
                end
                if #set > 0 then
                    redis.call('HSET', KEYS[5 + i], unpack(set))
                    redis.call('PEXPIRE', KEYS[5 + i], ARGV[group[3]])
                end
            end
        end
        return answer
        """;

    // A counter that somebody else has loaded meanwhile may have gone on: it stays. KEYS: state, group. ARGV: state, lifetime, how many; fields, counts.
    public const string Load = """
        local unpack = unpack or table.unpack
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        local n = tonumber(ARGV[3])
        if n == 0 then return 1 end
        local kept, set = redis.call('HMGET', KEYS[2], unpack(ARGV, 4, 3 + n)), {}
        for i = 1, n do
            if not kept[i] then
                set[#set + 1] = ARGV[3 + i]
                set[#set + 1] = ARGV[3 + n + i]
            end
        end
        if #set > 0 then redis.call('HSET', KEYS[2], unpack(set)) end
        redis.call('PEXPIRE', KEYS[2], ARGV[2])
        return 1
        """;

    // Fences only rise: who comes late with a lower one changes nothing.
    public const string Begin = """
        local state = redis.call('GET', KEYS[1])
        if state and tonumber(string.match(state, '^(%d+)')) >= tonumber(ARGV[2]) then return state end
        redis.call('SET', KEYS[1], ARGV[1])
        return ARGV[1]
        """;

    // KEYS: state, open, three generations of ids, groups. ARGV: state, id; per group its fields.
    public const string Release = """
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
        local taken = 0
        for generation = 3, 5 do taken = taken + redis.call('SREM', KEYS[generation], ARGV[2]) end
        if taken == 0 then return 0 end
        redis.call('ZREM', KEYS[2], ARGV[2])
        local at = 3
        for i = 6, #KEYS do
            local m = tonumber(ARGV[at])
            for j = 1, m do
                local used = redis.call('HGET', KEYS[i], ARGV[at + j])
                if used and tonumber(used) > 0 then redis.call('HINCRBY', KEYS[i], ARGV[at + j], -1) end
            end
            at = at + 1 + m
        end
        return 1
        """;

    // KEYS: state, groups. ARGV: per group its fields.
    public const string Read = """
        local unpack = unpack or table.unpack
        local answer, at = { redis.call('GET', KEYS[1]) or '' }, 1
        for i = 2, #KEYS do
            local m = tonumber(ARGV[at])
            local kept = redis.call('HMGET', KEYS[i], '*', unpack(ARGV, at + 1, at + m))
            for j = 1, m do answer[#answer + 1] = kept[j + 1] or (kept[1] and '0' or '') end
            at = at + 1 + m
        end
        return answer
        """;
}
