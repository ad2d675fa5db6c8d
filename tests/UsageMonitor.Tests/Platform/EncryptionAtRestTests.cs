using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using StackExchange.Redis;
using UsageMonitor.Contracts;
using UsageMonitor.Server;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Platform.Embedded;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Platform;

/// <summary>
/// Plants secrets in the whole server as people and programs would, and looks for them in everything that is kept: the
/// database's files with its write-ahead log, the log's segments, a dump of every table, the cache.
/// </summary>
public sealed partial class EncryptionAtRestTests : IDisposable
{
    private const string UserAgent = "Planted-Browser-Of-Zoe-7c1f93e2";
    private readonly string _root = Directory.CreateTempSubdirectory("usage-monitor-at-rest-").FullName;

    // A feature's name is counted and kept as it is: what is found of it tells that the search finds.
    private readonly string _feature = Marker("feature");
    private readonly List<(string Name, string Secret)> _secrets = [];

    private string Data => Path.Combine(_root, "data");

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public void Dispose() => PostgresSeed.Remove(_root, Data);

    [Fact]
    public async Task Everything_WhenWrittenToDisk_ShouldHoldNoSecretInClear()
    {
        var found = new List<string>();
        var controls = new List<string>();
        await using (ServerHost host = await StartAsync())
        {
            await PlantAsync(host);
            var search = new ClearTextSearch([.. _secrets, ("control", _feature)]);
            await Eventually.TrueAsync(
                () =>
                {
                    Report(SearchCache(host, search), found, controls);
                    return controls.Count > 0;
                },
                "the cache holds an answer with the feature's name"
            );
            await using var owner = NpgsqlDataSource.Create(OwnerConnectionString());

            // Twice: what was in memory when the first began is on disk, and in the log, after the second.
            await ExecuteAsync(owner, "CHECKPOINT");
            await ExecuteAsync(owner, "CHECKPOINT");
            Report(await SearchTablesAsync(owner, search), found, controls);
            Report(SearchFiles(search), found, controls);
        }

        // And what a stop leaves.
        Report(SearchFiles(new ClearTextSearch([.. _secrets, ("control", _feature)])), found, controls);
        Assert.True(found.Count == 0, string.Join('\n', found.Distinct()));

        Assert.Contains(controls, place => place.Contains("/base/", StringComparison.Ordinal));
        Assert.Contains(controls, place => place.Contains("/pg_wal/", StringComparison.Ordinal));
        Assert.Contains(controls, place => place.StartsWith("table usage_events", StringComparison.Ordinal));
        Assert.Equal(18, _secrets.Count);
    }

    [Theory]
    [InlineData("{0}")]
    [InlineData("before {0} after")]
    [InlineData("x{0}")]
    [InlineData("xx{0}yy")]
    public void Search_WhenASecretIsWrittenInAnyForm_ShouldFindIt(string around)
    {
        string secret = Marker("secret") + "@acme.example";
        var search = new ClearTextSearch([("secret", secret)]);
        byte[] text = Encoding.UTF8.GetBytes(string.Format(CultureInfo.InvariantCulture, around, secret));
        string file = Path.Combine(_root, "file");

        foreach (
            byte[] form in new[]
            {
                text,
                Encoding.Unicode.GetBytes(Encoding.UTF8.GetString(text)),
                Encoding.BigEndianUnicode.GetBytes(Encoding.UTF8.GetString(text)),
                Encoding.ASCII.GetBytes(Convert.ToHexString(text)),
                Encoding.ASCII.GetBytes(Convert.ToHexStringLower(text)),
                Encoding.ASCII.GetBytes(Convert.ToBase64String(text)),
                Encoding.ASCII.GetBytes(System.Buffers.Text.Base64Url.EncodeToString(text)),
            }
        )
        {
            Assert.NotEmpty(search.Find(form));

            // Across the border of two pieces.
            File.WriteAllBytes(file, [.. new byte[(4 * 1024 * 1024) - (form.Length / 2)], .. form, .. new byte[99]]);
            Assert.NotEmpty(search.FindInFile(file));
        }

        Assert.Empty(search.Find(Encoding.UTF8.GetBytes(Marker("secret") + "@acme.example")));
    }

    private static string Marker(string name) => $"{name}-{Guid.NewGuid():N}";

    private string Plant(string name, string secret)
    {
        _secrets.Add((name, secret));
        return secret;
    }

    private Task<ServerHost> StartAsync() =>
        ServerHost.StartAsync(
            new Dictionary<string, string?>
            {
                ["Port"] = "0",
                ["Data"] = Data,
                ["USAGEMONITOR_OPERATOR_EMAIL"] = Plant("operator's address", Marker("operator") + "@platform.example"),
                ["USAGEMONITOR_OPERATOR_PASSWORD"] = Plant("operator's password", Marker("operator's password")),
                ["ProcessingWorkers"] = "1",
                ["Logging:LogLevel:Default"] = "Error",
            },
            Cancelled
        );

