using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json;
using UsageMonitor.Contracts;
using UsageMonitor.Server;
using Xunit;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>The whole server in process, as <c>usage-monitor serve</c> runs it, over a database of its own.</summary>
internal sealed class RunningServer : IAsyncDisposable
{
    public const string OperatorEmail = "operator@usage-monitor.example";
    public const string OperatorPassword = "the operator has a long password";

    private readonly TestDatabase _database;
    private readonly ServerHost _host;
    private readonly string _folder;
    private readonly bool _ownsDatabase;
    private Task<LoginResponse>? _operator;

    private RunningServer(TestDatabase database, bool ownsDatabase, ServerHost host, string folder)
    {
        (_database, _ownsDatabase, _host, _folder) = (database, ownsDatabase, host, folder);
        Client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false })
        {
            BaseAddress = host.Address,
        };
    }

    public HttpClient Client { get; }

    public IServiceProvider Services => _host.Services;

    /// <summary>The database behind it, for a test that breaks or looks behind the walls.</summary>
    public TestDatabase Database => _database;

    /// <param name="engines">The engines of the run.</param>
    /// <param name="settings">What is not as the default, such as <c>RateLimits:EventsPerSecondPerKey</c>.</param>
    public static async Task<RunningServer> StartAsync(Engines engines, params (string Key, string Value)[] settings)
    {
        TestDatabase database = await engines.CloneAsync();
        try
        {
            return await StartAsync(engines, database, ownsDatabase: true, settings);
        }
        catch
        {
            await database.DisposeAsync();
            throw;
        }
    }

    /// <summary>One of several over the same database, which stays when the server ends.</summary>
    public static Task<RunningServer> StartAsync(
        Engines engines,
        TestDatabase database,
        params (string Key, string Value)[] settings
    ) => StartAsync(engines, database, ownsDatabase: false, settings);

    /// <summary>Another instance over the same database and the same Redis.</summary>
    public Task<RunningServer> StartBesideAsync(Engines engines, params (string Key, string Value)[] settings) =>
        StartAsync(engines, _database, ownsDatabase: false, settings);

    private static async Task<RunningServer> StartAsync(
        Engines engines,
        TestDatabase database,
        bool ownsDatabase,
        (string Key, string Value)[] settings
    )
    {
        string folder = Directory.CreateTempSubdirectory("usage-monitor-server-").FullName;
        var given = new Dictionary<string, string?>
        {
            ["Port"] = "0",
            ["Data"] = folder,
            ["MasterKey"] = Convert.ToBase64String([.. Enumerable.Range(1, 32).Select(number => (byte)number)]),
            ["ConnectionStrings:Postgres"] = database.OwnerConnectionString.Replace(
                "Pooling=False",
                "Pooling=True",
                StringComparison.OrdinalIgnoreCase
            ),
            ["ConnectionStrings:Redis"] = engines.RedisConnectionString,
            ["RedisKeyPrefix"] = database.Name + ":", // the tests share a Redis, and their people have the same addresses
            ["USAGEMONITOR_OPERATOR_EMAIL"] = OperatorEmail,
            ["USAGEMONITOR_OPERATOR_PASSWORD"] = OperatorPassword,
            ["ProcessingWorkers"] = "1",
            ["Logging:LogLevel:Default"] = "Error",
        };
        foreach ((string key, string value) in settings)
        {
            given[key] = value;
        }

        try
        {
            return new RunningServer(
                database,
                ownsDatabase,
                await ServerHost.StartAsync(given, TestContext.Current.CancellationToken),
                folder
            );
        }
        catch
        {
            Directory.Delete(folder, recursive: true);
            throw;
        }
    }

    /// <summary>The operator, signed in once: checking a password is slow on purpose.</summary>
    public Task<LoginResponse> LoginOperatorAsync() =>
        LazyInitializer.EnsureInitialized(ref _operator, () => LoginAsync(OperatorEmail, OperatorPassword));

    public async Task<LoginResponse> LoginAsync(string email, string password)
    {
        using HttpResponseMessage response = await SendAsync(
            HttpMethod.Post,
            "/v1/auth/login",
            bearer: null,
            JsonContent.Create(new LoginRequest(email, password))
        );
        return await ReadAsync<LoginResponse>(response, HttpStatusCode.OK);
    }

    public async Task<HttpResponseMessage> SendAsync(
        HttpMethod method,
        string path,
        string? bearer,
        HttpContent? content = null
    )
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        request.Headers.Authorization = bearer is null ? null : new AuthenticationHeaderValue("Bearer", bearer);
        return await Client.SendAsync(request, TestContext.Current.CancellationToken);
    }

    public static async Task<T> ReadAsync<T>(HttpResponseMessage response, HttpStatusCode expected)
    {
        string body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(response.StatusCode == expected, $"{response.StatusCode}: {body}");
        return JsonSerializer.Deserialize<T>(body, JsonSerializerOptions.Web)!;
    }

    /// <summary>Holds the answer against a problem's status and code.</summary>
    /// <returns>Its detail.</returns>
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
        await _host.DisposeAsync();
        if (_ownsDatabase)
        {
            await _database.DisposeAsync();
        }

        Directory.Delete(_folder, recursive: true);
    }
}

/// <summary>One server for the tests of a class: each makes enterprises of its own.</summary>
public sealed class ServerFixture(Engines engines) : IAsyncLifetime
{
    internal RunningServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Server = await RunningServer.StartAsync(engines);

    public ValueTask DisposeAsync() => Server.DisposeAsync();
}
