using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http.Features;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>The names of SCIM's schemas (RFC 7643, RFC 7644).</summary>
internal static class ScimSchemas
{
    public const string User = "urn:ietf:params:scim:schemas:core:2.0:User";
    public const string Group = "urn:ietf:params:scim:schemas:core:2.0:Group";
    public const string List = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
    public const string Error = "urn:ietf:params:scim:api:messages:2.0:Error";
    public const string ServiceProvider = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";
    public const string ResourceType = "urn:ietf:params:scim:schemas:core:2.0:ResourceType";
    public const string Schema = "urn:ietf:params:scim:schemas:core:2.0:Schema";
}

/// <summary>Ends a request with an error in SCIM's own form; see <see cref="ScimEndpoints"/>.</summary>
internal sealed class ScimException(int status, string? scimType, string detail) : Exception(detail)
{
    public int Status { get; } = status;

    /// <summary>One of RFC 7644, table 9.</summary>
    public string? ScimType { get; } = scimType;

    public static ScimException InvalidValue(string detail) => new(400, "invalidValue", detail);

    public static ScimException InvalidSyntax(string detail) => new(400, "invalidSyntax", detail);

    public static ScimException InvalidFilter(string detail) => new(400, "invalidFilter", detail);

    public static ScimException InvalidPath(string detail) => new(400, "invalidPath", detail);

    public static ScimException Mutability(string detail) => new(400, "mutability", detail);

    public static ScimException Taken(string detail) => new(409, "uniqueness", detail);

    /// <summary>Of nobody, or of another enterprise: the same answer.</summary>
    public static ScimException NotFound() => new(404, null, "There is no such resource.");
}

/// <summary>Bodies of requests and answers.</summary>
internal static class ScimJson
{
    public const string MediaType = "application/scim+json";

    /// <summary>A group's members are one list: 20,000 of them fit.</summary>
    public const int BodyBytesMax = 2 * 1024 * 1024;
    private const int DepthMax = 16;

    private static readonly JsonSerializerOptions s_options = new(JsonSerializerDefaults.Web)
    {
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    public static IResult Ok<T>(T value, int status = StatusCodes.Status200OK) =>
        Results.Json(value, s_options, MediaType, status);

    /// <summary>A resource with the attributes that were asked for.</summary>
    public static IResult Ok<T>(T resource, ScimProjection projection, int status = StatusCodes.Status200OK) =>
        projection.IsAll ? Ok(resource, status) : Ok(projection.Of(Node(resource)), status);

    /// <summary>Resources with the attributes that were asked for.</summary>
    public static IResult Page<T>(IReadOnlyList<T> resources, long total, int startIndex, ScimProjection projection) =>
        projection.IsAll
            ? Ok(new ScimListResponse<T>([ScimSchemas.List], total, startIndex, resources.Count, resources))
            : Ok(
                new ScimListResponse<JsonObject>(
                    [ScimSchemas.List],
                    total,
                    startIndex,
                    resources.Count,
                    [.. resources.Select(resource => projection.Of(Node(resource)))]
                )
            );

    public static IResult Error(ScimException exception) =>
        Ok(
            new ScimError(
                [ScimSchemas.Error],
                exception.Status.ToString(CultureInfo.InvariantCulture),
                exception.ScimType,
                exception.Message
            ),
            exception.Status
        );

    /// <exception cref="ScimException">It is not a JSON object or too large.</exception>
    public static async Task<JsonElement> ReadAsync(HttpContext context)
    {
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = BodyBytesMax;
        }

        try
        {
            using JsonDocument document = await JsonDocument.ParseAsync(
                context.Request.Body,
                new JsonDocumentOptions { MaxDepth = DepthMax },
                context.RequestAborted
            );
            CheckNames(document.RootElement);
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? document.RootElement.Clone()
                : throw ScimException.InvalidSyntax("The body must be a JSON object.");
        }
        catch (JsonException)
        {
            throw ScimException.InvalidSyntax("The body is not JSON.");
        }
        catch (BadHttpRequestException exception) when (exception.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            throw new ScimException(413, null, $"The body may have {BodyBytesMax} bytes at most.");
        }
    }

    // A name with half of a surrogate pair parses, and throws when it is read.
    private static void CheckNames(JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement element in value.EnumerateArray())
            {
                CheckNames(element);
            }
        }
        else if (value.ValueKind == JsonValueKind.Object)
        {
            foreach (JsonProperty property in value.EnumerateObject())
            {
                try
                {
                    _ = property.Name;
                }
                catch (InvalidOperationException)
                {
                    throw ScimException.InvalidSyntax("The body has a name that is none.");
                }

                CheckNames(property.Value);
            }
        }
    }

    /// <summary>A text, or null; SCIM's empty text is none (RFC 7643, 2.5).</summary>
    public static string? Text(JsonElement value, string attribute, int charactersMax)
    {
        string? text = value.ValueKind switch
        {
            JsonValueKind.String => ReadString(value),
            JsonValueKind.Null or JsonValueKind.Undefined => null,
            _ => throw ScimException.InvalidValue($"{attribute} must be a text."),
        };
        text = text?.Trim();
        if (text?.Length > charactersMax || text?.Any(char.IsControl) == true)
        {
            throw ScimException.InvalidValue(
                $"{attribute} may have {charactersMax} characters, none of them a control character."
            );
        }

        return text is { Length: > 0 } ? text : null;
    }

    /// <summary>A truth value; Entra ID writes it as a text too, such as "False".</summary>
    public static bool Truth(JsonElement value, string attribute) =>
        value.ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            JsonValueKind.String when bool.TryParse(ReadString(value), out bool truth) => truth,
            _ => throw ScimException.InvalidValue($"{attribute} must be true or false."),
        };

    private static string ReadString(JsonElement value)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException) // half of a surrogate pair
        {
            throw ScimException.InvalidSyntax("The body has a text that is none.");
        }
    }

    private static JsonObject Node<T>(T resource) => JsonSerializer.SerializeToNode(resource, s_options)!.AsObject();
}
