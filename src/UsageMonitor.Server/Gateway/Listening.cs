using System.Globalization;
using System.Net;
using System.Security.Authentication;
using Microsoft.AspNetCore.HttpOverrides;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Gateway;

/// <summary>Where requests come in, and who is believed about where they came from.</summary>
internal static partial class Listening
{
    private const int HttpsPort = 443;

    /// <summary>Listens at the address and port, with the certificate if there is one, and at the port that leads to https.</summary>
    public static void Listen(
        this KestrelServerOptions kestrel,
        ServerSettings settings,
        ServerCertificate? certificate
    )
    {
        var address = IPAddress.Parse(settings.Address);
        kestrel.Listen(
            address,
            settings.Port,
            listen =>
            {
                if (certificate is not null)
                {
                    listen.UseHttps(https =>
                    {
                        https.SslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13;

                        // Kestrel wants a certificate or a selector. A selected one would go out without those between it and
                        // the root, so each connection gets the context that has them.
                        https.ServerCertificateSelector = (_, _) => certificate.Current().TargetCertificate;
                        https.OnAuthenticate = (_, options) =>
                        {
                            options.ServerCertificateSelectionCallback = null;
                            options.ServerCertificateContext = certificate.Current();
                        };
                    });
                }
            }
        );
        if (settings.Tls?.RedirectFromPort is { } plain)
        {
            kestrel.Listen(
                address,
                plain,
                listen =>
                    listen.Use(next =>
                        connection =>
                        {
                            connection.Features.Set(OnlyRedirects.Instance);
                            return next(connection);
                        }
                    )
            );
        }
    }

    /// <summary>
    /// Believes the trusted proxies, and only them, about a client's address, scheme and host; then sends what came in at the plain
    /// port on to https. Comes before everything that asks who calls.
    /// </summary>
    /// <param name="app">The pipeline.</param>
    /// <param name="settings">Names the proxies.</param>
    /// <param name="httpsPort">The port that https listens on, known once it listens.</param>
    public static void UseClientAddresses(this IApplicationBuilder app, ServerSettings settings, Func<int> httpsPort)
    {
        if (settings.Tls?.RedirectFromPort is not null)
        {
            app.Use(
                (context, next) =>
                    context.Features.Get<OnlyRedirects>() is null
                        ? next(context)
                        : RedirectAsync(context, settings.Tls.PublicPort ?? httpsPort())
            );
        }

        if (settings.TrustedProxies.Count > 0)
        {
            var options = new ForwardedHeadersOptions
            {
                ForwardedHeaders =
                    ForwardedHeaders.XForwardedFor | ForwardedHeaders.XForwardedProto | ForwardedHeaders.XForwardedHost,

                // As far back as there are trusted proxies; it stops at the first address that is none.
                ForwardLimit = null,
            };
            options.KnownProxies.Clear();
            options.KnownIPNetworks.Clear();
            foreach (System.Net.IPNetwork network in settings.TrustedProxies)
            {
                options.KnownIPNetworks.Add(network);
            }

            app.UseForwardedHeaders(options);
        }
    }

    /// <summary>Says so when passwords would cross a network in the clear.</summary>
    public static void WarnIfPlain(ServerSettings settings, ILogger logger)
    {
        if (
            settings is { Tls: null, TrustedProxies.Count: 0 }
            && !IPAddress.IsLoopback(IPAddress.Parse(settings.Address))
        )
        {
            PlainOnNetwork(logger, settings.Address);
        }
    }

    private static Task RedirectAsync(HttpContext context, int port)
    {
        HttpRequest request = context.Request;
        HttpResponse response = context.Response;
        response.Headers.CacheControl = "no-store";
        response.Headers.Connection = "close";
        if (!request.Host.HasValue)
        {
            response.StatusCode = StatusCodes.Status400BadRequest;
            return Task.CompletedTask;
        }

        string host = request.Host.Host;
        string authority = port == HttpsPort ? host : string.Create(CultureInfo.InvariantCulture, $"{host}:{port}");
        response.StatusCode = StatusCodes.Status308PermanentRedirect;
        response.Headers.Location =
            $"https://{authority}{request.PathBase.ToUriComponent()}{request.Path.ToUriComponent()}{request.QueryString.ToUriComponent()}";
        return Task.CompletedTask;
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Listening on {Address} without TLS: passwords and keys cross the network in the clear. Set Tls:Certificate, or TrustedProxies if a proxy in front does TLS."
    )]
    private static partial void PlainOnNetwork(ILogger logger, string address);

    /// <summary>Marks connections to the plain port.</summary>
    private sealed class OnlyRedirects
    {
        public static readonly OnlyRedirects Instance = new();
    }
}
