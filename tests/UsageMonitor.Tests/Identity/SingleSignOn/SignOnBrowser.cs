using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using UsageMonitor.Contracts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.SingleSignOn;

/// <summary>A browser of its own, which follows redirects only when told to.</summary>
internal sealed partial class SignOnBrowser : IDisposable
{
    private readonly HttpClient _client;

    public SignOnBrowser(RunningServer server)
    {
        _client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, CookieContainer = Cookies })
        {
            BaseAddress = server.Client.BaseAddress,
        };
        _client.DefaultRequestHeaders.Add("Accept", "text/html");
    }

    public CookieContainer Cookies { get; } = new();

    public Task<HttpResponseMessage> GetAsync(string address) =>
        _client.GetAsync(new Uri(address, UriKind.RelativeOrAbsolute), TestContext.Current.CancellationToken);

    /// <summary>Fills in a form of a page and sends it, with the page's antiforgery token.</summary>
    public async Task<HttpResponseMessage> SubmitAsync(
        string page,
        string action,
        params (string Name, string Value)[] fields
    )
    {
        using HttpResponseMessage shown = await GetAsync(page);
        string html = await shown.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Match token = FormToken().Match(html);
        Assert.True(token.Success, $"{page} has no form: {shown.StatusCode}");
        using var request = new HttpRequestMessage(HttpMethod.Post, action)
        {
            Content = new FormUrlEncodedContent([
                KeyValuePair.Create("_form", WebUtility.HtmlDecode(token.Groups[1].Value)),
                .. fields.Select(field => KeyValuePair.Create(field.Name, field.Value)),
            ]),
        };
        request.Headers.Add("Sec-Fetch-Site", "same-origin");
        return await _client.SendAsync(request, TestContext.Current.CancellationToken);
    }

    [GeneratedRegex("name=\"_form\" value=\"([^\"]+)\"")]
    private static partial Regex FormToken();

    /// <summary>Goes to the provider and as far as the address it sends us back to.</summary>
    public async Task<string> LeaveAsync(Guid providerId, string? returnUrl = null)
    {
        string query = returnUrl is null ? "" : "?returnUrl=" + Uri.EscapeDataString(returnUrl);
        string atProvider = await RedirectAsync($"/sign-in/sso/{providerId}{query}");
        return await RedirectAsync(atProvider);
    }

    /// <summary>The whole way; the answer is that of our own callback.</summary>
    public async Task<HttpResponseMessage> SignInAsync(Guid providerId, string? returnUrl = null) =>
        await GetAsync(await LeaveAsync(providerId, returnUrl));

    /// <summary>Whom the server takes this browser for.</summary>
    public async Task<ValidateResponse?> WhoAsync()
    {
        using HttpResponseMessage response = await GetAsync("/v1/auth/validate");
        return response.StatusCode == HttpStatusCode.OK
            ? JsonSerializer.Deserialize<ValidateResponse>(
                await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
                JsonSerializerOptions.Web
            )
            : null;
    }

    public async Task<string> RedirectAsync(string address)
    {
        using HttpResponseMessage response = await GetAsync(address);
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode is HttpStatusCode.Found, $"{address}: {response.StatusCode} {body}");
        return response.Headers.Location!.OriginalString;
    }

    public void Dispose() => _client.Dispose();
}
