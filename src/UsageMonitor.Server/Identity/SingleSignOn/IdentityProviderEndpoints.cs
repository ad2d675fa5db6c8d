using UsageMonitor.Contracts;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary><c>/v1/admin/identity-providers</c>: the OpenID providers by which an enterprise's people sign in.</summary>
internal static class IdentityProviderEndpoints
{
    private const string Path = "/v1/admin/identity-providers";

    public static IEndpointRouteBuilder MapIdentityProviderEndpoints(this IEndpointRouteBuilder routes)
    {
        RouteGroupBuilder group = routes.MapGroup(Path).WithTags("Single sign-on");
        group
            .MapGet("", ListAsync)
            .RequirePermission(Permissions.SettingsRead)
            .WithName("ListIdentityProviders")
            .WithSummary("Lists the OpenID providers, oldest first; there are five at most")
            .Produces<IReadOnlyList<IdentityProviderResponse>>()
            .ProducesProblem(401)
            .ProducesProblem(403);
        group
            .MapPost("", CreateAsync)
            .RequirePermission(Permissions.SettingsWrite)
            .WithName("CreateIdentityProvider")
            .WithSummary("Sets up an OpenID provider")
            .Produces<IdentityProviderResponse>(201)
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(409);
        group
            .MapGet("/{providerId:guid}", GetAsync)
            .RequirePermission(Permissions.SettingsRead)
            .WithName("GetIdentityProvider")
            .WithSummary("Tells how an OpenID provider is set up")
            .Produces<IdentityProviderResponse>()
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        group
            .MapPut("/{providerId:guid}", UpdateAsync)
            .RequirePermission(Permissions.SettingsWrite)
            .WithName("UpdateIdentityProvider")
            .WithSummary(
                "Changes an OpenID provider; INACTIVE also ends the sessions and takes the roles that came from it"
            )
            .Produces<IdentityProviderResponse>()
            .ProducesProblem(400)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404)
            .ProducesProblem(409);
        group
            .MapDelete("/{providerId:guid}", DeleteAsync)
            .RequirePermission(Permissions.SettingsWrite)
            .WithName("DeleteIdentityProvider")
            .WithSummary("Removes an OpenID provider with the sessions and roles that came from it")
            .Produces(204)
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        group
            .MapPost("/{providerId:guid}/test", TestAsync)
            .RequirePermission(Permissions.SettingsWrite)
            .WithName("TestIdentityProvider")
            .WithSummary("Asks the provider what it says of itself and tells what would keep people from signing in")
            .Produces<IdentityProviderTestResponse>()
            .ProducesProblem(401)
            .ProducesProblem(403)
            .ProducesProblem(404);
        return routes;
    }

    internal static async Task<IReadOnlyList<IdentityProviderResponse>> ListAsync(
        Database database,
        SignOnAddresses addresses,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        return
        [
            .. (await IdentityProviderStore.ListAsync(transaction, enterpriseId, cancellationToken)).Select(provider =>
                Response(provider, addresses, context)
            ),
        ];
    }

    internal static async Task<IResult> GetAsync(
        Guid providerId,
        Database database,
        SignOnAddresses addresses,
        HttpContext context,
        CancellationToken cancellationToken
    ) =>
        await FindAsync(database, context, providerId, cancellationToken) is { } provider
            ? Results.Ok(Response(provider, addresses, context))
            : NotFound();

    // All who change providers wait for each other here, so that what they have seen is what there is.
    private const string LockEnterprise = "SELECT 1 FROM enterprises WHERE enterprise_id = $1 FOR NO KEY UPDATE";

    internal static async Task<IResult> CreateAsync(
        JsonBody<IdentityProviderRequest> body,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityProviderRules rules,
        SignOnAddresses addresses,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        if ((body.Problem ?? IdentityProviderRules.Refuse(caller)) is { } refused)
        {
            return refused;
        }

        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        (IdentityProvider? read, IResult? problem) = await rules.ReadAsync(
            transaction,
            caller,
            body.Value,
            cancellationToken
        );
        if (read is null)
        {
            return problem!;
        }

        await transaction.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        IReadOnlyList<IdentityProvider> there = await IdentityProviderStore.ListAsync(
            transaction,
            caller.EnterpriseId,
            cancellationToken
        );
        if (there.Count >= IdentityProviderRules.ProvidersPerEnterpriseMax)
        {
            string full =
                $"An enterprise has {IdentityProviderRules.ProvidersPerEnterpriseMax} identity providers at most.";
            return Problems.Problem(409, "too_many_identity_providers", full);
        }

        DateTimeOffset now = time.GetUtcNow();
        IdentityProvider provider = read with { ProviderId = Guid.NewGuid(), CreatedAt = now, UpdatedAt = now };
        provider = WithSecret(provider, body.Value.ClientSecret, enterprise);
        try
        {
            await IdentityProviderStore.InsertAsync(transaction, provider, cancellationToken);
        }
        catch (DomainTakenException)
        {
            return DomainTaken();
        }

        transaction.Audit("identity_provider.created", "identity_provider", provider.ProviderId, after: provider);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Created($"{Path}/{provider.ProviderId}", Response(provider, addresses, context));
    }

    internal static async Task<IResult> UpdateAsync(
        Guid providerId,
        JsonBody<IdentityProviderRequest> body,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityProviderRules rules,
        SignOnAddresses addresses,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        if ((body.Problem ?? IdentityProviderRules.Refuse(caller)) is { } refused)
        {
            return refused;
        }

        EnterpriseInfo enterprise = (await enterprises.FindAsync(caller.EnterpriseId, cancellationToken))!;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        await transaction.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        IdentityProvider? before = await IdentityProviderStore.FindAsync(
            transaction,
            caller.EnterpriseId,
            providerId,
            hold: false,
            cancellationToken
        );
        if (before is null)
        {
            return NotFound();
        }

        (IdentityProvider? read, IResult? problem) = await rules.ReadAsync(
            transaction,
            caller,
            body.Value,
            cancellationToken
        );
        if (read is null)
        {
            return problem!;
        }

        bool isSame = read.Issuer == before.Issuer && read.ClientId == before.ClientId;
        if (body.Value.ClientSecret is null && before.SealedSecret is not null && !isSame)
        {
            string again =
                "The client secret is kept for its issuer and client only: give it again when one of them changes.";
            return Problems.Problem(400, "client_secret_needed", again);
        }

        IdentityProvider provider = read with
        {
            ProviderId = providerId,
            CreatedAt = before.CreatedAt,
            UpdatedAt = time.GetUtcNow(),
        };
        provider = body.Value.ClientSecret is null
            ? provider with
            {
                SealedSecret = before.SealedSecret,
            }
            : WithSecret(provider, body.Value.ClientSecret, enterprise);
        try
        {
            await IdentityProviderStore.UpdateAsync(transaction, provider, cancellationToken);
        }
        catch (DomainTakenException)
        {
            return DomainTaken();
        }

        if (!isSame || (before.IsActive && !provider.IsActive))
        {
            await IdentityProviderStore.EndSignInsAsync(
                transaction,
                caller.EnterpriseId,
                providerId,
                time.GetUtcNow(),
                cancellationToken
            );
        }

        if (!isSame)
        {
            await IdentityProviderStore.UnlinkAsync(transaction, caller.EnterpriseId, providerId, cancellationToken);
        }

        transaction.Audit("identity_provider.changed", "identity_provider", providerId, before, provider);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.Ok(Response(provider, addresses, context));
    }

    internal static async Task<IResult> DeleteAsync(
        Guid providerId,
        Database database,
        IdentityVersion version,
        TimeProvider time,
        HttpContext context,
        CancellationToken cancellationToken
    )
    {
        Caller caller = context.GetCaller();
        if (IdentityProviderRules.Refuse(caller) is { } refused)
        {
            return refused;
        }

        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            caller.EnterpriseId,
            cancellationToken
        );
        await transaction.ExecuteAsync(LockEnterprise, [caller.EnterpriseId], cancellationToken);
        if (!await IdentityProviderStore.LockAsync(transaction, caller.EnterpriseId, providerId, cancellationToken))
        {
            return NotFound();
        }

        await IdentityProviderStore.EndSignInsAsync(
            transaction,
            caller.EnterpriseId,
            providerId,
            time.GetUtcNow(),
            cancellationToken
        );
        await IdentityProviderStore.DeleteAsync(transaction, caller.EnterpriseId, providerId, cancellationToken);
        transaction.Audit("identity_provider.deleted", "identity_provider", providerId);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    internal static async Task<IResult> TestAsync(
        Guid providerId,
        Database database,
        ProviderCheck check,
        HttpContext context,
        CancellationToken cancellationToken
    ) =>
        await FindAsync(database, context, providerId, cancellationToken) is { } provider
            ? Results.Ok(await check.RunAsync(provider, cancellationToken))
            : NotFound();

    private static async Task<IdentityProvider?> FindAsync(
        Database database,
        HttpContext context,
        Guid providerId,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = context.GetCaller().EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        return await IdentityProviderStore.FindAsync(
            transaction,
            enterpriseId,
            providerId,
            hold: false,
            cancellationToken
        );
    }

    private static IdentityProvider WithSecret(IdentityProvider provider, string? secret, EnterpriseInfo enterprise) =>
        provider with
        {
            SealedSecret = string.IsNullOrEmpty(secret) ? null : provider.SealSecret(enterprise.DataKey, secret),
        };

    private static IResult NotFound() =>
        Problems.Problem(404, "not_found", "Your enterprise has no such identity provider.");

    // Not who has claimed it, and not even whether it is one's own other provider.
    private static IResult DomainTaken() =>
        Problems.Problem(
            409,
            "domain_not_available",
            "One of the domains cannot be claimed. If it is yours, ask the operator of this platform."
        );

    private static IdentityProviderResponse Response(
        IdentityProvider provider,
        SignOnAddresses addresses,
        HttpContext context
    ) =>
        new(
            provider.ProviderId,
            provider.Name,
            provider.Issuer,
            provider.ClientId,
            provider.SealedSecret is not null,
            provider.Domains,
            provider.Scopes,
            provider.EmailClaim,
            provider.DisplayNameClaim,
            provider.RolesClaim,
            provider.RoleMapping,
            provider.DefaultRoles,
            provider.JustInTime,
            provider.TrustEmail,
            provider.Status,
            addresses.RedirectUri(context.Request, provider.EnterpriseId),
            addresses.SignInUri(context.Request, provider.ProviderId),
            provider.CreatedAt,
            provider.UpdatedAt
        );
}
