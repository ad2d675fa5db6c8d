using System.Net.Http.Headers;
using Microsoft.Extensions.Primitives;
using UsageMonitor.Server.Platform;
using Yarp.ReverseProxy.Configuration;
using Yarp.ReverseProxy.Transforms;

namespace UsageMonitor.Server.Gateway;

/// <summary>
/// What a gateway does with paths that other processes serve: it forwards them with YARP to <c>Gateway:Services:&lt;role&gt;</c>
/// (addresses, comma-separated), the least busy first.
/// </summary>
/// <remarks>
/// The caller's own credential goes along and the service's guard verifies it, so a gateway need not be trusted by the
/// services behind it. In <c>all</c> nothing is forwarded: every path is served in process.
/// </remarks>
internal static class Forwarding
{
    private const string ServicesSection = "Gateway:Services";
    private static readonly TimeSpan s_activityTimeMax = TimeSpan.FromSeconds(100);

    /// <summary>A path that a role answers.</summary>
    internal sealed record RolePath(string Role, string Path);

    public static IServiceCollection AddForwarding(
        this IServiceCollection services,
        IConfiguration configuration,
        IEnumerable<RolePath> elsewhere
    )
    {
        var routes = new List<RouteConfig>();
        var clusters = new Dictionary<string, ClusterConfig>(StringComparer.Ordinal);
        foreach ((string role, string path) in elsewhere)
        {
            string[] addresses = (configuration[$"{ServicesSection}:{role}"] ?? "").Split(
                ',',
                StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries
            );
            if (addresses.Length == 0)
            {
                continue;
            }

            clusters[role] = ClusterOf(role, addresses);
            routes.Add(
                new RouteConfig
                {
                    RouteId = role + path,
                    ClusterId = role,
                    Match = new RouteMatch { Path = path + "/{**rest}" },
                }
            );
        }

        services
            .AddReverseProxy()
            .LoadFromMemory(routes, [.. clusters.Values])
            .AddTransforms(transforms => transforms.AddResponseTransform(PreferTheService));
        return services;
    }

    // Both set the headers that every answer has; added up, two security policies would hold at once.
    private static ValueTask PreferTheService(ResponseTransformContext context)
    {
        if (context.ProxyResponse is { } answer)
        {
            IHeaderDictionary headers = context.HttpContext.Response.Headers;
            foreach ((string name, HeaderStringValues values) in answer.Headers.NonValidated)
            {
                if (headers.TryGetValue(name, out StringValues both) && both.Count > values.Count)
                {
                    headers[name] = values.ToArray();
                }
            }
        }

        return ValueTask.CompletedTask;
    }

    public static void MapForwarding(this WebApplication app) =>
        // Anonymous here, because the service that answers has the guard that knows what its endpoint demands.
        app.MapReverseProxy(proxy =>
            {
                proxy.Use(EndStreamsAtStopAsync);
                proxy.UseLoadBalancing();
                proxy.UsePassiveHealthChecks();
            })
            .RequirePermission(Permissions.Anonymous);

    // A gateway that is told to stop would else wait for every page that is open somewhere.
    private static async Task EndStreamsAtStopAsync(HttpContext context, RequestDelegate next)
    {
        if (
            !context.Request.Headers.Accept.ToString().Contains("text/event-stream", StringComparison.OrdinalIgnoreCase)
        )
        {
            await next(context);
            return;
        }

        CancellationToken stopping = context
            .RequestServices.GetRequiredService<IHostApplicationLifetime>()
            .ApplicationStopping;
        await using CancellationTokenRegistration ending = stopping.Register(context.Abort);
        await next(context);
    }

    private static ClusterConfig ClusterOf(string role, string[] addresses) =>
        new()
        {
            ClusterId = role,
            LoadBalancingPolicy = "PowerOfTwoChoices",
            HttpRequest = new Yarp.ReverseProxy.Forwarder.ForwarderRequestConfig
            {
                ActivityTimeout = s_activityTimeMax,
            },
            HealthCheck = new HealthCheckConfig
            {
                Active = new ActiveHealthCheckConfig
                {
                    Enabled = true,
                    Interval = TimeSpan.FromSeconds(5),
                    Timeout = TimeSpan.FromSeconds(3),
                    Policy = "ConsecutiveFailures",
                    Path = "/health/ready",
                },
                // Between two looks: one that most connections fail to is left out at once.
                Passive = new PassiveHealthCheckConfig
                {
                    Enabled = true,
                    Policy = "TransportFailureRate",
                    ReactivationPeriod = TimeSpan.FromSeconds(5),
                },
            },
            Destinations = addresses
                .Select((address, index) => (Name: $"{role}-{index}", address))
                .ToDictionary(
                    destination => destination.Name,
                    destination => new DestinationConfig { Address = destination.address }
                ),
        };
}
