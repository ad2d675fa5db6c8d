using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary><c>/scim/v2/Users</c> (RFC 7644, 3).</summary>
internal static class ScimUserEndpoints
{
    private static readonly string[] s_schemas = [ScimSchemas.User];

    public static void MapScimUsers(this RouteGroupBuilder group)
    {
        group.MapPost("/Users", CreateAsync).Describe<ScimUser>("CreateScimUser", "Provisions a person", 201);
        group.MapGet("/Users", ListAsync).Describe<ScimListResponse<ScimUser>>("ListScimUsers", "Finds people");
        group.MapGet("/Users/{id}", GetAsync).Describe<ScimUser>("GetScimUser", "Tells what is kept of a person");
        group
            .MapPut("/Users/{id}", ReplaceAsync)
            .Describe<ScimUser>(
                "ReplaceScimUser",
                "Replaces what is kept of a person; active false refuses them at once"
            );
        group
            .MapPatch("/Users/{id}", PatchAsync)
            .Describe<ScimUser>("PatchScimUser", "Changes what is kept of a person; active false refuses them at once");
        group
            .MapDelete("/Users/{id}", DeleteAsync)
            .Describe<ScimError>("DeleteScimUser", "Ends a person's access and erases who they are", 204);
    }

    private static async Task<IResult> CreateAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimUsers users,
        CancellationToken cancellationToken
    )
    {
        var draft = ScimUserDraft.From(await ScimJson.ReadAsync(context));
        EnterpriseInfo enterprise = await enterprises.OfScimAsync(context);
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        Guid userId = await users.AddAsync(transaction, enterprise, draft, cancellationToken);
        ProvisionedPerson person = await ScimUsers.FindAsync(
            transaction,
            enterprise,
            userId.ToString(),
            forChange: false,
            cancellationToken
        );
        transaction.Audit("person.provisioned", "user", userId);
        await transaction.CommitAsync(cancellationToken); // nobody has credentials of theirs yet that could be cached
        ScimUser made = Shown(context, person);
        context.Response.Headers.Location = made.Meta.Location;
        return ScimJson.Ok(made, ScimProjection.Of(context.Request), StatusCodes.Status201Created);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimUsers users,
        CancellationToken cancellationToken
    )
    {
        List<ScimComparison> filter = ScimFilter.Parse(context.Request.Query["filter"]);
        (int startIndex, int count) = ScimEndpoints.PageOf(context.Request);
        EnterpriseInfo enterprise = await enterprises.OfScimAsync(context);
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        (List<ProvisionedPerson> people, long total) = await users.ListAsync(
            transaction,
            enterprise,
            filter,
            startIndex - 1,
            count,
            cancellationToken
        );
        return ScimJson.Page(
            people.ConvertAll(person => Shown(context, person)),
            total,
            startIndex,
            ScimProjection.Of(context.Request)
        );
    }

    private static async Task<IResult> GetAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfScimAsync(context);
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        ProvisionedPerson person = await ScimUsers.FindAsync(transaction, enterprise, id, false, cancellationToken);
        return ScimJson.Ok(Shown(context, person), ScimProjection.Of(context.Request));
    }

    // What PUT does not say is gone, but whether the person is active stays as it is: silence brings nobody back.
    private static async Task<IResult> ReplaceAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimUsers users,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        var draft = ScimUserDraft.From(await ScimJson.ReadAsync(context));
        return await ChangeAsync(id, _ => draft, context, database, enterprises, users, version, cancellationToken);
    }

    private static async Task<IResult> PatchAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimUsers users,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        var operations = ScimPatch.Read(await ScimJson.ReadAsync(context)).ToList();
        return await ChangeAsync(id, Patched, context, database, enterprises, users, version, cancellationToken);

        ScimUserDraft Patched(ProvisionedPerson person)
        {
            var draft = ScimUserDraft.From(person.Email, person.DisplayName, person.Profile ?? ScimProfile.Empty);
            foreach ((ScimOperation operation, ScimPath path, System.Text.Json.JsonElement value) in operations)
            {
                draft.Apply(operation, path, value);
            }

            return draft;
        }
    }

    private static async Task<IResult> ChangeAsync(
        string id,
        Func<ProvisionedPerson, ScimUserDraft> drafted,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimUsers users,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfScimAsync(context);
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await LastAdmin.TakeTurnAsync(transaction, enterprise.EnterpriseId, cancellationToken);
        ProvisionedPerson before = await ScimUsers.FindAsync(transaction, enterprise, id, true, cancellationToken);
        bool noticed = await users.ChangeAsync(transaction, enterprise, before, drafted(before), cancellationToken);
        ProvisionedPerson after = await ScimUsers.FindAsync(transaction, enterprise, id, false, cancellationToken);
        transaction.Audit("person.changed", "user", before.UserId, new { before.IsActive }, new { after.IsActive });
        await (
            noticed ? version.CommitAsync(transaction, cancellationToken) : transaction.CommitAsync(cancellationToken)
        );
        return ScimJson.Ok(Shown(context, after), ScimProjection.Of(context.Request));
    }

    private static async Task<IResult> DeleteAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimUsers users,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        EnterpriseInfo enterprise = await enterprises.OfScimAsync(context);
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(
            enterprise.EnterpriseId,
            cancellationToken
        );
        await LastAdmin.TakeTurnAsync(transaction, enterprise.EnterpriseId, cancellationToken);
        ProvisionedPerson person = await ScimUsers.FindAsync(transaction, enterprise, id, true, cancellationToken);
        await users.DeleteAsync(transaction, enterprise, person, cancellationToken);
        transaction.Audit("person.removed", "user", person.UserId);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    private static ScimUser Shown(HttpContext context, ProvisionedPerson person) =>
        new(
            s_schemas,
            person.UserId,
            person.Profile?.ExternalId,
            person.Email,
            person.Profile?.Name,
            person.DisplayName,
            person.Profile?.Emails ?? [new ScimEmail(person.Email, "work", true)],
            person.IsActive,
            new ScimMeta(
                "User",
                person.CreatedAt,
                person.UpdatedAt,
                ScimEndpoints.AddressOf(context.Request, "Users", person.UserId)
            )
        );
}
