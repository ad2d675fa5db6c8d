using System.Text.Json;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>What a PATCH does to an attribute.</summary>
internal enum ScimOperation
{
    Add,
    Replace,
    Remove,
}

/// <summary>
/// A person as a request wants them: begun from what is there (PATCH) or from nothing (POST, PUT), then changed attribute by
/// attribute. Attributes that are in no table here are taken and not kept, a password among them.
/// </summary>
internal sealed class ScimUserDraft
{
    private const int TextCharactersMax = 200;
    private const int EmailsMax = 10;

    private static readonly Dictionary<string, Action<ScimUserDraft, string?>> s_texts = new()
    {
        ["externalid"] = (draft, text) => draft.ExternalId = text,
        ["displayname"] = (draft, text) => draft.DisplayName = text,
        ["name.formatted"] = (draft, text) => draft.Formatted = text,
        ["name.givenname"] = (draft, text) => draft.GivenName = text,
        ["name.familyname"] = (draft, text) => draft.FamilyName = text,
    };

    public string? UserName { get; private set; }

    /// <summary>Null: nothing was said of it.</summary>
    public bool? Active { get; private set; }

    public string? ExternalId { get; private set; }

    public string? DisplayName { get; private set; }

    private string? Formatted { get; set; }

    private string? GivenName { get; set; }

    private string? FamilyName { get; set; }

    private List<ScimEmail> Emails { get; set; } = [];

    /// <summary>What to call the person where nobody has said it.</summary>
    public string? ShownName =>
        DisplayName
        ?? Formatted
        ?? (string.Join(' ', new[] { GivenName, FamilyName }.OfType<string>()) is { Length: > 0 } name ? name : null);

    public ScimProfile Profile =>
        new(
            ExternalId,
            Formatted is null && GivenName is null && FamilyName is null
                ? null
                : new ScimName(Formatted, GivenName, FamilyName),
            Emails
        );

    /// <summary>A draft that begins as the person is.</summary>
    public static ScimUserDraft From(string userName, string? displayName, ScimProfile profile) =>
        new()
        {
            UserName = userName,
            DisplayName = displayName,
            ExternalId = profile.ExternalId,
            Formatted = profile.Name?.Formatted,
            GivenName = profile.Name?.GivenName,
            FamilyName = profile.Name?.FamilyName,
            Emails = [.. profile.Emails],
        };

    /// <summary>A draft of a whole resource.</summary>
    public static ScimUserDraft From(JsonElement resource)
    {
        var draft = new ScimUserDraft();
        draft.ApplyAll(ScimOperation.Add, resource);
        return draft;
    }

    /// <exception cref="ScimException">The value is none for the attribute.</exception>
    public void Apply(ScimOperation operation, ScimPath path, JsonElement value)
    {
        bool removes = operation == ScimOperation.Remove || value.ValueKind == JsonValueKind.Null;
        if (path.IsForeign)
        {
            return;
        }

        if (path.Attribute.Length == 0)
        {
            ApplyAll(operation, value);
        }
        else if (path.Name == "username")
        {
            UserName = ReadUserName(removes ? default : value);
        }
        else if (path.Name == "active")
        {
            Active = removes
                ? throw ScimException.Mutability("active cannot be removed.")
                : ScimJson.Truth(value, "active");
        }
        else if (s_texts.TryGetValue(path.Name, out Action<ScimUserDraft, string?>? set))
        {
            set(this, removes ? null : ScimJson.Text(value, path.Name, TextCharactersMax));
        }
        else if (path.Name == "name")
        {
            ApplyName(removes, value);
        }
        else if (path.Attribute == "emails")
        {
            ApplyEmails(removes ? ScimOperation.Remove : operation, path, value);
        }
    }

    // Each member's name is a path of its own: Entra ID sends "name.givenName" and "emails[type eq \"work\"].value" here too.
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

    private void ApplyName(bool removes, JsonElement value)
    {
        if (removes)
        {
            (Formatted, GivenName, FamilyName) = (null, null, null);
            return;
        }

        if (value.ValueKind != JsonValueKind.Object)
        {
            throw ScimException.InvalidValue("name must be an object.");
        }

        foreach (JsonProperty part in value.EnumerateObject())
        {
            if (s_texts.TryGetValue($"name.{part.Name.ToLowerInvariant()}", out Action<ScimUserDraft, string?>? set))
            {
                set(this, ScimJson.Text(part.Value, $"name.{part.Name}", TextCharactersMax));
            }
        }
    }

