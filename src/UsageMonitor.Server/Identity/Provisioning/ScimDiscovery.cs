using System.Text.Json.Nodes;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>
/// What the endpoint can do, as it tells it itself: <c>ServiceProviderConfig</c>, <c>ResourceTypes</c>, <c>Schemas</c>
/// (RFC 7643, 5–7; RFC 7644, 4).
/// </summary>
internal static class ScimDiscovery
{
    private const string Text = "string";

    private static readonly ScimAttribute[] s_user =
    [
        new("userName", Text) { Required = true, Uniqueness = "global" },
        new("name", "complex") { Sub = [new("formatted", Text), new("givenName", Text), new("familyName", Text)] },
        new("displayName", Text),
        new("emails", "complex")
        {
            MultiValued = true,
            Sub = [new("value", Text), new("type", Text), new("primary", "boolean")],
        },
        new("active", "boolean"),
    ];

    private static readonly ScimAttribute[] s_group =
    [
        new("displayName", Text) { Required = true, Uniqueness = "server" },
        new("members", "complex")
        {
            MultiValued = true,
            Sub =
            [
                new("value", Text) { Mutability = "immutable" },
                new("$ref", "reference") { Mutability = "readOnly" },
            ],
        },
    ];

    private static readonly (string Name, string Schema, ScimAttribute[] Attributes)[] s_resources =
    [
        ("User", ScimSchemas.User, s_user),
        ("Group", ScimSchemas.Group, s_group),
    ];

    public static void MapScimDiscovery(this RouteGroupBuilder group)
    {
        group
            .MapGet("/ServiceProviderConfig", (HttpContext context) => ScimJson.Ok(ServiceProvider(context.Request)))
            .Describe<object>("ScimServiceProviderConfig", "Tells what of SCIM is supported");
        Map(group, "ResourceTypes", "ScimResourceTypes", "Tells which kinds of resources there are", ResourceType);
        Map(group, "Schemas", "ScimSchemas", "Tells which attributes resources have", Schema);
    }

    // The list, and each by its id.
    private static void Map(
        RouteGroupBuilder group,
        string kind,
        string name,
        string summary,
        Func<HttpRequest, int, JsonObject> show
    )
    {
        group
            .MapGet(
                $"/{kind}",
                (HttpContext context) =>
                    ScimJson.Ok(
                        new ScimListResponse<JsonObject>(
                            [ScimSchemas.List],
                            s_resources.Length,
                            1,
                            s_resources.Length,
                            [.. s_resources.Select((_, at) => show(context.Request, at))]
                        )
                    )
            )
            .Describe<ScimListResponse<object>>(name, summary);
        group
            .MapGet(
                $"/{kind}/{{id}}",
                (string id, HttpContext context) =>
                {
                    int at = Array.FindIndex(s_resources, resource => id == resource.Name || id == resource.Schema);
                    return at >= 0 ? ScimJson.Ok(show(context.Request, at)) : throw ScimException.NotFound();
                }
            )
            .Describe<object>($"{name}ById", summary);
    }

    private static JsonObject ServiceProvider(HttpRequest request) =>
        new()
        {
            ["schemas"] = new JsonArray(ScimSchemas.ServiceProvider),
            ["patch"] = Supported(true),
            ["bulk"] = new JsonObject
            {
                ["supported"] = false,
                ["maxOperations"] = 0,
                ["maxPayloadSize"] = 0,
            },
            ["filter"] = new JsonObject { ["supported"] = true, ["maxResults"] = ScimEndpoints.CountMax },
            ["changePassword"] = Supported(false),
            ["sort"] = Supported(false),
            ["etag"] = Supported(false),
            ["authenticationSchemes"] = new JsonArray(
                new JsonObject
                {
                    ["type"] = "oauthbearertoken",
                    ["name"] = "API key",
                    ["description"] = "Authorization: Bearer with an API key that has the scope provisioning:write",
                    ["primary"] = true,
                }
            ),
            ["meta"] = Meta(request, "ServiceProviderConfig", "ServiceProviderConfig"),
        };

    private static JsonObject ResourceType(HttpRequest request, int at)
    {
        (string name, string schema, _) = s_resources[at];
        return new JsonObject
        {
            ["schemas"] = new JsonArray(ScimSchemas.ResourceType),
            ["id"] = name,
            ["name"] = name,
            ["endpoint"] = $"/{name}s",
            ["schema"] = schema,
            ["meta"] = Meta(request, "ResourceType", $"ResourceTypes/{name}"),
        };
    }

    private static JsonObject Schema(HttpRequest request, int at)
    {
        (string name, string schema, ScimAttribute[] attributes) = s_resources[at];
        return new JsonObject
        {
            ["schemas"] = new JsonArray(ScimSchemas.Schema),
            ["id"] = schema,
            ["name"] = name,
            ["attributes"] = new JsonArray([.. attributes.Select(attribute => attribute.Show())]),
            ["meta"] = Meta(request, "Schema", $"Schemas/{schema}"),
        };
    }

    private static JsonObject Supported(bool supported) => new() { ["supported"] = supported };

    private static JsonObject Meta(HttpRequest request, string resourceType, string path) =>
        new()
        {
            ["resourceType"] = resourceType,
            ["location"] = $"{request.Scheme}://{request.Host}{request.PathBase}{ScimEndpoints.Address}/{path}",
        };

    private sealed record ScimAttribute(string Name, string Type)
    {
        public bool MultiValued { get; init; }

        public bool Required { get; init; }

        public string Mutability { get; init; } = "readWrite";

        public string Uniqueness { get; init; } = "none";

        public ScimAttribute[] Sub { get; init; } = [];

        public JsonObject Show()
        {
            var shown = new JsonObject
            {
                ["name"] = Name,
                ["type"] = Type,
                ["multiValued"] = MultiValued,
                ["required"] = Required,
                ["caseExact"] = false,
                ["mutability"] = Mutability,
                ["returned"] = "default",
                ["uniqueness"] = Uniqueness,
            };
            if (Sub.Length > 0)
            {
                shown["subAttributes"] = new JsonArray([.. Sub.Select(attribute => attribute.Show())]);
            }

            if (Type == "reference")
            {
                shown["referenceTypes"] = new JsonArray("User");
            }

            return shown;
        }
    }
}
