using System.Globalization;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Server.Identity.Access;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>A group's row as provisioning sees it.</summary>
internal sealed record ProvisionedGroup(
    Guid GroupId,
    string Name,
    string? ExternalId,
    DateTimeOffset CreatedAt,
    DateTimeOffset UpdatedAt
);

/// <summary>
/// What a request does to a group: names as they shall be, and steps that change the members, in order. The members
/// themselves are never read for it: a large group's PATCH costs what it changes.
/// </summary>
internal sealed class ScimGroupDraft
{
    private readonly List<(ScimOperation Operation, Guid[]? Members)> _steps = [];

    public string? DisplayName { get; private set; }

    /// <summary>Null with <see cref="SetsExternalId"/>: none any more.</summary>
    public string? ExternalId { get; private set; }

    public bool SetsExternalId { get; private set; }

    /// <summary>Replace: these and no others. Remove without members: all.</summary>
    public IReadOnlyList<(ScimOperation Operation, Guid[]? Members)> Steps => _steps;

    /// <summary>A draft of a whole resource: members that are not named are none.</summary>
    public static ScimGroupDraft From(JsonElement resource)
    {
        var draft = new ScimGroupDraft { SetsExternalId = true };
        draft._steps.Add((ScimOperation.Remove, null));
        draft.Apply(ScimOperation.Replace, ScimPath.Resource, resource);
        return draft;
    }

    /// <exception cref="ScimException">The value is none for the attribute.</exception>
    public void Apply(ScimOperation operation, ScimPath path, JsonElement value)
    {
        bool removes = operation == ScimOperation.Remove || value.ValueKind == JsonValueKind.Null;
        switch (path.Name)
        {
            case "":
                ApplyAll(operation, value);
                break;
            case "displayname":
                DisplayName =
                    (removes ? null : ScimJson.Text(value, "displayName", Groups.NameCharactersMax))
                    ?? throw ScimException.InvalidValue("displayName is required.");
                break;
            case "externalid":
                ExternalId = removes ? null : ScimJson.Text(value, "externalId", Groups.NameCharactersMax);
                SetsExternalId = true;
                break;
            case "members" or "members.value":
                _steps.Add(Step(operation, path, value));
                break;
            default:
                break; // taken and not kept
        }
    }

    private void ApplyAll(ScimOperation operation, JsonElement resource)
    {
        if (operation == ScimOperation.Remove || resource.ValueKind != JsonValueKind.Object)
        {
            throw new ScimException(400, "noTarget", "Without a path, value must be an object of attributes.");
        }

        foreach (JsonProperty attribute in resource.EnumerateObject())
        {
            var path = ScimPath.Parse(attribute.Name);
            if (path.Attribute.Length > 0)
            {
                Apply(operation, path, attribute.Value);
            }
        }
    }

    private static (ScimOperation, Guid[]?) Step(ScimOperation operation, ScimPath path, JsonElement value)
    {
        if (path.Filter is { } filter)
        {
            // Of one member there is nothing to replace: either they are in the group or they are not.
            return filter.Attribute == "value" && operation == ScimOperation.Remove
                ? (operation, [.. Known(filter.Value)])
                : throw ScimException.InvalidPath("members[value eq \"…\"] can only be removed.");
        }

        bool isNothing = value.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null;
        return operation switch
        {
            ScimOperation.Remove when isNothing => (operation, null),
            ScimOperation.Remove => (operation, [.. Ids(value).SelectMany(Known)]),
            _ when isNothing => (operation, []),
            _ => (operation, [.. Ids(value).Select(Read).Distinct()]),
        };
    }

    private static IEnumerable<string> Ids(JsonElement value)
    {
        JsonElement[] members = value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : [value];
        return members.Select(member =>
            ScimJson.Text(
                member.ValueKind == JsonValueKind.Object ? ScimPatch.Member(member, "value") : member,
                "members.value",
                ScimPath.CharactersMax
            ) ?? throw ScimException.InvalidValue("members must be objects with a value.")
        );
    }

    private static Guid Read(string id) =>
        Guid.TryParse(id, out Guid userId)
            ? userId
            : throw ScimException.InvalidValue("members has somebody who does not exist.");

