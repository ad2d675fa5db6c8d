using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Alerts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Audit;

/// <summary>Makes, changes and ends destinations, each act with its entry.</summary>
internal sealed class DestinationWriter(
    Database database,
    EnterpriseDirectory enterprises,
    WebhookConnections webhooks,
    TimeProvider time
)
{
    private const int NameCharactersMax = 100;
    private const int CertificateCharactersMax = 16_000;
    private const int HostCharactersMax = 253;

    private const string TakeTurn = "SELECT FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";

    private const string Insert = """
        INSERT INTO audit_destinations
            (enterprise_id, destination_id, name, kind, settings, status, cursor_sequence, next_attempt_at, created_at, updated_at)
        SELECT $1, $2, $3, $4, $5, $6, coalesce((SELECT sequence FROM audit_heads WHERE enterprise_id = $1), 0), $7, $7, $7
        WHERE (SELECT count(*) FROM audit_destinations WHERE enterprise_id = $1) < $8
        """;

    /// <summary>Makes a destination; what is appended from now on goes there, and what was before after a replay.</summary>
    public async Task<IResult> CreateAsync(
        Caller caller,
        AuditDestinationRequest request,
        CancellationToken cancellationToken
    )
    {
        if (Fault(request) is { } fault)
        {
            return Problems.Problem(400, "invalid_request", fault);
        }

        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(TakeTurn, [caller.EnterpriseId], cancellationToken);
        var id = Guid.CreateVersion7(time.GetUtcNow());
        byte[]? secret = request.Kind == AuditDestination.Webhook ? WebhookSignature.NewSecret() : null;
        int made = await own.ExecuteAsync(
            Insert,
            [
                caller.EnterpriseId,
                id,
                request.Name!.Trim(),
                request.Kind,
                AuditDestination.Seal(enterprise.DataKey, caller.EnterpriseId, id, Settings(request, secret)),
                request.Status ?? AuditDestination.Active,
                time.GetUtcNow(),
                (long)AuditDestination.DestinationsMax,
            ],
            cancellationToken
        );
        if (made == 0)
        {
            return Problems.Problem(
                409,
                "too_many_destinations",
                $"An enterprise has {AuditDestination.DestinationsMax} destinations at most."
            );
        }

        AuditDestination destination = (await FindAsync(own, enterprise, id, cancellationToken))!;
        own.Audit("audit_destination.created", "audit_destination", id, after: Told(destination));
        await own.CommitAsync(cancellationToken);
        return Results.Created(
            $"/v1/audit/destinations/{id}",
            new AuditDestinationSecretResponse(
                destination.Answer(),
                secret is null ? null : WebhookSignature.Show(secret)
            )
        );
    }

    private const string Update = """
        UPDATE audit_destinations SET name = $3, kind = $4, settings = $5, status = $6, failures = 0, last_error = NULL,
            next_attempt_at = $7, updated_at = $7
        WHERE enterprise_id = $1 AND destination_id = $2
        """;

    /// <summary>Changes a destination as a whole; its cursor and a webhook's secret stay.</summary>
    public async Task<IResult> ChangeAsync(
        Caller caller,
        Guid destinationId,
        AuditDestinationRequest request,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await own.ExecuteAsync(TakeTurn, [caller.EnterpriseId], cancellationToken);
        if (await FindAsync(own, enterprise, destinationId, cancellationToken) is not { } before)
        {
            return NotFound();
        }

        if (Fault(request) is { } fault)
        {
            return Problems.Problem(400, "invalid_request", fault);
        }

        byte[]? secret =
            request.Kind != AuditDestination.Webhook ? null
            : before.Settings?.Secret is { } kept ? Convert.FromBase64String(kept)
            : WebhookSignature.NewSecret();
        await own.ExecuteAsync(
            Update,
            [
                caller.EnterpriseId,
                destinationId,
                request.Name!.Trim(),
                request.Kind,
                AuditDestination.Seal(
                    enterprise.DataKey,
                    caller.EnterpriseId,
                    destinationId,
                    Settings(request, secret)
                ),
                request.Status ?? AuditDestination.Active,
                time.GetUtcNow(),
            ],
            cancellationToken
        );
        AuditDestination after = (await FindAsync(own, enterprise, destinationId, cancellationToken))!;
        own.Audit("audit_destination.changed", "audit_destination", destinationId, Told(before), Told(after));
        await own.CommitAsync(cancellationToken);
        return Results.Ok(after.Answer());
    }

    private const string Delete = "DELETE FROM audit_destinations WHERE enterprise_id = $1 AND destination_id = $2";

    public async Task<IResult> DeleteAsync(Caller caller, Guid destinationId, CancellationToken cancellationToken)
    {
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        if (await own.ExecuteAsync(Delete, [caller.EnterpriseId, destinationId], cancellationToken) == 0)
        {
            return NotFound();
        }

        own.Audit("audit_destination.deleted", "audit_destination", destinationId);
        await own.CommitAsync(cancellationToken);
        return Results.NoContent();
    }

    private const string Rewind = """
        UPDATE audit_destinations SET cursor_sequence = $3, replays = replays + 1, failures = 0, next_attempt_at = $4
        WHERE enterprise_id = $1 AND destination_id = $2
        """;

    /// <summary>Sends everything from an entry on again.</summary>
    public async Task<IResult> ReplayAsync(
        Caller caller,
        Guid destinationId,
        AuditReplayRequest request,
        CancellationToken cancellationToken
    )
    {
        if (request.FromSequence < 1)
        {
            return Problems.Problem(400, "invalid_request", "fromSequence: must be 1 or more.");
        }

        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        object?[] row = [caller.EnterpriseId, destinationId, request.FromSequence - 1, time.GetUtcNow()];
        if (await own.ExecuteAsync(Rewind, row, cancellationToken) == 0)
        {
            return NotFound();
        }

        AuditDestination after = (await FindAsync(own, enterprise, destinationId, cancellationToken))!;
        own.Audit(
            "audit_destination.replayed",
            "audit_destination",
            destinationId,
            after: new { request.FromSequence }
        );
        await own.CommitAsync(cancellationToken);
        return Results.Ok(after.Answer());
    }

    private const string List = $"""
        SELECT {AuditDestination.Columns} FROM audit_destinations WHERE enterprise_id = $1 ORDER BY destination_id LIMIT 100
        """;

    public async Task<AuditDestinationListResponse> ListAsync(Caller caller, CancellationToken cancellationToken)
    {
        EnterpriseInfo enterprise = await EnterpriseAsync(caller, cancellationToken);
        var found = new List<AuditDestinationResponse>();
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(caller.EnterpriseId, cancellationToken);
        await using NpgsqlCommand command = own.Command(List, caller.EnterpriseId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            found.Add(AuditDestination.Read(reader, enterprise.DataKey).Answer());
        }

        return new AuditDestinationListResponse(found);
    }

    private const string Find = $"""
        SELECT {AuditDestination.Columns} FROM audit_destinations WHERE enterprise_id = $1 AND destination_id = $2
        """;

    private static async Task<AuditDestination?> FindAsync(
        ScopedTransaction own,
        EnterpriseInfo enterprise,
        Guid destinationId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand command = own.Command(Find, enterprise.EnterpriseId, destinationId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? AuditDestination.Read(reader, enterprise.DataKey) : null;
    }

    private string? Fault(AuditDestinationRequest request)
    {
        string name = request.Name?.Trim() ?? "";
        return name.Length is 0 or > NameCharactersMax || name.Any(char.IsControl)
                ? $"name: must have 1 to {NameCharactersMax} characters, none a control character."
            : request.Status is not (null or AuditDestination.Active or AuditDestination.Inactive)
                ? "status: must be one of ACTIVE, INACTIVE."
            : request.Kind == AuditDestination.Webhook
                ? webhooks.Fault(request.Address) is { } fault ? $"address: {fault}."
                    : null
            : request.Kind != AuditDestination.Syslog ? "kind: must be one of WEBHOOK, SYSLOG."
            : !SyslogConnection.TryRead(request.Address, out _, out _)
                ? $"address: must be host:port, the host of {HostCharactersMax} characters at most."
            : request.Certificate is { } certificate && !IsCertificate(certificate)
                ? "certificate: must be an X.509 certificate in PEM."
            : null;
    }

    private static bool IsCertificate(string pem)
    {
        if (pem.Length > CertificateCharactersMax)
        {
            return false;
        }

        try
        {
            using var certificate = X509Certificate2.CreateFromPem(pem);
            return true;
        }
        catch (CryptographicException)
        {
            return false;
        }
    }

    private static DestinationSettings Settings(AuditDestinationRequest request, byte[]? secret) =>
        new(
            request.Address!.Trim(),
            secret is null ? null : Convert.ToBase64String(secret),
            request.Kind == AuditDestination.Syslog ? request.Certificate : null
        );

    private static object Told(AuditDestination destination) =>
        new
        {
            destination.Name,
            destination.Kind,
            destination.Place,
            destination.Status,
        };

    private async Task<EnterpriseInfo> EnterpriseAsync(Caller caller, CancellationToken cancellationToken) =>
        await enterprises.FindAsync(caller.EnterpriseId, cancellationToken)
        ?? throw new InvalidOperationException("The caller's enterprise does not exist.");

    private static IResult NotFound() => Problems.Problem(404, "not_found", "Your enterprise has no such destination.");
}
