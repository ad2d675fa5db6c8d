using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using UsageMonitor.Contracts;

namespace UsageMonitor.Bench;

/// <summary>An enterprise made for the measurement.</summary>
internal sealed class BenchEnterprise(string adminEmail, string apiKey)
{
    private long _sent;

    public string AdminEmail => adminEmail;

    public string ApiKey => apiKey;

    /// <summary>Events acknowledged as accepted.</summary>
    public long Sent => Interlocked.Read(ref _sent);

    public void AddSent(long events) => Interlocked.Add(ref _sent, events);
}

/// <summary>Everything off the hot path: setting up, watching the pipeline, and checking the ledgers.</summary>
/// <param name="port">Where the platform listens.</param>
/// <param name="tail">What it said last, for an error.</param>
internal sealed class PlatformClient(int port, Func<string> tail) : IDisposable
{
    private const string AdminPassword = "admin-of-the-bench-1";
    private const int SideBySide = 4;
    private const int AttemptsMax = 100;
    private const int ProcessedSecondsMax = 300;
    private readonly HttpClient _http = new() { BaseAddress = new Uri($"http://127.0.0.1:{port}") };

    public void Dispose() => _http.Dispose();

    public async Task<BenchEnterprise[]> CreateEnterprisesAsync(int count)
    {
        string operatorToken = await SignInAsync(ServerProcess.OperatorEmail, ServerProcess.OperatorPassword);
        var made = new BenchEnterprise[count];
        await Parallel.ForAsync(
            0,
            count,
            new ParallelOptions { MaxDegreeOfParallelism = SideBySide },
            async (number, _) =>
            {
                string email = $"admin@e{number}.bench.example";
                var create = new CreateEnterpriseRequest($"Enterprise {number}", "UTC", email, AdminPassword);
                await SendAsync<CreateEnterpriseResponse>(
                    HttpMethod.Post,
                    "/v1/platform/enterprises",
                    operatorToken,
                    create
                );
                string adminToken = await SignInAsync(email, AdminPassword);
                var key = new CreateApiKeyRequest("bench", ["usage:write", "usage:read", "usage:check"]);
                CreateApiKeyResponse answer = await SendAsync<CreateApiKeyResponse>(
                    HttpMethod.Post,
                    "/v1/admin/api-keys",
                    adminToken,
                    key
                );
                made[number] = new BenchEnterprise(email, answer.ApiKey);
            }
        );
        return made;
    }

    /// <summary>Makes a BLOCK limit.</summary>
    public async Task LimitAsync(BenchEnterprise enterprise, string feature, string scope, long value, string window) =>
        await SendAsync<System.Text.Json.JsonElement>(
            HttpMethod.Post,
            "/v1/admin/usage/limits",
            await SignInAsync(enterprise.AdminEmail, AdminPassword),
            new
            {
                featureName = feature,
                scope,
                limitValue = value,
                windowType = window,
                action = "BLOCK",
            }
        );

    /// <summary>A token of the enterprise's admin.</summary>
    public Task<string> SignInAsAdminAsync(BenchEnterprise enterprise) =>
        SignInAsync(enterprise.AdminEmail, AdminPassword);

    /// <summary>Makes something.</summary>
    public Task PostAsync(string path, string token, object body) =>
        SendAsync<System.Text.Json.JsonElement>(HttpMethod.Post, path, token, body);

    /// <summary>The bytes of a GET, for <see cref="HttpConnection"/>.</summary>
    public ReadOnlyMemory<byte> Get(string path, string token) =>
        Encoding.ASCII.GetBytes(
            $"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );

    public async Task<PipelineWatch> WatchPipelineAsync() =>
        new(
            new HttpConnection(port),
            Get("/health/pipeline", await SignInAsync(ServerProcess.OperatorEmail, ServerProcess.OperatorPassword)),
            TimeSpan.FromSeconds(ProcessedSecondsMax)
        );

    /// <summary>Holds every enterprise's ledger against what was sent; returns how many disagree and the first few.</summary>
    public async Task<(int Wrong, string Examples)> CheckLedgersAsync(IReadOnlyList<BenchEnterprise> enterprises)
    {
        const int ExamplesMax = 5;
        string from = $"{DateTime.UtcNow.AddDays(-1):yyyy-MM-dd}";
        string to = $"{DateTime.UtcNow.AddDays(2):yyyy-MM-dd}";
        var wrong = new List<string>();
        await Parallel.ForEachAsync(
            enterprises,
            new ParallelOptions { MaxDegreeOfParallelism = SideBySide },
            async (enterprise, _) =>
            {
                LedgerCounts total = (
                    await SendAsync<LedgerResponse>(
                        HttpMethod.Get,
                        $"/v1/admin/usage/ledger?from={from}&to={to}",
                        enterprise.ApiKey,
                        null
                    )
                ).Total;
                if (total.Stored != enterprise.Sent || total.Pending != 0 || total.Rejected != 0)
                {
                    lock (wrong)
                    {
                        wrong.Add($"{enterprise.AdminEmail}: sent {enterprise.Sent}, {total}");
                    }
                }
            }
        );
        return (wrong.Count, string.Join(Environment.NewLine, wrong.Take(ExamplesMax)));
    }

    private async Task<string> SignInAsync(string email, string password) =>
        (
            await SendAsync<LoginResponse>(HttpMethod.Post, "/v1/auth/login", null, new LoginRequest(email, password))
        ).AccessToken;

    private async Task<T> SendAsync<T>(HttpMethod method, string path, string? token, object? body)
    {
        for (int attempt = 1; ; attempt++)
        {
            using var request = new HttpRequestMessage(method, path);
            request.Headers.Authorization = token is null ? null : new AuthenticationHeaderValue("Bearer", token);
            request.Content = body is null ? null : JsonContent.Create(body, body.GetType());
            using HttpResponseMessage answer = await _http.SendAsync(request);
            if (answer.IsSuccessStatusCode)
            {
                return (await answer.Content.ReadFromJsonAsync<T>())!;
            }

            bool busy = answer.StatusCode is HttpStatusCode.TooManyRequests or HttpStatusCode.ServiceUnavailable;
            if (!busy || attempt == AttemptsMax)
            {
                string detail = await answer.Content.ReadAsStringAsync();
                throw new BenchException($"{method} {path} answered {(int)answer.StatusCode}: {detail}\n{tail()}");
            }

            await Task.Delay(answer.Headers.RetryAfter?.Delta ?? TimeSpan.FromSeconds(1));
        }
    }
}