    // Who does not exist is not in the group either.
    private static IEnumerable<Guid> Known(string id) => Guid.TryParse(id, out Guid userId) ? [userId] : [];
}

/// <summary>Groups that a provisioning system has made; those made here are not shown to it.</summary>
internal sealed class ScimGroups(TimeProvider time)
{
    private const string Columns = "g.group_id, g.group_name, g.external_id, g.created_at, g.updated_at";

    private const string FindGroup =
        $"SELECT {Columns} FROM groups g WHERE g.enterprise_id = $1 AND g.group_id = $2 AND g.origin = 'SCIM'";

    /// <exception cref="ScimException">The enterprise has no such group that was provisioned.</exception>
    public static async Task<ProvisionedGroup> FindAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        string id,
        bool forChange,
        CancellationToken cancellationToken
    )
    {
        if (!Guid.TryParseExact(id, "D", out Guid groupId))
        {
            throw ScimException.NotFound();
        }

        await using NpgsqlCommand command = transaction.Command(
            forChange ? $"{FindGroup} FOR UPDATE" : FindGroup,
            enterpriseId,
            groupId
        );
        return (await ReadAsync(command, cancellationToken)).SingleOrDefault() ?? throw ScimException.NotFound();
    }

    /// <summary>A page of the groups that a filter lets through, and how many these are.</summary>
    public static async Task<(List<ProvisionedGroup> Groups, long Total)> ListAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        List<ScimComparison> filter,
        int skip,
        int count,
        CancellationToken cancellationToken
    )
    {
        var parameters = new List<object?> { enterpriseId };
        string where = "g.enterprise_id = $1 AND g.origin = 'SCIM'";
        foreach (ScimComparison comparison in filter)
        {
            where += $" AND {Condition(comparison, parameters)}";
        }

        long total;
        await using (
            NpgsqlCommand counting = transaction.Command(
                $"SELECT count(*) FROM groups g WHERE {where}",
                [.. parameters]
            )
        )
        {
            total = (long)(await counting.ExecuteScalarAsync(cancellationToken))!;
        }

        string page = $"""
            SELECT {Columns} FROM groups g WHERE {where}
            ORDER BY g.created_at, g.group_id OFFSET ${parameters.Count + 1} LIMIT ${parameters.Count + 2}
            """;
        await using NpgsqlCommand command = transaction.Command(page, [.. parameters, skip, count]);
        return (await ReadAsync(command, cancellationToken), total);
    }

    /// <exception cref="ScimException">The name is taken, a member does not exist, or there are too many.</exception>
    public async Task<Guid> AddAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        ScimGroupDraft draft,
        CancellationToken cancellationToken
    )
    {
        string name = draft.DisplayName ?? throw ScimException.InvalidValue("displayName is required.");
        if (await Groups.CountAsync(transaction, enterpriseId, cancellationToken) >= Groups.GroupsMax)
        {
            throw new ScimException(403, null, $"An enterprise has {Groups.GroupsMax} groups at most.");
        }

        Guid groupId = Guid.NewGuid();
        bool isNew = await Groups.InsertAsync(
            transaction,
            enterpriseId,
            groupId,
            name,
            draft.ExternalId,
            Groups.Provisioned,
            time.GetUtcNow(),
            cancellationToken
        );
        if (!isNew)
        {
            throw ScimException.Taken("There is a group of that displayName.");
        }

        await ChangeMembersAsync(transaction, enterpriseId, groupId, draft, cancellationToken);
        return groupId;
    }

    private const string ChangeExternalId =
        "UPDATE groups SET external_id = $3 WHERE enterprise_id = $1 AND group_id = $2";

    /// <exception cref="ScimException">The name is taken, a member does not exist, or there are too many.</exception>
    public async Task ChangeAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        ProvisionedGroup before,
        ScimGroupDraft draft,
        CancellationToken cancellationToken
    )
    {
        try
        {
            string name = draft.DisplayName ?? before.Name;
            DateTimeOffset now = time.GetUtcNow();
            if (!await Groups.RenameAsync(transaction, enterpriseId, before.GroupId, name, now, cancellationToken))
            {
                throw ScimException.Taken("There is a group of that displayName.");
            }
        }
        catch (PostgresException exception) when (exception.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            throw ScimException.Taken("There is a group of that displayName.");
        }

        if (draft.SetsExternalId)
        {
            object?[] row = [enterpriseId, before.GroupId, draft.ExternalId];
            await transaction.ExecuteAsync(ChangeExternalId, row, cancellationToken);
        }

        await ChangeMembersAsync(transaction, enterpriseId, before.GroupId, draft, cancellationToken);
    }

    private const string ReadMembers = """
        SELECT m.user_id FROM group_members m JOIN users u USING (enterprise_id, user_id)
        WHERE m.enterprise_id = $1 AND m.group_id = $2 AND u.email IS NOT NULL ORDER BY m.user_id
        """;

    public static async Task<List<Guid>> MembersAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        CancellationToken cancellationToken
    )
    {
        var members = new List<Guid>();
        await using NpgsqlCommand command = transaction.Command(ReadMembers, enterpriseId, groupId);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            members.Add(reader.GetGuid(0));
        }

        return members;
    }

    private const string RemoveOthers =
        "DELETE FROM group_members WHERE enterprise_id = $1 AND group_id = $2 AND user_id <> ALL ($3)";

    private const string CountMembers = "SELECT count(*) FROM group_members WHERE enterprise_id = $1 AND group_id = $2";

    private static async Task ChangeMembersAsync(
        ScopedTransaction transaction,
        Guid enterpriseId,
        Guid groupId,
        ScimGroupDraft draft,
        CancellationToken cancellationToken
    )
    {
        foreach ((ScimOperation operation, Guid[]? given) in draft.Steps)
        {
            Guid[] members = given ?? [];
            if (operation == ScimOperation.Remove && given is not null)
            {
                await Groups.RemoveAsync(transaction, enterpriseId, groupId, members, cancellationToken);
                continue;
            }

            if (!await Groups.ArePeopleAsync(transaction, enterpriseId, members, cancellationToken))
            {
                throw ScimException.InvalidValue("members has somebody who does not exist.");
            }

            if (operation != ScimOperation.Add)
            {
                await transaction.ExecuteAsync(RemoveOthers, [enterpriseId, groupId, members], cancellationToken);
            }

            await Groups.AddAsync(transaction, enterpriseId, groupId, members, cancellationToken);
        }

        await using NpgsqlCommand counting = transaction.Command(CountMembers, enterpriseId, groupId);
        if ((long)(await counting.ExecuteScalarAsync(cancellationToken))! > Groups.MembersMax)
        {
            throw ScimException.InvalidValue($"A group has {Groups.MembersMax} members at most.");
        }
    }

    private static string Condition(ScimComparison comparison, List<object?> parameters)
    {
        string value = comparison.Value;
        switch (comparison.Attribute)
        {
            case "id":
                return Guid.TryParse(value, out Guid groupId) ? $"g.group_id = {Next(groupId)}" : "false";
            case "displayname":
                return $"lower(g.group_name) = lower({Next(Storable(value))})";
            case "externalid":
                return $"g.external_id = {Next(Storable(value))}";
            case "members" or "members.value":
                return Guid.TryParse(value, out Guid userId)
                    ? $"""
                        EXISTS (SELECT 1 FROM group_members m
                                WHERE m.enterprise_id = $1 AND m.group_id = g.group_id AND m.user_id = {Next(userId)})
                        """
                    : "false";
            default:
                throw ScimException.InvalidFilter("Groups are found by id, displayName, externalId and members.");
        }

        string Next(object parameter)
        {
            parameters.Add(parameter);
            return string.Create(CultureInfo.InvariantCulture, $"${parameters.Count}");
        }
    }

    // PostgreSQL's text has no NUL, so that nothing is called so.
    private static string Storable(string value) => value.Contains('\0', StringComparison.Ordinal) ? "" : value;

    private static async Task<List<ProvisionedGroup>> ReadAsync(
        NpgsqlCommand command,
        CancellationToken cancellationToken
    )
    {
        var read = new List<ProvisionedGroup>();
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            read.Add(
                new ProvisionedGroup(
                    reader.GetGuid(0),
                    reader.GetString(1),
                    reader.IsDBNull(2) ? null : reader.GetString(2),
                    reader.GetFieldValue<DateTimeOffset>(3),
                    reader.GetFieldValue<DateTimeOffset>(4)
                )
            );
        }

        return read;
    }
}
