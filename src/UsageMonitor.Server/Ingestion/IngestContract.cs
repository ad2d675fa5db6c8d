using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Ingestion;

/// <summary>What of <c>POST /v1/usage/events</c> the framework cannot see: the forms of its body, and its codes.</summary>
internal static class IngestContract
{
    private static readonly JsonSerializerOptions s_readable = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private const string OneEvent = """
        {
          "eventId": "0195f3a2-7c1e-7b44-9d52-3f0c8a6e1b07",
          "userId": "ana.rao@acme.example",
          "featureName": "invoices.export",
          "eventType": "export",
          "eventTimestamp": "2026-11-23T10:15:30.250+05:30",
          "properties": { "format": "pdf", "pages": 12 }
        }
        """;

    private const string AnotherEvent =
        """{ "userId": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "featureName": "search" }""";

    private const string Answer = """
        {
          "received": 3, "accepted": 2,
          "rejected": [
            { "index": 1, "eventId": null, "code": "missing_field", "detail": "featureName is missing." }
          ]
        }
        """;

    public static async Task DescribeAsync(
        OpenApiOperation operation,
        OpenApiOperationTransformerContext context,
        CancellationToken cancellationToken
    )
    {
        OpenApiSchema one = await context.GetOrCreateSchemaAsync(typeof(UsageEvent), null, cancellationToken);
        context.Document!.AddComponent(nameof(UsageEvent), one);
        var reference = new OpenApiSchemaReference(nameof(UsageEvent), context.Document);
        var many = new OpenApiSchema
        {
            Type = JsonSchemaType.Array,
            Items = reference,
            MaxItems = EventParser.EventsMax,
        };
        var wrapped = new OpenApiSchema
        {
            Type = JsonSchemaType.Object,
            Required = new HashSet<string> { "events" },
            Properties = new Dictionary<string, IOpenApiSchema> { ["events"] = many },
        };
        operation.RequestBody = new OpenApiRequestBody
        {
            Required = true,
            Description =
                $"At most {EventParser.EventsMax:#,0} events and {RequestBody.BodyBytesMax / 1024 / 1024} MB, on the wire and decompressed; "
                + $"{EventReader.EventBytesMax / 1024} KB an event.",
            Content = new Dictionary<string, OpenApiMediaType>
            {
                ["application/json"] = new()
                {
                    Schema = new OpenApiSchema { OneOf = [reference, many, wrapped] },
                    Examples = new Dictionary<string, IOpenApiExample>
                    {
                        ["one"] = Example("One event", OneEvent),
                        ["many"] = Example("An array of events", $"[{OneEvent}, {AnotherEvent}]"),
                        ["wrapped"] = Example(
                            "An object with events",
                            $$"""{ "events": [{{OneEvent}}, {{AnotherEvent}}] }"""
                        ),
                    },
                },
                ["application/x-ndjson"] = new()
                {
                    Schema = new OpenApiSchema
                    {
                        Type = JsonSchemaType.String,
                        Description = "One UsageEvent a line. A line that is not JSON is rejected alone.",
                    },
                    Example = JsonValue.Create($"{Line(OneEvent)}\n{Line(AnotherEvent)}\n"),
                },
            },
        };
        operation.Parameters ??= [];
        operation.Parameters.Add(
            new OpenApiParameter
            {
                Name = "Content-Encoding",
                In = ParameterLocation.Header,
                Description = "How the body is compressed, if it is.",
                Schema = new OpenApiSchema
                {
                    Type = JsonSchemaType.String,
                    Enum = [JsonValue.Create("gzip"), JsonValue.Create("br")],
                },
            }
        );
        Describe("202", "The accepted events are durable; each will be counted once.");
        Describe(
            "403",
            "A request of one event, which a policy refuses: `blocked` says which. As a problem: the caller may not send events at all."
        );
        Describe("400", "Nothing was accepted: `invalid_json`, `invalid_compression`, `invalid_request`.");
        Describe("413", "Nothing was accepted: `body_too_large`, `too_many_events`.");
        Describe("415", "Nothing was accepted: `unsupported_media_type`, `unsupported_encoding`.");
        Describe("429", "This API key sends more events a second than it may; nothing was accepted: `rate_limited`.");
        Describe(
            "503",
            "The events may or may not be durable: send them again, with the same event ids. `log_unavailable`, `log_behind`, `policies_unavailable`, `unavailable`."
        );
        if (operation.Responses!["202"].Content?["application/json"] is { } accepted)
        {
            accepted.Example = JsonNode.Parse(Answer);
        }

        // Of the two kinds of 403 the framework knows the one that is no problem.
        context.Document.AddComponent(
            nameof(ProblemDetails),
            await context.GetOrCreateSchemaAsync(typeof(ProblemDetails), null, cancellationToken)
        );
        operation.Responses!["403"].Content!["application/problem+json"] = new OpenApiMediaType
        {
            Schema = new OpenApiSchemaReference(nameof(ProblemDetails), context.Document),
        };

        void Describe(string status, string description) => operation.Responses![status].Description = description;
    }

    private static OpenApiExample Example(string summary, string json) =>
        new() { Summary = summary, Value = JsonNode.Parse(json) };

    private static string Line(string json) => JsonNode.Parse(json)!.ToJsonString(s_readable);
}
