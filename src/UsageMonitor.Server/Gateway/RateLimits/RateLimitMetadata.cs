namespace UsageMonitor.Server.Gateway.RateLimits;

/// <summary>How an endpoint's calls count; without it each is one request.</summary>
/// <param name="Unit">Against which buckets.</param>
/// <param name="ByEndpoint">The endpoint takes its units itself, since it knows how many only when it has read the body.</param>
internal sealed record RateLimitMetadata(RateUnit Unit, bool ByEndpoint);

internal static class RateLimitExtensions
{
    /// <summary>The endpoint counts the events it is sent, by <see cref="RateLimiter"/>.</summary>
    public static TBuilder CountsItsEvents<TBuilder>(this TBuilder builder)
        where TBuilder : IEndpointConventionBuilder =>
        builder.WithMetadata(new RateLimitMetadata(RateUnit.Events, ByEndpoint: true));

    /// <summary>Each call is one event: programs make one for every act of their users.</summary>
    public static TBuilder CountsAsEvent<TBuilder>(this TBuilder builder)
        where TBuilder : IEndpointConventionBuilder =>
        builder.WithMetadata(new RateLimitMetadata(RateUnit.Events, ByEndpoint: false));
}
