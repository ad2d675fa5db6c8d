using System.Globalization;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Counting;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>What must hold of an enterprise after everything: acknowledged ⊆ stored ⊆ sent, once, and counted so.</summary>
internal sealed class CrashCheck(Uri address, NpgsqlDataSource owner, Random random)
{
    private static readonly Thoroughness s_thoroughness = new(Ranges: 20, EveryNthUser: 4, HourlyMonths: 3);

    /// <returns>What was found, for the test's output.</returns>
    public async Task<string> RunAsync(SentEvents sent)
    {
        using var api = new Api(address, sent.Tenant.Key);
        LedgerResponse? ledger = null;
        await Eventually.TrueAsync(
            async () => (ledger = await api.LedgerAsync()).Total.Pending == 0,
            () => $"nothing is pending; the ledger says {ledger?.Total}"
        );

        List<CrashEvent> stored = await ReadStoredAsync(sent.Tenant);
        CheckStored(sent, stored);
        CheckLedger(sent, ledger!, stored.Count);
        await CheckRefusedAsync(sent, ledger!.Total.Blocked);
        var counted = new IndependentCount(stored.Select(one => sent.Sent[one.EventId].Usage), sent.Tenant.Zone);
        await new DashboardCheck(api, counted, random).RunAsync(s_thoroughness);
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{sent.Tenant.Zone.Id}: {sent.Sent.Count} sent, {sent.Acknowledged.Count} acknowledged, {stored.Count} stored, {sent.Receipts.Count} receipts; {ledger!.Total}"
        );
    }

    private async Task<List<CrashEvent>> ReadStoredAsync(Tenant tenant)
    {
        const string Sql = """
            SELECT event_id, feature_name, event_timestamp FROM usage_events WHERE enterprise_id = $1
            """;
        await using NpgsqlCommand command = owner.CreateCommand(Sql);
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = tenant.EnterpriseId });
        var stored = new List<CrashEvent>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            stored.Add(new CrashEvent(reader.GetGuid(0), "", reader.GetString(1), reader.GetDateTime(2)));
        }

        return stored;
    }

    /// <summary>Every refusal that was told is kept, every one that is counted is kept once, and none of it is usage.</summary>
    private async Task CheckRefusedAsync(SentEvents sent, long blocked)
    {
        var receipts = new List<Guid>();
        await using NpgsqlCommand command = owner.CreateCommand(
            "SELECT receipt_id FROM decisions WHERE enterprise_id = $1 AND source = 'INGEST' AND feature_name = $2"
        );
        command.Parameters.Add(new NpgsqlParameter<Guid> { TypedValue = sent.Tenant.EnterpriseId });
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = CrashEvent.ForbiddenFeature });
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            receipts.Add(reader.GetGuid(0));
        }

        Assert.NotEmpty(sent.Receipts);
        Assert.Empty(sent.Receipts.Keys.Except(receipts));
        Assert.Equal(receipts.Count, receipts.Distinct().Count());
        Assert.Equal(blocked, receipts.Count);
    }

    private static void CheckStored(SentEvents sent, List<CrashEvent> stored)
    {
        var ids = stored.Select(one => one.EventId).ToHashSet();
        Assert.Equal(stored.Count, ids.Count);
        Assert.Empty(sent.Acknowledged.Keys.Except(ids));
        Assert.Empty(ids.Except(sent.Sent.Keys));
        Assert.NotEmpty(sent.Acknowledged);
        foreach (CrashEvent one in stored)
        {
            CrashEvent meant = sent.Sent[one.EventId];
            Assert.Equal((meant.FeatureName, meant.At), (one.FeatureName, one.At));
        }
    }

    private static void CheckLedger(SentEvents sent, LedgerResponse ledger, int stored)
    {
        LedgerCounts total = ledger.Total;
        foreach (LedgerHour hour in ledger.Hours)
        {
            Assert.Equal(hour.Received, hour.Accepted + hour.Rejected + hour.Blocked);
            Assert.Equal(hour.Accepted, hour.Stored + hour.Duplicate);
            Assert.Equal(0, hour.Pending);
        }

        Assert.Equal(total.Received, ledger.Hours.Sum(hour => hour.Received));
        Assert.Equal(total.Accepted, ledger.Hours.Sum(hour => hour.Accepted));
        Assert.Equal(total.Rejected, ledger.Hours.Sum(hour => hour.Rejected));
        Assert.Equal(total.Duplicate, ledger.Hours.Sum(hour => hour.Duplicate));
        Assert.Equal(total.Stored, ledger.Hours.Sum(hour => hour.Stored));
        Assert.Equal(stored, total.Stored);

        // An attempt without an answer may have been taken or not; one with an answer was.
        Assert.InRange(total.Received, sent.Told.Received, sent.Attempted.Received);
        Assert.InRange(total.Accepted, sent.Told.Accepted, sent.Attempted.Accepted);
        Assert.InRange(total.Rejected, sent.Told.Rejected, sent.Attempted.Rejected);
        Assert.InRange(total.Blocked, sent.Told.Blocked, sent.Attempted.Blocked);
        Assert.Equal(total.Blocked, ledger.Hours.Sum(hour => hour.Blocked));
    }
}
