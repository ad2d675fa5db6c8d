using System.Collections.Concurrent;
using Npgsql;
using UsageMonitor.EventLog;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Ingestion.Admission;

/// <summary>What became of a plan's uses.</summary>
/// <param name="State">The counters that they were counted on; null: they could not be counted.</param>
/// <param name="Verdicts">One a use.</param>
internal readonly record struct AdmissionResult(CounterState? State, IReadOnlyList<UseVerdict> Verdicts)
{
    public static readonly AdmissionResult Uncounted = new(null, []);
}

/// <summary>
/// Admits uses on their BLOCK limits, exactly: of the uses of a window, by any number of clients, instances, retries and
/// restarts, a limit of N lets N into the log.
/// </summary>
/// <remarks>
/// <para>Counting is one script in Redis, all limits of a use or none. What it counted is worth something only together
/// with the log, so every append says under which fence its uses were counted, and the log refuses it when the fence was
/// raised since. Whoever finds that Redis has lost its counters, or that they are in doubt, raises the fence and begins anew:
/// from then on each counter is loaded when it is first needed (<see cref="CounterBase"/>).</para>
/// <para>At every line of the way: a use that was counted and never appended (the process died, the append failed) is a retry
/// by its id, and without a retry in doubt after a minute, when counting begins anew without it. A use that was appended and
/// never answered is a retry, recognised by its id: for a quarter of an hour in Redis, after that among the stored events.
/// Usage that was let through uncounted raises the fence with its own append.</para>
/// </remarks>
internal sealed partial class LimitCounters(
    CounterStore store,
    CounterBase stored,
    LimitSets limits,
    IEventLog log,
    Database database,
    TimeProvider time,
    ILogger<LimitCounters> logger
) : IDisposable
{
    /// <summary>Uses of one run of the script, which lets nobody else count meanwhile.</summary>
    public const int UsesOfOneScript = 400;

    /// <summary>Every instance knows a limit a second after it was made; what others admitted until then is counted after this.</summary>
    public static readonly TimeSpan SettledAfter = TimeSpan.FromSeconds(2);

    /// <summary>Loads at once.</summary>
    private const int LoadsMax = 4;
    private const int AttemptsMax = 12;
    private const int TurnMilliseconds = 5_000;
    private const int WaitMilliseconds = 25;

    private readonly SemaphoreSlim _loading = new(LoadsMax);
    private readonly ConcurrentDictionary<Guid, CounterState> _states = new();
    private readonly ConcurrentDictionary<Guid, Lazy<Task<CounterState?>>> _beginnings = new();

    /// <summary>Counts the uses that find room, and refuses the others; uses that were admitted before are admitted again.</summary>
    /// <exception cref="NpgsqlException">PostgreSQL is needed to begin counting, and cannot be read.</exception>
    /// <exception cref="EventLogUnavailableException">The log is needed to begin counting, and cannot be read.</exception>
    public async Task<AdmissionResult> AdmitAsync(AdmissionPlan plan, CancellationToken cancellationToken)
    {
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            if (await FindStateAsync(plan, cancellationToken) is not { } state)
            {
                return AdmissionResult.Uncounted;
            }

            HashSet<Guid> known = await FindForgottenAsync(plan, state, cancellationToken);
            PlannedUse[] unknown = [.. plan.Uses.Where(use => !known.Contains(use.UseId))];

            // The earlier of them are void when the state has changed in between, so it is all of them again.
            var verdicts = new Dictionary<int, UseVerdict>(unknown.Length);
            bool isCounted = true;
            for (int from = 0; isCounted && from < unknown.Length; from += UsesOfOneScript)
            {
                ArraySegment<PlannedUse> uses = new(unknown, from, Math.Min(UsesOfOneScript, unknown.Length - from));
                CounterAnswer answer = await store.AdmitAsync(plan, state, uses, time.GetUtcNow());
                if (answer.Kind == CounterAnswerKind.Missing)
                {
                    await LoadAsync(plan, state, answer.Places!, cancellationToken);
                    answer = await store.AdmitAsync(plan, state, uses, time.GetUtcNow());
                }

                if (answer.Kind == CounterAnswerKind.Away)
                {
                    return AdmissionResult.Uncounted;
                }

                isCounted = answer.Kind == CounterAnswerKind.Done;
                if (isCounted)
                {
                    for (int i = 0; i < uses.Count; i++)
                    {
                        verdicts[uses[i].Index] = answer.Verdicts![i];
                    }

                    DoubtIf(answer.IsDoubtful, plan.Enterprise, state);
                }
                else if (answer.Kind == CounterAnswerKind.OtherState)
                {
                    Forget(plan.Enterprise.EnterpriseId, answer.State);
                }
            }

            if (isCounted)
            {
                await PardonStoredAsync(plan, verdicts, cancellationToken);
                return new AdmissionResult(
                    state,
                    [.. plan.Uses.Select(use => verdicts.GetValueOrDefault(use.Index, UseVerdict.Admitted))]
                );
            }
        }

        LogUnsettled(plan.Enterprise.EnterpriseId, AttemptsMax);
        return AdmissionResult.Uncounted;
    }

    /// <summary>What is used of a plan's counters, in their order; null while it cannot be counted.</summary>
    public async Task<long[]?> ReadAsync(AdmissionPlan plan, CancellationToken cancellationToken)
    {
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            if (await FindStateAsync(plan, cancellationToken) is not { } state)
            {
                return null;
            }

            (bool isAnswered, CounterState? kept, long?[] used) = await store.ReadAsync(plan, state);
            if (!isAnswered)
            {
                return null;
            }

            if (kept != state)
            {
                Forget(plan.Enterprise.EnterpriseId, kept);
                continue;
            }

            int[] missing = [.. Enumerable.Range(0, used.Length).Where(place => used[place] is null)];
            if (missing.Length == 0)
            {
                return [.. used.Select(count => count!.Value)];
            }

            await LoadAsync(plan, state, missing, cancellationToken);
        }

        return null;
    }

    /// <summary>The uses are in the log.</summary>
    public void Confirm(Guid enterpriseId, long fence, IEnumerable<Guid> useIds) =>
        store.Confirm(enterpriseId, fence, useIds);

    /// <summary>Gives back what a use has taken.</summary>
    /// <returns>False: it was not given back, because Redis is away.</returns>
    public async Task<bool> ReleaseAsync(AdmissionPlan plan, Guid useId, CancellationToken cancellationToken)
    {
        for (int attempt = 0; attempt < AttemptsMax; attempt++)
        {
            if (await FindStateAsync(plan, cancellationToken) is not { } state)
            {
                return false;
            }

            ReleaseKind released = await store.ReleaseAsync(plan, state, useId, time.GetUtcNow());
            if (released != ReleaseKind.OtherState)
            {
                return released == ReleaseKind.Done;
            }

            // Another instance has begun anew meanwhile: what is cached here is not worth anything.
            Forget(plan.Enterprise.EnterpriseId, null);
        }

        return false;
    }

    /// <summary>The log refused an append: the counters are not worth anything any more.</summary>
    public Task FencedAsync(EnterpriseInfo enterprise, long fence) =>
        _states.TryGetValue(enterprise.EnterpriseId, out CounterState state) && state.Fence <= fence
            ? BeginAsync(enterprise, fence)
            : Task.CompletedTask;

    /// <summary>
    /// Usage was appended that nobody counted: begins anew now, so that nobody is told of less than there is until the next append finds
    /// its fence raised. A failure changes nothing of what is admitted.
    /// </summary>
    public async Task BeginAnewAsync(EnterpriseInfo enterprise)
    {
        try
        {
            if (await store.FindStateAsync(enterprise.EnterpriseId) is (true, { } state))
            {
                await BeginAsync(enterprise, state.Fence);
            }
        }
        catch (Exception exception) when (exception is NpgsqlException or EventLogUnavailableException)
        {
            LogDoubt(exception, enterprise.EnterpriseId);
        }
    }

    public void Dispose() => _loading.Dispose();

    // An answer that is not there: nobody need wait for it, whoever admits next finds it.
    private void DoubtIf(bool isDoubtful, EnterpriseInfo enterprise, CounterState state)
    {
        if (isDoubtful)
        {
            _ = BeginAsync(enterprise, state.Fence)
                .ContinueWith(
                    begun => LogDoubt(begun.Exception, enterprise.EnterpriseId),
                    CancellationToken.None,
                    TaskContinuationOptions.OnlyOnFaulted,
                    TaskScheduler.Default
                );
        }
    }

    private void Forget(Guid enterpriseId, CounterState? kept)
    {
        if (kept is { } state)
        {
            _states[enterpriseId] = state;
        }
        else
        {
            _states.TryRemove(enterpriseId, out _);
        }
    }

    /// <returns>Null: Redis is away.</returns>
    private async Task<CounterState?> FindStateAsync(AdmissionPlan plan, CancellationToken cancellationToken)
    {
        Guid enterpriseId = plan.Enterprise.EnterpriseId;
        if (!_states.TryGetValue(enterpriseId, out CounterState state))
        {
            (bool isAnswered, CounterState? kept) = await store.FindStateAsync(enterpriseId);
            if (!isAnswered)
            {
                return null;
            }

            if (kept is not { } found)
            {
                return await BeginAsync(plan.Enterprise, 0).WaitAsync(cancellationToken);
            }

            _states[enterpriseId] = state = found;
        }

        DateTime settled = plan.Set.BlockingChangedAt + SettledAfter;
        return state.BuiltAt.UtcDateTime < settled && time.GetUtcNow().UtcDateTime >= settled
            ? await BeginAsync(plan.Enterprise, state.Fence).WaitAsync(cancellationToken)
            : state;
    }

    // A few at a time: a load holds two connections, and many who miss the same counter need it loaded once.
    private async Task LoadAsync(
        AdmissionPlan plan,
        CounterState state,
        IReadOnlyList<int> places,
        CancellationToken cancellationToken
    )
    {
        await _loading.WaitAsync(cancellationToken);
        try
        {
            (_, CounterState? kept, long?[] used) = await store.ReadAsync(plan, state);
            int[] missing = kept == state ? [.. places.Where(place => used[place] is null)] : [];
            if (missing.Length == 0)
            {
                return;
            }

            DateTimeOffset now = time.GetUtcNow();
            List<CounterLoad> loads = await stored.ReadAsync(plan, missing, now, cancellationToken);
            await store.LoadAsync(plan, state, loads, now);
        }
        finally
        {
            _loading.Release();
        }
    }

    /// <summary>Raises the fence and begins to count anew, unless somebody has since <paramref name="fence"/>.</summary>
    /// <returns>Null: Redis is away.</returns>
    private Task<CounterState?> BeginAsync(EnterpriseInfo enterprise, long fence) =>
        _beginnings
            .GetOrAdd(
                enterprise.EnterpriseId,
                static (_, asked) =>
                    new Lazy<Task<CounterState?>>(() => asked.Counters.RunBeginAsync(asked.Enterprise, asked.Fence)),
                (Counters: this, Enterprise: enterprise, Fence: fence)
            )
            .Value;

    private async Task<CounterState?> RunBeginAsync(EnterpriseInfo enterprise, long fence)
    {
        await Task.Yield();
        Guid enterpriseId = enterprise.EnterpriseId;
        try
        {
            // Whoever has the turn does it; the others wait for what comes of it, but not for ever.
            for (int waited = 0; waited < TurnMilliseconds; waited += WaitMilliseconds)
            {
                (bool isAnswered, CounterState? kept) = await store.FindStateAsync(enterpriseId);
                if (!isAnswered)
                {
                    return null;
                }

                if (kept is { } found && found.Fence > fence)
                {
                    _states[enterpriseId] = found;
                    return found;
                }

                if (await store.TakeTurnAsync(enterpriseId, TimeSpan.FromMilliseconds(WaitMilliseconds * 4)))
                {
                    break;
                }

                await Task.Delay(TimeSpan.FromMilliseconds(WaitMilliseconds), time);
            }

            // From before the fence: a window that begins later has nothing stored, and nobody is told of less than there is.
            DateTimeOffset builtAt = time.GetUtcNow();
            long raised = await log.RaiseFenceAsync(enterprise.LogPartition, enterpriseId, CancellationToken.None);
            LimitSet set = await limits.FindAsync(enterpriseId, CancellationToken.None);
            List<Guid> pending = await stored.ReadPendingIdsAsync(enterprise, set, builtAt, CancellationToken.None);
            CounterState? begun = await store.BeginAsync(
                enterpriseId,
                new CounterState(raised, builtAt),
                pending,
                time.GetUtcNow()
            );
            if (begun is { } state)
            {
                _states[enterpriseId] = state;
                LogBegun(enterpriseId, state.Fence, pending.Count);
            }

            return begun;
        }
        catch (LogTailTooLongException)
        {
            return null;
        }
        finally
        {
            _beginnings.TryRemove(enterpriseId, out _);
        }
    }

    /// <summary>
    /// Uses that were stored, of those that Redis may have forgotten or never have known: they happened before its memory
    /// begins. A use that happened later is remembered, if it was ever admitted.
    /// </summary>
    private async Task<HashSet<Guid>> FindForgottenAsync(
        AdmissionPlan plan,
        CounterState state,
        CancellationToken cancellationToken
    )
    {
        DateTimeOffset now = time.GetUtcNow();
        DateTimeOffset memory = now.AddMinutes(-CounterStore.IdsKeptMinutes);
        memory = (state.BuiltAt > memory ? state.BuiltAt : memory).AddMinutes(TimestampWindow.AheadMinutesMax);
        long oldest = EventTimestamp.FromInstant(memory);
        return await FindStoredAsync(
            plan,
            plan.Uses.Where(use => use.TimestampMicroseconds < oldest),
            cancellationToken
        );
    }

    // A retry without a time of its own looks new. Nobody is refused what they were given before.
    private async Task PardonStoredAsync(
        AdmissionPlan plan,
        Dictionary<int, UseVerdict> verdicts,
        CancellationToken cancellationToken
    )
    {
        HashSet<Guid> stored = await FindStoredAsync(
            plan,
            plan.Uses.Where(use => verdicts.TryGetValue(use.Index, out UseVerdict verdict) && !verdict.IsAdmitted),
            cancellationToken
        );
        foreach (PlannedUse use in plan.Uses)
        {
            if (stored.Contains(use.UseId))
            {
                verdicts[use.Index] = UseVerdict.Admitted;
            }
        }
    }

    private async Task<HashSet<Guid>> FindStoredAsync(
        AdmissionPlan plan,
        IEnumerable<PlannedUse> uses,
        CancellationToken cancellationToken
    )
    {
        (Guid, DateTime)[] asked =
        [
            .. uses.Select(use =>
                (use.UseId, DateTime.UnixEpoch.AddTicks(use.TimestampMicroseconds * TimeSpan.TicksPerMicrosecond))
            ),
        ];
        if (asked.Length == 0)
        {
            return [];
        }

        await using NpgsqlConnection connection = await database.Pipeline.OpenConnectionAsync(cancellationToken);
        return await StoredEvents.FindAsync(connection, plan.Enterprise.EnterpriseId, asked, cancellationToken);
    }

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "The limits of {EnterpriseId} are counted anew under fence {Fence}, with {Pending} uses that are not processed yet"
    )]
    private partial void LogBegun(Guid enterpriseId, long fence, int pending);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The limits of {EnterpriseId} could not be counted in {Attempts} attempts"
    )]
    private partial void LogUnsettled(Guid enterpriseId, int attempts);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The doubtful counters of {EnterpriseId} could not be begun anew"
    )]
    private partial void LogDoubt(Exception? exception, Guid enterpriseId);
}
