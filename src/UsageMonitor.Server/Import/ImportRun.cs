using System.Text.Json;

namespace UsageMonitor.Server.Import;

/// <param name="BatchEvents">Events in a request, at most.</param>
/// <param name="Concurrency">Requests at a time.</param>
/// <param name="Restart">Whether to pass over what earlier runs kept.</param>
internal sealed record ImportRunOptions(int BatchEvents, int Concurrency, bool Restart);

/// <summary>
/// Imports files one after another. Several batches are on their way at a time, but they are acknowledged in the order of
/// their lines, and only then does the state move: it never claims a line whose predecessors are not durable.
/// </summary>
internal sealed class ImportRun(
    BatchSender sender,
    ImportRunOptions options,
    TextWriter output,
    TextWriter error,
    bool isTerminal
)
{
    /// <summary>After Ctrl-C, for batches on their way; the process is ended 2 s after it by the command line's host.</summary>
    private const int DrainMilliseconds = 1_500;

    public async Task<int> RunAsync(IReadOnlyList<string> paths, string? statePath, CancellationToken cancel)
    {
        bool anyRejected = false;
        foreach (string path in paths)
        {
            var summary = new ImportSummary(path == ImportFile.StandardInput ? "standard input" : path);
            try
            {
                await ImportAsync(path, statePath, summary, cancel);
                summary.Write(output, sender.Retries);
            }
            catch (Exception failure) when (Explain(failure) is { } explanation)
            {
                summary.Write(output, sender.Retries);
                await error.WriteLineAsync($"import: {path}: {explanation}");
                if (path != ImportFile.StandardInput && summary.Lines > 0)
                {
                    await error.WriteLineAsync("The acknowledged lines are kept: run the same command to continue.");
                }

                return ImportCommand.ExitFailed;
            }

            anyRejected |= summary.RejectedCount > 0;
        }

        return anyRejected ? ImportCommand.ExitSomeRejected : ImportCommand.ExitAllAccepted;
    }

    private static string? Explain(Exception failure) =>
        failure switch
        {
            ImportFailedException => failure.Message,
            OperationCanceledException => "stopped.",
            InvalidDataException => $"the file is damaged: {failure.Message}",
            JsonException => $"the state file is not one of an import: {failure.Message}",
            IOException or UnauthorizedAccessException => failure.Message,
            _ => null,
        };

    private async Task ImportAsync(string path, string? statePath, ImportSummary summary, CancellationToken cancel)
    {
        (ImportState? state, string keptIn) = Resume(path, statePath, summary);
        if (state is { Finished: true })
        {
            await error.WriteLineAsync($"{path}: all of it was acknowledged before; --restart sends it again.");
            return;
        }

        await using ImportFile file = ImportFile.Open(path);
        using var progress = new ImportProgress(file, summary, error, isTerminal);
        using var drain = new CancellationTokenSource();
        using CancellationTokenRegistration stop = cancel.Register(() => drain.CancelAfter(DrainMilliseconds));
        var onTheirWay = new Queue<(ImportBatch Batch, Task<BatchOutcome> Outcome)>();

        async Task AcknowledgeFirstAsync()
        {
            (ImportBatch batch, Task<BatchOutcome> sending) = onTheirWay.Peek();
            BatchOutcome outcome = await sending;
            onTheirWay.Dequeue();
            summary.Add(batch, outcome);
            state = state is null ? null : Keep(summary.Into(state), keptIn);
            progress.Show(batch.InputBytesRead);
        }

        try
        {
            await foreach (ImportBatch batch in file.ReadBatchesAsync(summary.Lines, options.BatchEvents, cancel))
            {
                onTheirWay.Enqueue(
                    (batch, Task.Run(() => sender.SendAsync(batch, drain.Token), CancellationToken.None))
                );
                if (onTheirWay.Count >= options.Concurrency)
                {
                    await AcknowledgeFirstAsync();
                }

                cancel.ThrowIfCancellationRequested();
            }

            while (onTheirWay.Count > 0)
            {
                await AcknowledgeFirstAsync();
            }
        }
        catch (Exception failure) when (failure is OperationCanceledException or IOException or InvalidDataException)
        {
            // Reading stopped, sending did not: what is on its way is still worth acknowledging.
            while (onTheirWay.Count > 0)
            {
                await AcknowledgeFirstAsync();
            }

            throw;
        }
        finally
        {
            await drain.CancelAsync();
            await Task.WhenAll(onTheirWay.Select(one => one.Outcome))
                .ContinueWith(
                    sent => sent.Exception,
                    CancellationToken.None,
                    TaskContinuationOptions.None,
                    TaskScheduler.Default
                );
        }

        if (state is not null)
        {
            Keep(summary.Into(state) with { Finished = true }, keptIn);
        }
    }

    /// <summary>The state to continue from; none of standard input, which can't be read again.</summary>
    private (ImportState? State, string KeptIn) Resume(string path, string? statePath, ImportSummary summary)
    {
        if (path == ImportFile.StandardInput)
        {
            return (null, "");
        }

        string keptIn = statePath ?? path + ".import-state";
        ImportState fresh = ImportState.Of(path, sender.Target);
        if (options.Restart)
        {
            return (fresh, keptIn);
        }

        ImportState? kept = ImportState
            .ReadAll(keptIn)
            .Find(other => other.Path == fresh.Path && other.Target == fresh.Target);
        if (kept is not null && !kept.IsOfSameInput(fresh))
        {
            error.WriteLine($"{path}: it has changed since the earlier run; beginning again.");
            kept = null;
        }

        if (kept is { Lines: > 0 })
        {
            summary.ContinueFrom(kept);
        }

        return (kept ?? fresh, keptIn);
    }

    private static ImportState Keep(ImportState state, string keptIn)
    {
        state.Write(keptIn);
        return state;
    }
}