    private async Task PlantAsync(ServerHost host)
    {
        using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false })
        {
            BaseAddress = host.Address,
        };
        client.DefaultRequestHeaders.UserAgent.ParseAdd(Plant("user agent", UserAgent));
        LoginResponse anOperator = await LoginAsync(client, _secrets[0].Secret, _secrets[1].Secret);
        string email = Plant("admin's address", Marker("admin") + "@acme.example");
        string password = Plant("admin's password", Marker("admin's password"));
        await PostAsync<CreateEnterpriseResponse>(
            client,
            "/v1/platform/enterprises",
            anOperator.AccessToken,
            new CreateEnterpriseRequest("Acme", "Asia/Kolkata", email, password)
        );
        LoginResponse admin = await LoginAsync(client, email, password);

        // Only the signature: what is before it, the claims, is no secret to whoever may read them, but the address in it is.
        Plant("access token", admin.AccessToken.Split('.')[2]);
        LoginResponse refreshed = await PostAsync<LoginResponse>(
            client,
            "/v1/auth/refresh",
            null,
            new RefreshRequest(admin.RefreshToken)
        );
        Plant("refresh token", refreshed.RefreshToken);
        CreateApiKeyResponse key = await PostAsync<CreateApiKeyResponse>(
            client,
            "/v1/admin/api-keys",
            admin.AccessToken,
            new CreateApiKeyRequest("a key", ["usage:write", "usage:read"])
        );
        Plant("API key", key.ApiKey);
        await PlantAccessAsync(client, admin.AccessToken);
        using (
            HttpResponseMessage refused = await client.PostAsJsonAsync(
                "/v1/auth/login",
                new LoginRequest(
                    Plant("invented sign-in address", Marker("nobody") + "@acme.example"),
                    "a wrong password"
                ),
                Cancelled
            )
        )
        {
            Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);
        }

        await SendEventsAsync(client, key.ApiKey);
        await SignInAsync(client, email, password); // and see the overview, whose numbers are cached for some seconds
    }

    private async Task PlantAccessAsync(HttpClient client, string admin)
    {
        string invited = Plant("invited person's address", Marker("invited") + "@acme.example");
        string name = Plant("invited person's name", Marker("Zoe"));
        SentLinkResponse link = await PostAsync<SentLinkResponse>(
            client,
            "/v1/admin/users",
            admin,
            new InviteUserRequest(invited, name, ["Employee"])
        );
        Plant("invitation's token", link.Link!.Split("token=")[1]);
        BeginTotpResponse totp = await PostAsync<BeginTotpResponse>(
            client,
            "/v1/me/second-factors/totp",
            admin,
            new { }
        );
        Plant("authenticator's secret", totp.Secret);
        await PostAsync<IdentityProviderResponse>(
            client,
            "/v1/admin/identity-providers",
            admin,
            new IdentityProviderRequest(
                "Acme",
                "https://login.acme.example",
                "usage-monitor",
                Plant("OpenID client's secret", Marker("client secret")),
                ["acme.example"]
            )
        );
    }

    private async Task SendEventsAsync(HttpClient client, string apiKey)
    {
        string property = Plant("property", Marker("property"));
        string userId = Plant("user id", Marker("user") + "@acme.example");
        IngestResponse answer = await PostAsync<IngestResponse>(
            client,
            "/v1/usage/events",
            apiKey,
            Enumerable
                .Range(0, 50)
                .Select(number => new UsageEvent(
                    userId,
                    _feature,
                    Guid.NewGuid(),
                    Properties: new JsonObject { [property] = number, ["value"] = property }
                ))
        );
        Assert.Equal(50, answer.Accepted);
        await Eventually.TrueAsync(
            async () => (await GetAsync<LedgerResponse>(client, "/v1/admin/usage/ledger", apiKey)).Total.Pending == 0,
            "the events are stored"
        );
    }

    private async Task SignInAsync(HttpClient client, string email, string password)
    {
        using HttpResponseMessage page = await client.GetAsync("/sign-in", Cancelled);
        string cookie = Assert.Single(page.Headers.GetValues("Set-Cookie")).Split(';')[0];
        Plant("form cookie", cookie.Split('=', 2)[1]);
        using var request = new HttpRequestMessage(HttpMethod.Post, "/sign-in")
        {
            Content = new FormUrlEncodedContent([
                new("email", email),
                new("password", password),
                new("_form", FormToken().Match(await page.Content.ReadAsStringAsync(Cancelled)).Groups[1].Value),
            ]),
        };
        request.Headers.Add("Cookie", cookie);
        request.Headers.Add("Sec-Fetch-Site", "same-origin");
        using HttpResponseMessage signedIn = await client.SendAsync(request, Cancelled);
        Assert.Equal(HttpStatusCode.SeeOther, signedIn.StatusCode);
        string session = Assert.Single(signedIn.Headers.GetValues("Set-Cookie")).Split(';')[0].Split('=', 2)[1];
        Plant("session cookie", session);
        using var overview = new HttpRequestMessage(HttpMethod.Get, "/");
        overview.Headers.Add("Cookie", $"um_session={session}");
        overview.Headers.Add("Accept", "text/html");
        using HttpResponseMessage shown = await client.SendAsync(overview, Cancelled);
        Assert.Equal(HttpStatusCode.OK, shown.StatusCode);
    }

    /// <summary>Every file of the data folder but the master key itself, and the empty one that we hold locked.</summary>
    private IEnumerable<(string Place, string What)> SearchFiles(ClearTextSearch search) =>
        Directory
            .EnumerateFiles(Data, "*", SearchOption.AllDirectories)
            .Where(path => Path.GetFileName(path) is not (MasterKeySource.FileName or ".lock"))
            .SelectMany(path => search.FindInFile(path).Select(what => (path[Data.Length..], what)));

    /// <summary>A dump: what pg_dump would write of each table, which is COPY's text, and its definition's defaults aside.</summary>
    private static async Task<List<(string Place, string What)>> SearchTablesAsync(
        NpgsqlDataSource owner,
        ClearTextSearch search
    )
    {
        await using NpgsqlConnection connection = await owner.OpenConnectionAsync(Cancelled);
        var tables = new List<string>();
        await using (
            var list = new NpgsqlCommand(
                """
                SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'm') AND (n.nspname NOT LIKE 'pg\_%' OR n.nspname = 'pg_catalog') AND n.nspname <> 'information_schema'
                """,
                connection
            )
        )
        await using (NpgsqlDataReader reader = await list.ExecuteReaderAsync(Cancelled))
        {
            while (await reader.ReadAsync(Cancelled))
            {
                tables.Add(reader.GetString(0));
            }
        }

        Assert.True(tables.Count(table => table.StartsWith("public.", StringComparison.Ordinal)) > 20);
        var found = new List<(string, string)>();
        foreach (string table in tables)
        {
            using TextReader copy = await connection.BeginTextExportAsync(
                $"COPY (SELECT * FROM {table}) TO STDOUT",
                Cancelled
            );
            byte[] text = Encoding.UTF8.GetBytes(await copy.ReadToEndAsync(Cancelled));
            string place = "table " + table.Replace("public.", "", StringComparison.Ordinal);
            found.AddRange(search.Find(text).Select(what => (place, what)));
        }

        return found;
    }

    private static List<(string Place, string What)> SearchCache(ServerHost host, ClearTextSearch search)
    {
        var found = new List<(string, string)>();
        IConnectionMultiplexer redis = host.Services.GetRequiredService<IConnectionMultiplexer>();
        IDatabase database = redis.GetDatabase();
        foreach (RedisKey key in redis.GetServer(redis.GetEndPoints()[0]).Keys(pattern: "*"))
        {
            byte[][] values =
                database.KeyType(key) == RedisType.Hash
                    ? [.. database.HashGetAll(key).SelectMany(entry => new byte[][] { entry.Name!, entry.Value! })]
                    : [database.StringGet(key)!];
            foreach (byte[] bytes in values.Append((byte[])key!))
            {
                found.AddRange(search.Find(bytes).Select(what => ($"cache {key}", what)));
            }
        }

        return found;
    }

    private static void Report(
        IEnumerable<(string Place, string What)> places,
        List<string> found,
        List<string> controls
    )
    {
        foreach ((string place, string what) in places)
        {
            (what.StartsWith("control", StringComparison.Ordinal) ? controls : found).Add($"{place}: {what}");
        }
    }

    private string OwnerConnectionString()
    {
        string[] postmaster = File.ReadAllLines(Path.Combine(Data, "postgres", "postmaster.pid"));
        return new NpgsqlConnectionStringBuilder
        {
            Host = postmaster[4],
            Username = "usage_monitor",
            Password = File.ReadAllText(Path.Combine(Data, "postgres.password")).Trim(),
            Database = EmbeddedPostgres.DatabaseName,
            Pooling = false,
        }.ConnectionString;
    }

    private static async Task ExecuteAsync(NpgsqlDataSource owner, string sql)
    {
        await using NpgsqlCommand command = owner.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(Cancelled);
    }

    private static Task<LoginResponse> LoginAsync(HttpClient client, string email, string password) =>
        PostAsync<LoginResponse>(client, "/v1/auth/login", null, new LoginRequest(email, password));

    private static async Task<T> PostAsync<T>(HttpClient client, string path, string? bearer, object body)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = JsonContent.Create(body) };
        request.Headers.Authorization = bearer is null ? null : new AuthenticationHeaderValue("Bearer", bearer);
        return await SendAsync<T>(client, request);
    }

    private static async Task<T> GetAsync<T>(HttpClient client, string path, string bearer)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", bearer);
        return await SendAsync<T>(client, request);
    }

    private static async Task<T> SendAsync<T>(HttpClient client, HttpRequestMessage request)
    {
        using HttpResponseMessage response = await client.SendAsync(request, Cancelled);
        Assert.True(
            response.IsSuccessStatusCode,
            $"{request.RequestUri}: {response.StatusCode} {await response.Content.ReadAsStringAsync(Cancelled)}"
        );
        return (await response.Content.ReadFromJsonAsync<T>(Cancelled))!;
    }

    [GeneratedRegex("name=\"_form\"[^>]*value=\"([^\"]+)\"")]
    private static partial Regex FormToken();
}
