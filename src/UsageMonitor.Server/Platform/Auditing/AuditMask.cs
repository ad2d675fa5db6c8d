using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace UsageMonitor.Server.Platform.Auditing;

/// <summary>Makes of what was changed what may be kept: secrets and what tells who a person is do not come into the audit log.</summary>
internal static class AuditMask
{
    public const string Masked = "***";
    private const int DepthMax = 32;

    // Compared with members' names without case, dashes and underscores: a member that is called so or ends so is masked.
    private static readonly string[] s_secret =
    [
        "password",
        "passwordhash",
        "secret",
        "secrets",
        "token",
        "tokens",
        "apikey",
        "keyhash",
        "datakey",
        "privatekey",
        "recoverycodes",
        "cookie",
        "authorization",
        "credential",
        "assertion",
        "code",
        "codes",
        "email",
        "emails",
        "displayname",
        "username",
        "externalid",
        "givenname",
        "familyname",
        "phone",
        "phonenumbers",
        "recipients",
    ];

    public static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter() },
        MaxDepth = DepthMax,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    public static JsonNode? Of(object? value)
    {
        if (value is null)
        {
            return null;
        }

        JsonNode? node = JsonSerializer.SerializeToNode(value, value.GetType(), Json);
        Apply(node);
        return node;
    }

    private static void Apply(JsonNode? node)
    {
        if (node is JsonObject members)
        {
            foreach ((string name, JsonNode? value) in members.ToArray())
            {
                if (value is not null && IsSecret(name))
                {
                    members[name] = Masked;
                }
                else
                {
                    Apply(value);
                }
            }
        }
        else if (node is JsonArray items)
        {
            foreach (JsonNode? item in items)
            {
                Apply(item);
            }
        }
    }

    private static bool IsSecret(string name)
    {
        string plain = string.Concat(name.Where(char.IsAsciiLetterOrDigit)).ToLowerInvariant();
        return s_secret.Any(secret =>
            plain == secret || (secret.Length > 4 && plain.EndsWith(secret, StringComparison.Ordinal))
        );
    }
}
