using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

/// <summary>A real HTTP server that is posted to.</summary>
internal sealed class WebhookReceiver : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly ConcurrentQueue<Posted> _posts = new();

    private WebhookReceiver(WebApplication app) => _app = app;

    /// <summary>What it was sent.</summary>
    internal sealed record Posted(string Path, string Id, string Timestamp, string Signature, string Body)
    {
        /// <summary>As a receiver checks it: any of the signatures may be the one.</summary>
        public bool IsSignedBy(string secret)
        {
            byte[] key = Convert.FromBase64String(secret["whsec_".Length..]);
            byte[] mac = HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"{Id}.{Timestamp}.{Body}"));
            return Signature.Split(' ').Contains("v1," + Convert.ToBase64String(mac));
        }

        public DateTimeOffset SentAt =>
            DateTimeOffset.FromUnixTimeSeconds(long.Parse(Timestamp, CultureInfo.InvariantCulture));
    }

    public IReadOnlyList<Posted> Posts => [.. _posts];

    /// <summary>Answers; 204 unless told.</summary>
    public Func<HttpContext, Task> Answer { get; set; } =
        context =>
        {
            context.Response.StatusCode = 204;
            return Task.CompletedTask;
        };

    public string Url => _app.Urls.First() + "/hook?token=a-secret-token";

    public int Port => new Uri(_app.Urls.First()).Port;

    public static async Task<WebhookReceiver> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        WebApplication app = builder.Build();
        var receiver = new WebhookReceiver(app);
        app.Run(receiver.ReceiveAsync);
        await app.StartAsync(TestContext.Current.CancellationToken);
        return receiver;
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();

    private async Task ReceiveAsync(HttpContext context)
    {
        using var reader = new StreamReader(context.Request.Body);
        string body = await reader.ReadToEndAsync();
        _posts.Enqueue(
            new Posted(
                context.Request.Path,
                context.Request.Headers["webhook-id"].ToString(),
                context.Request.Headers["webhook-timestamp"].ToString(),
                context.Request.Headers["webhook-signature"].ToString(),
                body
            )
        );
        await Answer(context);
    }
}
