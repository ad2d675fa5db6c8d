using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Gateway;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity;

/// <summary>A server with identity, the guard and a few endpoints to knock at.</summary>
internal sealed class IdentityHost : IAsyncDisposable
{
    public const string OperatorEmail = "operator@example.com";
    public const string OperatorPassword = "an operator's password";
    public const string AdminPassword = "an admin's long password";

    private readonly WebApplication _app;
    private Task<LoginResponse>? _operator;
    private DateTimeOffset _operatorUntil;

    private IdentityHost(WebApplication app)
    {
        _app = app;
        Client = NewClient();
    }

    public HttpClient Client { get; }

    public IServiceProvider Services => _app.Services;

    /// <param name="database">Its database; hosts over the same one are instances of one platform.</param>
    /// <param name="time">Its clock; the system's unless told.</param>
    /// <param name="more">Settings beside the operator's.</param>
    public static async Task<IdentityHost> StartAsync(
        TestDatabase database,
        TimeProvider? time = null,
        params (string Key, string Value)[] more
    )
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        IConfiguration settings = new ConfigurationBuilder()
            .AddInMemoryCollection([
                new("USAGEMONITOR_OPERATOR_EMAIL", OperatorEmail),
                new("USAGEMONITOR_OPERATOR_PASSWORD", OperatorPassword),
                .. more.Select(one => new KeyValuePair<string, string?>(one.Key, one.Value)),
            ])
            .Build();
        builder
            .Services.AddSingleton(database.Database)
            .AddSingleton(Engines.MasterKey)
            .AddSingleton(ServerSettings.Load(settings))
            .AddSingleton(time ?? TimeProvider.System)
            .AddIdentityServices()
            .AddGatewayServices()
            .AddOpenApi();
        WebApplication app = builder.Build();
        app.UseGuard();
        app.MapOpenApi().RequirePermission(Permissions.Anonymous);
        app.MapAuthEndpoints().MapEnterpriseEndpoints().MapApiKeyEndpoints();
        app.MapSecondFactorEndpoints().MapSecondFactorReset().MapOwnAccountEndpoints();
        app.MapGet("/v1/forgotten", () => "nobody should see this");
        app.MapPost("/v1/events", (HttpContext context) => context.GetCaller().ApiKeyId)
            .RequirePermission(Permissions.UsageWrite);
        app.MapGet("/v1/usage", (HttpContext context) => context.GetCaller().EnterpriseId)
            .RequirePermission(Permissions.UsageRead);
        app.MapGet("/pages/overview", () => "a page").RequirePermission(Permissions.Authenticated);
        app.MapPost("/pages/change", () => "changed").RequirePermission(Permissions.Authenticated);
        app.MapPost(
                "/sign-in",
                async (HttpContext context, BrowserSessions browser, LoginRequest login) =>
                    (await browser.SignInAsync(context, login.Email, login.Password)).Outcome.ToString()
            )
            .RequirePermission(Permissions.Anonymous);
        app.MapPost("/sign-out", (HttpContext context, BrowserSessions browser) => browser.SignOutAsync(context))
            .RequirePermission(Permissions.Authenticated);
        await app.Services.GetRequiredService<OperatorBootstrap>().EnsureAsync(TestContext.Current.CancellationToken);
        await app.StartAsync(TestContext.Current.CancellationToken);
        return new IdentityHost(app);
    }

    public HttpClient NewClient() =>
        new(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                UseCookies = false,
                RequestHeaderEncodingSelector = (_, _) => Encoding.UTF8,
            }
        )
        {
            BaseAddress = new Uri(_app.Urls.First()),
        };

    /// <summary>The operator, signed in once while the token is good: checking a password is slow on purpose.</summary>
    public Task<LoginResponse> LoginOperatorAsync()
    {
        DateTimeOffset now = Services.GetRequiredService<TimeProvider>().GetUtcNow();
        if (now >= _operatorUntil)
        {
            _operator = null;
            _operatorUntil = now.AddSeconds(AccessTokens.LifetimeSeconds);
        }

        return LazyInitializer.EnsureInitialized(ref _operator, () => LoginAsync(OperatorEmail, OperatorPassword));
    }

    public async Task<LoginResponse> LoginAsync(string email, string password)
    {
        using HttpResponseMessage response = await PostAsync("/v1/auth/login", new LoginRequest(email, password), null);
        return await ReadAsync<LoginResponse>(response, HttpStatusCode.OK);
    }

    /// <summary>A new enterprise; the answer is its admin, signed in.</summary>
    public async Task<LoginResponse> CreateEnterpriseAsync(string? email = null)
    {
        email ??= $"admin-{Guid.NewGuid():N}@example.com";
        LoginResponse anOperator = await LoginOperatorAsync();
        using HttpResponseMessage response = await PostAsync(
            "/v1/platform/enterprises",
            new CreateEnterpriseRequest("Example Ltd", "Asia/Kolkata", email, AdminPassword),
            anOperator.AccessToken
        );
        await ReadAsync<CreateEnterpriseResponse>(response, HttpStatusCode.Created);
        return await LoginAsync(email, AdminPassword);
    }

    public async Task<CreateApiKeyResponse> CreateApiKeyAsync(LoginResponse admin, params string[] scopes)
    {
        using HttpResponseMessage response = await PostAsync(
            "/v1/admin/api-keys",
            new CreateApiKeyRequest("a key", scopes),
            admin.AccessToken
        );
        return await ReadAsync<CreateApiKeyResponse>(response, HttpStatusCode.Created);
    }

    public Task<HttpResponseMessage> PostAsync<T>(string path, T body, string? bearer) =>
        SendAsync(HttpMethod.Post, path, bearer, JsonContent.Create(body));

    public async Task<HttpResponseMessage> SendAsync(
        HttpMethod method,
        string path,
        string? bearer,
        HttpContent? content = null,
        params (string Name, string Value)[] headers
    )
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        if (bearer is not null)
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", bearer);
        }

        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return await Client.SendAsync(request, TestContext.Current.CancellationToken);
    }

    public async Task<HttpStatusCode> StatusAsync(HttpMethod method, string path, string? bearer)
    {
        using HttpResponseMessage response = await SendAsync(method, path, bearer);
        return response.StatusCode;
    }

    public static async Task<T> ReadAsync<T>(HttpResponseMessage response, HttpStatusCode expected)
    {
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode == expected, $"{response.StatusCode}: {body}");
        return JsonSerializer.Deserialize<T>(body, JsonSerializerOptions.Web)!;
    }

    /// <summary>Holds the answer against a problem's status and code.</summary>
    public static async Task<string> AssertProblemAsync(HttpResponseMessage response, int status, string code)
    {
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True((int)response.StatusCode == status, $"{response.StatusCode}: {body}");
        Assert.Equal("application/problem+json", response.Content.Headers.ContentType?.MediaType);
        using var problem = JsonDocument.Parse(body);
        Assert.Equal(code, problem.RootElement.GetProperty("code").GetString());
        return problem.RootElement.GetProperty("detail").GetString()!;
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.DisposeAsync();
    }
}

/// <summary>One database and one server for the tests of a class.</summary>
public sealed class IdentityFixture(Engines engines) : IAsyncLifetime
{
    private TestDatabase? _database;
    private IdentityHost? _host;

    internal TestDatabase Database => _database!;

    internal IdentityHost Host => _host!;

    public async ValueTask InitializeAsync()
    {
        _database = await engines.CloneAsync();
        _host = await IdentityHost.StartAsync(_database);
    }

    public async ValueTask DisposeAsync()
    {
        await _host!.DisposeAsync();
        await _database!.DisposeAsync();
    }
}
