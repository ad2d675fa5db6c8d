using System.Collections.Concurrent;
using Microsoft.IdentityModel.Protocols.OpenIdConnect;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>What a provider says of itself, and its keys.</summary>
/// <param name="Configuration">Its discovery document with its keys.</param>
/// <param name="LoadedAt">When it was fetched.</param>
internal sealed record LoadedMetadata(OpenIdConnectConfiguration Configuration, DateTimeOffset LoadedAt);

/// <summary>
/// Discovery documents and keys of providers, fetched when needed and kept for an hour; a provider that is away for a while
/// is known for a day. Keys that nobody knows yet are fetched at once: only the provider itself can make us ask.
/// </summary>
internal sealed class ProviderMetadata(ProviderConnections connections, TimeProvider time)
{
    public static readonly TimeSpan FreshFor = TimeSpan.FromHours(1);
    public static readonly TimeSpan UsableFor = TimeSpan.FromDays(1);
    private const int ProvidersMax = 5_000;
    private const string WellKnown = "/.well-known/openid-configuration";
    private readonly ConcurrentDictionary<string, Known> _known = new(StringComparer.Ordinal);

    /// <summary>Where a provider describes itself (OpenID Connect Discovery, 4).</summary>
    public static string AddressOf(string issuer) => issuer.TrimEnd('/') + WellKnown;

    /// <param name="issuer">As the admin has given it.</param>
    /// <param name="newerThan">At least as new as this, if the provider answers at all.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <exception cref="ProviderException">It cannot be fetched, or is not what a provider says.</exception>
    public async Task<LoadedMetadata> GetAsync(
        string issuer,
        DateTimeOffset? newerThan,
        CancellationToken cancellationToken
    )
    {
        if (_known.Count >= ProvidersMax)
        {
            _known.Clear();
        }

        Known known = _known.GetOrAdd(issuer, static _ => new Known());
        DateTimeOffset oldest = newerThan ?? time.GetUtcNow() - FreshFor;
        if (known.Loaded is { } fresh && fresh.LoadedAt >= oldest)
        {
            return fresh;
        }

        await known.Loading.WaitAsync(cancellationToken);
        try
        {
            if (known.Loaded is { } meanwhile && meanwhile.LoadedAt >= oldest)
            {
                return meanwhile;
            }

            return known.Loaded = await FetchAsync(issuer, cancellationToken);
        }
        catch (ProviderException) when (known.Loaded is { } stale && time.GetUtcNow() - stale.LoadedAt < UsableFor)
        {
            return stale;
        }
        finally
        {
            known.Loading.Release();
        }
    }

    /// <summary>Asks the provider now, whatever is known.</summary>
    /// <exception cref="ProviderException">It cannot be fetched, or is not what a provider says.</exception>
    public async Task<LoadedMetadata> FetchAsync(string issuer, CancellationToken cancellationToken)
    {
        // Before the request: keys published while it runs may not be in its answer.
        DateTimeOffset startedAt = time.GetUtcNow();
        OpenIdConnectConfiguration configuration;
        try
        {
            configuration = await OpenIdConnectConfigurationRetriever.GetAsync(
                AddressOf(issuer),
                connections,
                cancellationToken
            );
        }
        catch (Exception exception) when (Reason(exception) is { } reason)
        {
            throw reason;
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            throw new ProviderException($"{AddressOf(issuer)} does not describe an OpenID provider.", exception);
        }

        if (configuration.Issuer != issuer)
        {
            throw new ProviderException($"The provider calls itself '{configuration.Issuer}', not '{issuer}'.");
        }

        if (
            !connections.IsAllowed(configuration.AuthorizationEndpoint)
            || !connections.IsAllowed(configuration.TokenEndpoint)
        )
        {
            throw new ProviderException("The provider names no https address to authorize or to get tokens at.");
        }

        return new LoadedMetadata(configuration, startedAt);
    }

    private static ProviderException? Reason(Exception? exception)
    {
        while (exception is not null and not ProviderException)
        {
            exception = exception.InnerException;
        }

        return (ProviderException?)exception;
    }

    // Neither the semaphore nor the entry is disposed: nothing of either is outside the heap.
    private sealed class Known
    {
        private volatile LoadedMetadata? _loaded;

        public SemaphoreSlim Loading { get; } = new(1);

        public LoadedMetadata? Loaded
        {
            get => _loaded;
            set => _loaded = value;
        }
    }
}
