using System.Text.Json.Nodes;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary><c>attributes</c> and <c>excludedAttributes</c> of a query (RFC 7644, 3.9).</summary>
internal sealed class ScimProjection
{
    private const int NamesMax = 50;

    // RFC 7643, 7: "returned": "always".
    private static readonly string[] s_always = ["schemas", "id"];

    private readonly string[] _only;
    private readonly string[] _without;

    private ScimProjection(string[] only, string[] without) => (_only, _without) = (only, without);

    public bool IsAll => _only.Length == 0 && _without.Length == 0;

    public static ScimProjection Of(HttpRequest request) =>
        new(Names(request.Query["attributes"]), Names(request.Query["excludedAttributes"]));

    /// <summary>Whether an attribute is to be shown, at least in part.</summary>
    public bool Wants(string attribute) =>
        (_only.Length == 0 || _only.Any(name => Begins(name, attribute)))
        && !_without.Contains(attribute, StringComparer.OrdinalIgnoreCase);

    public JsonObject Of(JsonObject resource)
    {
        foreach ((string name, JsonNode? value) in resource.ToArray())
        {
            if (s_always.Contains(name))
            {
                continue;
            }

            if (!Wants(name))
            {
                resource.Remove(name);
                continue;
            }

            bool isWhole = _only.Length == 0 || _only.Contains(name, StringComparer.OrdinalIgnoreCase);
            foreach (JsonObject part in Parts(value))
            {
                foreach (string sub in part.Select(pair => pair.Key).ToArray())
                {
                    string path = $"{name}.{sub}";
                    if (
                        _without.Contains(path, StringComparer.OrdinalIgnoreCase)
                        || (!isWhole && !_only.Contains(path, StringComparer.OrdinalIgnoreCase))
                    )
                    {
                        part.Remove(sub);
                    }
                }
            }
        }

        return resource;
    }

    private static IEnumerable<JsonObject> Parts(JsonNode? value) =>
        value switch
        {
            JsonObject complex => [complex],
            JsonArray list => list.OfType<JsonObject>(),
            _ => [],
        };

    private static bool Begins(string path, string attribute) =>
        path.StartsWith(attribute, StringComparison.OrdinalIgnoreCase)
        && (path.Length == attribute.Length || path[attribute.Length] == '.');

    private static string[] Names(string? list) =>
        [
            .. (list ?? "")
                .Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
                .Take(NamesMax)
                .Select(ScimPath.WithoutSchema),
        ];
}
