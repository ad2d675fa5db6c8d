using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary><c>/scim/v2/Groups</c> (RFC 7644, 3).</summary>
internal static class ScimGroupEndpoints
{
    private const string Members = "members";
    private static readonly string[] s_schemas = [ScimSchemas.Group];

    public static void MapScimGroups(this RouteGroupBuilder group)
    {
        group.MapPost("/Groups", CreateAsync).Describe<ScimGroup>("CreateScimGroup", "Provisions a group", 201);
        group.MapGet("/Groups", ListAsync).Describe<ScimListResponse<ScimGroup>>("ListScimGroups", "Finds groups");
        group.MapGet("/Groups/{id}", GetAsync).Describe<ScimGroup>("GetScimGroup", "Tells what a group is");
        group
            .MapPut("/Groups/{id}", ReplaceAsync)
            .Describe<ScimGroup>("ReplaceScimGroup", "Replaces a group's name and members");
        group
            .MapPatch("/Groups/{id}", PatchAsync)
            .Describe<ScimError>("PatchScimGroup", "Changes a group's name and members", 204);
        group.MapDelete("/Groups/{id}", DeleteAsync).Describe<ScimError>("DeleteScimGroup", "Deletes a group", 204);
    }

    private static async Task<IResult> CreateAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimGroups groups,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        var draft = ScimGroupDraft.From(await ScimJson.ReadAsync(context));
        Guid enterpriseId = (await enterprises.OfScimAsync(context)).EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        await LastAdmin.TakeTurnAsync(transaction, enterpriseId, cancellationToken); // the count is true until commit
        Guid groupId = await groups.AddAsync(transaction, enterpriseId, draft, cancellationToken);
        ScimGroup made = await ShowAsync(transaction, context, enterpriseId, groupId, cancellationToken);
        transaction.Audit("group.created", "group", groupId);
        await version.CommitAsync(transaction, cancellationToken);
        context.Response.Headers.Location = made.Meta.Location;
        return ScimJson.Ok(made, ScimProjection.Of(context.Request), StatusCodes.Status201Created);
    }

    private static async Task<IResult> ListAsync(
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        List<ScimComparison> filter = ScimFilter.Parse(context.Request.Query["filter"]);
        (int startIndex, int count) = ScimEndpoints.PageOf(context.Request);
        var projection = ScimProjection.Of(context.Request);
        Guid enterpriseId = (await enterprises.OfScimAsync(context)).EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        (List<ProvisionedGroup> found, long total) = await ScimGroups.ListAsync(
            transaction,
            enterpriseId,
            filter,
            startIndex - 1,
            count,
            cancellationToken
        );
        var shown = new List<ScimGroup>();
        foreach (ProvisionedGroup group in found)
        {
            shown.Add(await ShowAsync(transaction, context, enterpriseId, group, projection, cancellationToken));
        }

        return ScimJson.Page(shown, total, startIndex, projection);
    }

    private static async Task<IResult> GetAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        CancellationToken cancellationToken
    )
    {
        var projection = ScimProjection.Of(context.Request);
        Guid enterpriseId = (await enterprises.OfScimAsync(context)).EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        ProvisionedGroup group = await ScimGroups.FindAsync(transaction, enterpriseId, id, false, cancellationToken);
        return ScimJson.Ok(
            await ShowAsync(transaction, context, enterpriseId, group, projection, cancellationToken),
            projection
        );
    }

    private static async Task<IResult> ReplaceAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimGroups groups,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        var draft = ScimGroupDraft.From(await ScimJson.ReadAsync(context));
        if (draft.DisplayName is null)
        {
            throw ScimException.InvalidValue("displayName is required.");
        }

        Guid enterpriseId = (await enterprises.OfScimAsync(context)).EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        ProvisionedGroup before = await ScimGroups.FindAsync(transaction, enterpriseId, id, true, cancellationToken);
        await groups.ChangeAsync(transaction, enterpriseId, before, draft, cancellationToken);
        ScimGroup after = await ShowAsync(transaction, context, enterpriseId, before.GroupId, cancellationToken);
        transaction.Audit("group.changed", "group", before.GroupId, before, after);
        await version.CommitAsync(transaction, cancellationToken);
        return ScimJson.Ok(after, ScimProjection.Of(context.Request));
    }

    private static async Task<IResult> PatchAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        ScimGroups groups,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        var draft = new ScimGroupDraft();
        foreach (
            (ScimOperation operation, ScimPath path, System.Text.Json.JsonElement value) in ScimPatch.Read(
                await ScimJson.ReadAsync(context)
            )
        )
        {
            draft.Apply(operation, path, value);
        }

        Guid enterpriseId = (await enterprises.OfScimAsync(context)).EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        ProvisionedGroup before = await ScimGroups.FindAsync(transaction, enterpriseId, id, true, cancellationToken);
        await groups.ChangeAsync(transaction, enterpriseId, before, draft, cancellationToken);
        transaction.Audit("group.changed", "group", before.GroupId, before, draft);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    private static async Task<IResult> DeleteAsync(
        string id,
        HttpContext context,
        Database database,
        EnterpriseDirectory enterprises,
        IdentityVersion version,
        CancellationToken cancellationToken
    )
    {
        Guid enterpriseId = (await enterprises.OfScimAsync(context)).EnterpriseId;
        await using ScopedTransaction transaction = await database.OpenEnterpriseAsync(enterpriseId, cancellationToken);
        ProvisionedGroup group = await ScimGroups.FindAsync(transaction, enterpriseId, id, true, cancellationToken);
        await Groups.DeleteAsync(transaction, enterpriseId, group.GroupId, cancellationToken);
        transaction.Audit("group.deleted", "group", group.GroupId, group);
        await version.CommitAsync(transaction, cancellationToken);
        return Results.NoContent();
    }

    private static async Task<ScimGroup> ShowAsync(
        ScopedTransaction transaction,
        HttpContext context,
        Guid enterpriseId,
        Guid groupId,
        CancellationToken cancellationToken
    ) =>
        await ShowAsync(
            transaction,
            context,
            enterpriseId,
            await ScimGroups.FindAsync(transaction, enterpriseId, groupId.ToString(), false, cancellationToken),
            ScimProjection.Of(context.Request),
            cancellationToken
        );

    private static async Task<ScimGroup> ShowAsync(
        ScopedTransaction transaction,
        HttpContext context,
        Guid enterpriseId,
        ProvisionedGroup group,
        ScimProjection projection,
        CancellationToken cancellationToken
    )
    {
        List<Guid>? members = projection.Wants(Members)
            ? await ScimGroups.MembersAsync(transaction, enterpriseId, group.GroupId, cancellationToken)
            : null;
        return new ScimGroup(
            s_schemas,
            group.GroupId,
            group.ExternalId,
            group.Name,
            members?.ConvertAll(id => new ScimMember(id, ScimEndpoints.AddressOf(context.Request, "Users", id))),
            new ScimMeta(
                "Group",
                group.CreatedAt,
                group.UpdatedAt,
                ScimEndpoints.AddressOf(context.Request, "Groups", group.GroupId)
            )
        );
    }
}
