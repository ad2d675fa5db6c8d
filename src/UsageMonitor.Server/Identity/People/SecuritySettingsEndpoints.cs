using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.People;

/// <summary><c>/v1/admin/security-settings</c>: what an enterprise asks of those who sign in.</summary>
internal static class SecuritySettingsEndpoints
{
    public static IEndpointRouteBuilder MapSecuritySettingsEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup("/v1/admin/security-settings").WithTags("Security settings");
        group
            .MapGet("", ReadAsync)
            .RequirePermission(Permissions.SettingsRead)
            .WithName("GetSecuritySettings")
            .WithSummary("Answers what the enterprise asks of those who sign in")
            .Produces<SecuritySettings>()
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPut("", WriteAsync)
            .RequirePermission(Permissions.SettingsWrite)
            .WithName("UpdateSecuritySettings")
            .WithSummary("Sets what the enterprise asks of those who sign in; effective everywhere within a second")
            .Produces<SecuritySettings>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(409);
        return routes;
    }

    internal static async Task<SecuritySettings> ReadAsync(
        EnterpriseDirectory enterprises,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = (await enterprises.FindAsync(context.GetCaller().EnterpriseId, cancellationToken))!;
        return new SecuritySettings(enterprise.SecondFactorRequired, enterprise.PasswordSignIn);
    }

    private const string LockSettings = """
        SELECT second_factor_required, password_sign_in FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE
        """;

    private const string UpdateSettings = """
        UPDATE enterprises SET second_factor_required = $2, password_sign_in = $3 WHERE enterprise_id = $1
        """;

    internal static async Task<IResult> WriteAsync(
        JsonBody<SecuritySettings> body,
        Database database,
        IdentityVersion version,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        if (body.Problem is { } problem)
        {
            return problem;
        }

        if (body.Value is not { SecondFactorRequired: { } secondFactorRequired, PasswordSignIn: { } passwordSignIn })
        {
            return Problems.Problem(400, "invalid_request", "secondFactorRequired and passwordSignIn are required.");
        }

        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction own = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);

        // First, so that a provider that is switched off at the same moment sees this or is seen here.
        object? before = null;
        await using (NpgsqlCommand command = own.Command(LockSettings, enterpriseId))
        {
            await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
            if (await reader.ReadAsync(cancellationToken))
            {
                before = new { secondFactorRequired = reader.GetBoolean(0), passwordSignIn = reader.GetBoolean(1) };
            }
        }

        object?[] settings = [enterpriseId, secondFactorRequired, passwordSignIn];
        await own.ExecuteAsync(UpdateSettings, settings, cancellationToken);
        if (!passwordSignIn && !await HasActiveProviderAsync(own, enterpriseId, cancellationToken))
        {
            return Problems.Problem(
                409,
                "no_identity_provider",
                "Without passwords nobody could sign in: set up single sign-on and activate it first."
            );
        }

        own.Audit(
            "security_settings.changed",
            "enterprise",
            enterpriseId,
            before,
            new { secondFactorRequired, passwordSignIn }
        );
        await version.CommitAsync(own, cancellationToken);
        return Results.Ok(body.Value);
    }

    private const string FindProviderTable = "SELECT to_regclass('identity_providers') IS NOT NULL";

    private const string FindActiveProvider = """
        SELECT EXISTS (SELECT FROM identity_providers WHERE enterprise_id = $1 AND status = 'ACTIVE')
        """;

    /// <summary>Whether people can sign in without a password: by an identity provider of the enterprise's.</summary>
    private static async Task<bool> HasActiveProviderAsync(
        ScopedTransaction own,
        Guid enterpriseId,
        CancellationToken cancellationToken
    )
    {
        await using NpgsqlCommand findTable = own.Command(FindProviderTable);
        if (await findTable.ExecuteScalarAsync(cancellationToken) is not true)
        {
            return false;
        }

        await using NpgsqlCommand find = own.Command(FindActiveProvider, enterpriseId);
        return await find.ExecuteScalarAsync(cancellationToken) is true;
    }
}
