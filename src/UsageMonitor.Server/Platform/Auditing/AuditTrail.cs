using System.Diagnostics;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using Npgsql;
using NpgsqlTypes;

namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>
/// Writes the audit log. An entry is written in the transaction of its act, as the last statement before the commit: there is no
/// act without its entry and no entry without its act, and the chain's end is locked no longer than a commit takes.
/// </summary>
internal sealed class AuditTrail
{
    public const string Table = "audit_log";

    /// <summary>Of an entry's content, as JSON; what is larger is replaced by its size.</summary>
    public const int ContentBytesMax = 64 * 1024;

    private const int ActionCharactersMax = 200;
    private const int IdCharactersMax = 300;

    private readonly Database _database;
    private readonly EnterpriseDirectory _enterprises;
    private readonly MonthPartitions _months;
    private readonly MasterKey _masterKey;
    private readonly TimeProvider _time;

    public AuditTrail(
        Database database,
        EnterpriseDirectory enterprises,
        MonthPartitions months,
        MasterKey masterKey,
        TimeProvider time
    )
    {
        (_database, _enterprises, _months) = (database, enterprises, months);
        (_masterKey, _time) = (masterKey, time);
        database.Trail = this;
    }

    /// <summary>An act that changes nothing else, in a transaction of its own: a read, a refusal.</summary>
    public async Task RecordAsync(Guid enterpriseId, AuditEntry entry, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await _database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await AppendAsync(own, entry, onlyIfWritten: false, cancellationToken);
        await own.CommitAsync(cancellationToken);
    }

    private const string Append =
        "SELECT append_audit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

    /// <summary>Appends an entry to the chain of the transaction's enterprise.</summary>
    /// <param name="own">The transaction of the act.</param>
    /// <param name="entry">What was done.</param>
    /// <param name="onlyIfWritten">Not when the transaction has changed nothing so far.</param>
    /// <param name="cancellationToken">Ends the act.</param>
    /// <returns>The entry's sequence, or null: there was nothing to tell.</returns>
    public async Task<long?> AppendAsync(
        ScopedTransaction own,
        AuditEntry entry,
        bool onlyIfWritten,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId =
            own.EnterpriseId ?? throw new InvalidOperationException("An act outside of any enterprise has no chain.");
        AuditScope? scope = AuditScope.Current;
        AuditActor actor = entry.Actor ?? scope?.Actor ?? AuditActor.System;
        DateTimeOffset at = Now();
        await _months.EnsureAsync(Table, MonthPartitions.MonthOf(at), cancellationToken);
        byte[] dataKey = await DataKeyAsync(own, enterpriseId, cancellationToken);
        string content = Content(entry, scope);
        byte[] salt = RandomNumberGenerator.GetBytes(AuditChain.SaltBytes);
        byte[] contentHash = AuditChain.ContentHash(salt, content);
        byte[] sealedContent = Sealing.Seal(
            dataKey,
            [.. salt, .. CanonicalJson.Utf8(content)],
            AuditChain.SealContext(enterpriseId, contentHash)
        );
        var columns = new AuditColumns(
            enterpriseId,
            0,
            AuditChain.Time(at),
            Short(entry.Action, ActionCharactersMax)!,
            entry.Outcome,
            actor.Kind,
            actor.Id,
            Short(entry.TargetKind, ActionCharactersMax),
            Short(entry.TargetId, IdCharactersMax),
            Short(scope?.RequestId, IdCharactersMax),
            Activity.Current?.TraceId.ToHexString(),
            Convert.ToHexStringLower(contentHash)
        );
        (string before, string after) = AuditChain.Around(columns);
        await using NpgsqlCommand command = own.Command(Append);
        Add(command, NpgsqlDbType.Uuid, enterpriseId);
        Add(command, NpgsqlDbType.TimestampTz, at);
        Add(command, NpgsqlDbType.Text, columns.Action);
        Add(command, NpgsqlDbType.Text, columns.Outcome);
        Add(command, NpgsqlDbType.Text, columns.ActorKind);
        Add(command, NpgsqlDbType.Uuid, columns.ActorId);
        Add(command, NpgsqlDbType.Text, columns.TargetKind);
        Add(command, NpgsqlDbType.Text, columns.TargetId);
        Add(command, NpgsqlDbType.Text, columns.RequestId);
        Add(command, NpgsqlDbType.Text, columns.TraceId);
        Add(command, NpgsqlDbType.Bytea, contentHash);
        Add(command, NpgsqlDbType.Bytea, sealedContent);
        Add(command, NpgsqlDbType.Text, before);
        Add(command, NpgsqlDbType.Text, after);
        Add(command, NpgsqlDbType.Boolean, onlyIfWritten);
        var sequence = await command.ExecuteScalarAsync(cancellationToken) as long?;
        own.IsAudited |= sequence is not null;
        return sequence;
    }

    private const string ReadDataKey = "SELECT data_key FROM enterprises WHERE enterprise_id = $1";

    // An enterprise that this very transaction makes is nobody else's to see yet.
    private async ValueTask<byte[]> DataKeyAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        if (await _enterprises.FindAsync(enterpriseId, cancellationToken) is { } known)
        {
            return known.DataKey;
        }

        await using NpgsqlCommand command = own.Command(ReadDataKey, enterpriseId);
        return await command.ExecuteScalarAsync(cancellationToken) is byte[] wrapped
            ? _masterKey.Unwrap(wrapped, enterpriseId)
            : throw new InvalidOperationException("There is no such enterprise to audit.");
    }

    private static string Content(AuditEntry entry, AuditScope? scope)
    {
        var content = new JsonObject();
        if (scope?.Address is { } address)
        {
            content["address"] = address;
        }

        if (AuditMask.Of(entry.Before) is { } before)
        {
            content["before"] = before;
        }

        if (AuditMask.Of(entry.After) is { } after)
        {
            content["after"] = after;
        }

        string canonical = CanonicalJson.Of(JsonSerializer.SerializeToElement(content));
        if (canonical.Length <= ContentBytesMax)
        {
            return canonical;
        }

        content.Remove("before");
        content["after"] = new JsonObject { ["leftOutCharacters"] = canonical.Length };
        return CanonicalJson.Of(JsonSerializer.SerializeToElement(content));
    }

    // As precise as PostgreSQL keeps it: what is hashed is what will be read.
    private DateTimeOffset Now()
    {
        DateTimeOffset now = _time.GetUtcNow();
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMicrosecond)).ToUniversalTime();
    }

    // PostgreSQL's text has no NUL, and half a surrogate pair is no text at all.
    private static string? Short(string? text, int charactersMax)
    {
        if (text is null)
        {
            return null;
        }

        string cut = text[..Math.Min(text.Length, charactersMax)];
        return string.Concat(cut.Select(c => char.IsControl(c) || char.IsSurrogate(c) ? '\uFFFD' : c));
    }

    private static void Add(NpgsqlCommand command, NpgsqlDbType type, object? value) =>
        command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = type, Value = value ?? DBNull.Value });
}
