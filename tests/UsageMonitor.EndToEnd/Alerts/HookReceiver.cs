using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Alerts;

/// <summary>A message as it was posted.</summary>
/// <param name="Path">Which webhook.</param>
/// <param name="Id"><c>webhook-id</c>.</param>
/// <param name="SignedText">What the signature is over.</param>
/// <param name="Signature"><c>webhook-signature</c>.</param>
/// <param name="Body">JSON.</param>
internal sealed record PostedMessage(string Path, string Id, string SignedText, string Signature, string Body)
{
    /// <summary>As a receiver checks it.</summary>
    public bool IsSignedBy(string secret)
    {
        byte[] key = Convert.FromBase64String(secret["whsec_".Length..]);
        byte[] mac = HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(SignedText));
        return Signature.Split(' ').Contains("v1," + Convert.ToBase64String(mac));
    }
}

/// <summary>A real HTTP server for webhooks, which now and then fails.</summary>
internal sealed class HookReceiver : IAsyncDisposable
{
    private const double FailureShare = 0.02;
    private readonly HttpListener _listener = new();
    private readonly ConcurrentQueue<PostedMessage> _messages = new();
    private readonly Random _random;
    private readonly Task _listening;

    public HookReceiver(Random random)
    {
        _random = random;
        Address = new Uri($"http://127.0.0.1:{Ports.Free()}/");
        _listener.Prefixes.Add(Address.ToString());
        _listener.Start();
        _listening = Task.Run(ListenAsync);
    }

    public Uri Address { get; }

    /// <summary>What it answered that it took, repeats included.</summary>
    public IReadOnlyList<PostedMessage> Messages => [.. _messages];

    public async ValueTask DisposeAsync()
    {
        _listener.Stop();
        await _listening;
        _listener.Close();
    }

    private async Task ListenAsync()
    {
        while (_listener.IsListening)
        {
            HttpListenerContext context;
            try
            {
                context = await _listener.GetContextAsync();
            }
            catch (Exception exception) when (exception is HttpListenerException or ObjectDisposedException)
            {
                return;
            }

            try
            {
                await AnswerAsync(context);
            }
            catch (Exception exception)
                when (exception is HttpListenerException or IOException or ObjectDisposedException)
            {
                // Whoever posted it is dead.
            }
        }
    }

    private async Task AnswerAsync(HttpListenerContext context)
    {
        using var reader = new StreamReader(context.Request.InputStream);
        string body = await reader.ReadToEndAsync();
        string Header(string name) => context.Request.Headers[name] ?? "";
        bool fails = _random.NextDouble() < FailureShare;
        if (!fails && body.Length == context.Request.ContentLength64)
        {
            string signedText = string.Create(
                CultureInfo.InvariantCulture,
                $"{Header("webhook-id")}.{Header("webhook-timestamp")}.{body}"
            );
            _messages.Enqueue(
                new PostedMessage(
                    context.Request.Url!.AbsolutePath,
                    Header("webhook-id"),
                    signedText,
                    Header("webhook-signature"),
                    body
                )
            );
        }

        context.Response.StatusCode = fails ? 500 : 204;
        context.Response.Close();
    }
}
