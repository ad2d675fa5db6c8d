using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using UsageMonitor.Contracts;

namespace UsageMonitor.EndToEnd.Fixtures;

/// <summary>The server answered what the test did not ask for.</summary>
internal sealed class ApiException(string request, HttpStatusCode status, string body)
    : Exception($"{request} answered {(int)status}: {body}")
{
    public HttpStatusCode Status { get; } = status;
}

/// <summary>The platform over HTTP, as one caller.</summary>
internal sealed class Api : IDisposable
{
    private static readonly TimeSpan AnswerMax = TimeSpan.FromSeconds(100);
    private readonly HttpClient _http;

    public Api(Uri address, string? bearer = null)
    {
        _http = new HttpClient(new SocketsHttpHandler { UseProxy = false, AllowAutoRedirect = false })
        {
            BaseAddress = address,
            Timeout = AnswerMax,
        };
        _http.DefaultRequestHeaders.Authorization = bearer is null
            ? null
            : new AuthenticationHeaderValue("Bearer", bearer);
    }

    /// <summary>Signs in, and returns the platform as this person sees it.</summary>
    public static async Task<Api> SignInAsync(Uri address, string email, string password)
    {
        using var anonymous = new Api(address);
        LoginResponse login = await anonymous.SendAsync<LoginResponse>(
            HttpMethod.Post,
            "/v1/auth/login",
            new LoginRequest(email, password)
        );
        return new Api(address, login.AccessToken);
    }

    public static Task<Api> SignInAsOperatorAsync(Uri address) =>
        SignInAsync(address, ServerProcess.OperatorEmail, ServerProcess.OperatorPassword);

    /// <summary>Makes an enterprise with an admin, and a key of theirs for everything. Called as the operator.</summary>
    public async Task<Tenant> CreateTenantAsync(string name, string timeZone)
    {
        string email = $"admin@{name}.example";
        CreateEnterpriseResponse made = await SendAsync<CreateEnterpriseResponse>(
            HttpMethod.Post,
            "/v1/platform/enterprises",
            new CreateEnterpriseRequest(name, timeZone, email)
        );
        using Api admin = await SignInAsync(_http.BaseAddress!, email, made.Admin.TemporaryPassword!);
        CreateApiKeyResponse key = await admin.SendAsync<CreateApiKeyResponse>(
            HttpMethod.Post,
            "/v1/admin/api-keys",
            new CreateApiKeyRequest("end to end", ["usage:write", "usage:backfill", "usage:read"])
        );
        TimeZoneInfo zone = TimeZoneInfo.FindSystemTimeZoneById(timeZone);
        return new Tenant(made.EnterpriseId, name, zone, key.ApiKey, email, made.Admin.TemporaryPassword!);
    }

    /// <summary>Sends lines of events once.</summary>
    /// <returns>The answer; null when the server told to come back later, which says nothing of what became of the events.</returns>
    public async Task<IngestResponse?> TryPostEventsAsync(string lines, CancellationToken cancellationToken)
    {
        using var content = new StringContent(lines, Encoding.UTF8, "application/x-ndjson");
        using HttpResponseMessage response = await _http.PostAsync(
            new Uri("/v1/usage/events", UriKind.Relative),
            content,
            cancellationToken
        );
        return
            response.StatusCode
                is HttpStatusCode.ServiceUnavailable
                    or HttpStatusCode.TooManyRequests
                    or HttpStatusCode.BadGateway
                    or HttpStatusCode.GatewayTimeout
            ? null
            : await ReadAsync<IngestResponse>(response, "POST /v1/usage/events");
    }

    /// <summary>Sends lines of events to a server that is expected to take them.</summary>
    public async Task<IngestResponse> PostEventsAsync(string lines) =>
        await TryPostEventsAsync(lines, CancellationToken.None)
        ?? throw new HttpRequestException("The server told to come back later.");

    public Task<LedgerResponse> LedgerAsync() =>
        GetAsync<LedgerResponse>($"/v1/admin/usage/ledger?{Around(DateTime.UtcNow)}");

    public Task<SummaryResponse> SummaryAsync(DateOnly from, DateOnly to) =>
        GetAsync<SummaryResponse>($"/v1/dashboard/summary?{Range(from, to)}");

    public Task<FeaturesResponse> FeaturesAsync(DateOnly from, DateOnly to) =>
        GetAsync<FeaturesResponse>($"/v1/dashboard/usage/by-feature?{Range(from, to)}");

    public Task<TrendsResponse> TrendsAsync(DateOnly from, DateOnly to, string interval, string? feature = null) =>
        GetAsync<TrendsResponse>(
            $"/v1/dashboard/usage/trends?{Range(from, to)}&interval={interval}"
                + (feature is null ? "" : $"&feature={Uri.EscapeDataString(feature)}")
        );

    public Task<UserAnalyticsResponse> UserAsync(string userId, DateOnly from, DateOnly to) =>
        GetAsync<UserAnalyticsResponse>(
            $"/v1/dashboard/users/{Uri.EscapeDataString(userId)}/analytics?{Range(from, to)}"
        );

    /// <summary>The live stream's lines, as they come.</summary>
    public async Task<StreamReader> OpenStreamAsync(CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri("/v1/dashboard/stream", UriKind.Relative));
        request.Headers.Accept.ParseAdd("text/event-stream");
        HttpResponseMessage response = await _http.SendAsync(
            request,
            HttpCompletionOption.ResponseHeadersRead,
            cancellationToken
        );
        response.EnsureSuccessStatusCode();
        return new StreamReader(await response.Content.ReadAsStreamAsync(cancellationToken));
    }

    /// <summary>The status of a GET.</summary>
    public async Task<HttpStatusCode> StatusAsync(string path)
    {
        using HttpResponseMessage response = await _http.GetAsync(new Uri(path, UriKind.Relative));
        return response.StatusCode;
    }

    public Task<T> GetAsync<T>(string path) => SendAsync<T>(HttpMethod.Get, path, body: null);

    public async Task<T> SendAsync<T>(HttpMethod method, string path, object? body)
    {
        using var request = new HttpRequestMessage(method, new Uri(path, UriKind.Relative));
        request.Content = body is null ? null : JsonContent.Create(body, body.GetType());
        using HttpResponseMessage response = await _http.SendAsync(request);
        return await ReadAsync<T>(response, $"{method} {path}");
    }

    public void Dispose() => _http.Dispose();

    private static async Task<T> ReadAsync<T>(HttpResponseMessage response, string request)
    {
        if (!response.IsSuccessStatusCode)
        {
            throw new ApiException(request, response.StatusCode, await response.Content.ReadAsStringAsync());
        }

        return (await response.Content.ReadFromJsonAsync<T>(JsonSerializerOptions.Web))!;
    }

    private static string Range(DateOnly from, DateOnly to) => $"from={from:yyyy-MM-dd}&to={to:yyyy-MM-dd}";

    // Whatever the zone, and should the test run at midnight.
    private static string Around(DateTime now) =>
        Range(DateOnly.FromDateTime(now).AddDays(-2), DateOnly.FromDateTime(now).AddDays(3));
}

/// <summary>An enterprise of a test.</summary>
/// <param name="Zone">Its days and hours.</param>
/// <param name="Key">An API key with every scope.</param>
internal sealed record Tenant(
    Guid EnterpriseId,
    string Name,
    TimeZoneInfo Zone,
    string Key,
    string AdminEmail,
    string AdminPassword
);