    private void ApplyEmails(ScimOperation operation, ScimPath path, JsonElement value)
    {
        if (operation == ScimOperation.Remove)
        {
            Emails.RemoveAll(email => Matches(email, path.Filter));
        }
        else if (path.SubAttribute is null)
        {
            ScimEmail[] given = [.. Elements(value).Select(ReadEmail)];
            if (operation == ScimOperation.Replace || path.Filter is not null)
            {
                Emails.RemoveAll(email => Matches(email, path.Filter));
            }

            // One address of a type: what comes takes its place.
            Emails.RemoveAll(email => given.Any(other => other.Type == email.Type));
            Emails.AddRange(given);
        }
        else
        {
            ChangePart(path, value);
        }

        if (Emails.Count > EmailsMax)
        {
            throw ScimException.InvalidValue($"emails may have {EmailsMax} entries.");
        }
    }

    private void ChangePart(ScimPath path, JsonElement value)
    {
        int at = Emails.FindIndex(email => Matches(email, path.Filter));
        ScimEmail before =
            at >= 0
                ? Emails[at]
                : new ScimEmail("", path.Filter is { Attribute: "type" } filter ? filter.Value : null, null);
        ScimEmail after = path.SubAttribute switch
        {
            "value" => before with { Value = ScimJson.Text(value, "emails.value", EmailAddress.CharactersMax) ?? "" },
            "type" => before with { Type = ScimJson.Text(value, "emails.type", TextCharactersMax) },
            "primary" => before with { Primary = ScimJson.Truth(value, "emails.primary") },
            _ => before,
        };
        if (at >= 0)
        {
            Emails.RemoveAt(at);
        }

        if (after.Value.Length > 0)
        {
            Emails.Insert(Math.Max(at, 0), after);
        }
    }

    private static bool Matches(ScimEmail email, ScimComparison? filter) =>
        filter is not { } comparison
        || comparison.Value.Equals(
            comparison.Attribute switch
            {
                "type" => email.Type,
                "value" => email.Value,
                "primary" => email.Primary == true ? "true" : "false",
                _ => null,
            },
            StringComparison.OrdinalIgnoreCase
        );

    private static ScimEmail ReadEmail(JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.String)
        {
            return new ScimEmail(ReadAddress(value), null, null);
        }

        if (value.ValueKind != JsonValueKind.Object || !value.TryGetProperty("value", out JsonElement address))
        {
            throw ScimException.InvalidValue("emails must be objects with a value.");
        }

        return new ScimEmail(
            ReadAddress(address),
            value.TryGetProperty("type", out JsonElement type)
                ? ScimJson.Text(type, "emails.type", TextCharactersMax)
                : null,
            value.TryGetProperty("primary", out JsonElement primary) && primary.ValueKind != JsonValueKind.Null
                ? ScimJson.Truth(primary, "emails.primary")
                : null
        );
    }

    private static string ReadAddress(JsonElement value) =>
        ScimJson.Text(value, "emails.value", EmailAddress.CharactersMax)
        ?? throw ScimException.InvalidValue("emails.value must be an address.");

    private static string ReadUserName(JsonElement value) =>
        EmailAddress.TryNormalize(ScimJson.Text(value, "userName", EmailAddress.CharactersMax), out string? email)
            ? email
            : throw ScimException.InvalidValue("userName must be an e-mail address: people sign in with it.");

    private static JsonElement[] Elements(JsonElement value) =>
        value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : [value];
}

/// <summary>The body of a PATCH (RFC 7644, 3.5.2).</summary>
internal static class ScimPatch
{
    private const int OperationsMax = 1_000;

    /// <exception cref="ScimException">It is no list of operations.</exception>
    public static IEnumerable<(ScimOperation Operation, ScimPath Path, JsonElement Value)> Read(JsonElement body)
    {
        JsonElement operations = Member(body, "operations");
        if (operations.ValueKind != JsonValueKind.Array || operations.GetArrayLength() is 0 or > OperationsMax)
        {
            throw ScimException.InvalidSyntax($"Operations must be a list of 1 to {OperationsMax} operations.");
        }

        foreach (JsonElement operation in operations.EnumerateArray())
        {
            if (operation.ValueKind != JsonValueKind.Object)
            {
                throw ScimException.InvalidSyntax("An operation must be an object.");
            }

            string? op = ScimJson.Text(Member(operation, "op"), "op", 10);
            string? path = ScimJson.Text(Member(operation, "path"), "path", ScimPath.CharactersMax);
            yield return (
                op?.ToLowerInvariant() switch // Entra ID writes "Add"
                {
                    "add" => ScimOperation.Add,
                    "replace" => ScimOperation.Replace,
                    "remove" => ScimOperation.Remove,
                    _ => throw ScimException.InvalidSyntax("op must be add, replace or remove."),
                },
                path is null ? ScimPath.Resource : ScimPath.Parse(path),
                Member(operation, "value")
            );
        }
    }

    /// <summary>A member of an object whatever the case of its name, or an undefined element.</summary>
    public static JsonElement Member(JsonElement element, string name)
    {
        foreach (JsonProperty property in element.EnumerateObject())
        {
            if (property.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                return property.Value;
            }
        }

        return default;
    }
}
