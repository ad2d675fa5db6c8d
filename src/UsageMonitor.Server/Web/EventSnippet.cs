namespace UsageMonitor.Server.Web;

/// <summary>A first event that can be pasted into a shell.</summary>
internal static class EventSnippet
{
    /// <remarks>It carries its own id: pasted twice it is still one event, as with a client that retries.</remarks>
    public static string For(HttpRequest request, string? apiKey) =>
        $$"""
            curl -i {{request.Scheme}}://{{request.Host}}{{request.PathBase}}/v1/usage/events \
              -H "Authorization: Bearer {{apiKey ?? "YOUR_API_KEY"}}" \
              -H "Content-Type: application/json" \
              -d '{
                "eventId": "{{Guid.CreateVersion7()}}",
                "userId": "anna@example.com",
                "featureName": "report-export",
                "eventType": "used"
              }'
            """;
}
