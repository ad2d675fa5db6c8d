using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Audit;
using UsageMonitor.Tests.Alerts;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Audit;

/// <summary>Streaming to receivers that are real: what they were told is the chain, whatever failed in between.</summary>
public sealed class AuditStreamingTests(Engines engines)
{
    private const string Password = "an admin's long password";
    private static readonly (string, string) s_allowPrivate = ("Webhooks:AllowPrivateAddresses", "true");

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Webhook_WhenItFailsAndTheServerRestarts_ShouldBeToldEverythingInOrder()
    {
        await using TestDatabase database = await engines.CloneAsync();
        await using WebhookReceiver receiver = await WebhookReceiver.StartAsync();
        Guid enterpriseId;
        string secret;
        await using (RunningServer server = await RunningServer.StartAsync(engines, database, s_allowPrivate))
        {
            LoginResponse admin = await AdminAsync(server);
            enterpriseId = admin.User.EnterpriseId!.Value;
            AuditDestinationSecretResponse made = await PostAsync<AuditDestinationSecretResponse>(
                server,
                admin,
                "/v1/audit/destinations",
                new AuditDestinationRequest("the SIEM", "WEBHOOK", receiver.Url),
                HttpStatusCode.Created
            );
            secret = made.Secret!;
            Assert.DoesNotContain("a-secret-token", made.Destination.Address, StringComparison.Ordinal);
            await PostAsync<AuditDestinationResponse>(
                server,
                admin,
                $"/v1/audit/destinations/{made.Destination.DestinationId}/replay",
                new AuditReplayRequest(1)
            );
            await EventuallyAsync(server, database, enterpriseId);
            receiver.Answer = context =>
            {
                context.Response.StatusCode = 503;
                return Task.CompletedTask;
            };
            await MakeKeysAsync(server, admin, 5);
            await Eventually.TrueAsync(
                () => receiver.Posts.Any(post => post.Body.Contains("api_key.created", StringComparison.Ordinal)),
                "the receiver is asked"
            );
        }

        // What was refused before the end is sent again after it.
        receiver.Answer = context =>
        {
            context.Response.StatusCode = 204;
            return Task.CompletedTask;
        };
        await using (RunningServer server = await RunningServer.StartAsync(engines, database, s_allowPrivate))
        {
            await OwnerAsync(database, "UPDATE audit_destinations SET next_attempt_at = now()");
            await EventuallyAsync(server, database, enterpriseId);
        }

        Assert.All(receiver.Posts, post => Assert.True(post.IsSignedBy(secret)));
        List<AuditRecord> told =
        [
            .. receiver
                .Posts.SelectMany(post =>
                    JsonDocument.Parse(post.Body).RootElement.GetProperty("entries").EnumerateArray().ToArray()
                )
                .Select(entry => AuditLines.RecordOf(AuditLines.Read(entry.GetRawText()))),
        ];
        AssertWhole(told);
    }

    [Fact]
    public async Task Syslog_WhenTheReceiverEndsInTheMiddle_ShouldBeToldEverythingOverTls()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines, s_allowPrivate);
        using var certificate = new TestCertificate("syslog");
        await using var receiver = new SyslogReceiver(certificate);
        LoginResponse admin = await AdminAsync(server);
        receiver.BreaksOff = true;
        AuditDestinationSecretResponse made = await PostAsync<AuditDestinationSecretResponse>(
            server,
            admin,
            "/v1/audit/destinations",
            new AuditDestinationRequest(
                "syslog",
                "SYSLOG",
                $"127.0.0.1:{receiver.Port}",
                Certificate: certificate.Root.ExportCertificatePem()
            ),
            HttpStatusCode.Created
        );
        await PostAsync<AuditDestinationResponse>(
            server,
            admin,
            $"/v1/audit/destinations/{made.Destination.DestinationId}/replay",
            new AuditReplayRequest(1)
        );
        await MakeKeysAsync(server, admin, 3);
        await Eventually.TrueAsync(() => receiver.Connections > 0, "the receiver is asked");
        receiver.BreaksOff = false;
        await EventuallyAsync(server, server.Database, admin.User.EnterpriseId!.Value);

        List<AuditRecord> told =
        [
            .. receiver.Messages.Select(message =>
            {
                Assert.StartsWith("<110>1 ", message, StringComparison.Ordinal);
                Assert.Contains("[audit@32473 enterpriseId=", message, StringComparison.Ordinal);
                return AuditLines.RecordOf(
                    AuditLines.Read(message[(message.IndexOf('\uFEFF', StringComparison.Ordinal) + 1)..])
                );
            }),
        ];
        AssertWhole(told);
    }

    [Fact]
    public async Task Syslog_WhenItsCertificateIsAnothers_ShouldBeToldNothing()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines, s_allowPrivate);
        using var certificate = new TestCertificate("syslog");
        using var another = new TestCertificate("another");
        await using var receiver = new SyslogReceiver(certificate);
        LoginResponse admin = await AdminAsync(server);
        await PostAsync<AuditDestinationSecretResponse>(
            server,
            admin,
            "/v1/audit/destinations",
            new AuditDestinationRequest(
                "syslog",
                "SYSLOG",
                $"127.0.0.1:{receiver.Port}",
                Certificate: another.Root.ExportCertificatePem()
            ),
            HttpStatusCode.Created
        );
        await MakeKeysAsync(server, admin, 1);
        await Eventually.TrueAsync(async () => (await ListAsync(server, admin)).Single().Failures > 0, "it fails");

        Assert.Empty(receiver.Messages);
        Assert.Contains("certificate", (await ListAsync(server, admin)).Single().LastError, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Destination_WhenItIsInOnesOwnNetwork_ShouldNotBeGoneTo()
    {
        await using RunningServer server = await RunningServer.StartAsync(engines);
        using var certificate = new TestCertificate("syslog");
        await using var receiver = new SyslogReceiver(certificate);
        LoginResponse admin = await AdminAsync(server);
        await PostAsync<AuditDestinationSecretResponse>(
            server,
            admin,
            "/v1/audit/destinations",
            new AuditDestinationRequest("syslog", "SYSLOG", $"127.0.0.1:{receiver.Port}"),
            HttpStatusCode.Created
        );
        using HttpResponseMessage refused = await server.SendAsync(
            HttpMethod.Post,
            "/v1/audit/destinations",
            admin.AccessToken,
            JsonContent.Create(new AuditDestinationRequest("hook", "WEBHOOK", "http://127.0.0.1/"))
        );
        Assert.Equal(HttpStatusCode.BadRequest, refused.StatusCode);
        await Eventually.TrueAsync(async () => (await ListAsync(server, admin)).Single().Failures > 0, "it fails");

        Assert.Equal(0, receiver.Connections);
    }

    // Every entry at least once, and without the repeated ones the chain from its beginning.
    private static void AssertWhole(List<AuditRecord> told)
    {
        var verifier = new AuditVerifier([], from: 1);
        long last = 0;
        foreach (AuditRecord record in told)
        {
            Assert.True(record.Sequence <= last + 1, $"{record.Sequence} after {last}");
            if (record.Sequence == last + 1)
            {
                verifier.Add(record);
                last++;
            }
        }

        Assert.Null(verifier.End().Fault);
        Assert.True(last > 5);
    }

    private static async Task EventuallyAsync(RunningServer server, TestDatabase database, Guid enterpriseId) =>
        await Eventually.TrueAsync(
            async () =>
            {
                await OwnerAsync(database, "UPDATE audit_destinations SET next_attempt_at = now() WHERE failures > 0");
                await using var owner = new NpgsqlConnection(database.OwnerConnectionString);
                await owner.OpenAsync(CancellationToken);
                await using var command = new NpgsqlCommand(
                    "SELECT d.cursor_sequence >= h.sequence FROM audit_destinations d JOIN audit_heads h USING (enterprise_id) WHERE enterprise_id = $1",
                    owner
                );
                command.Parameters.Add(new NpgsqlParameter { Value = enterpriseId });
                return server.Services is not null && await command.ExecuteScalarAsync(CancellationToken) is true;
            },
            "everything is taken"
        );

    private static async Task OwnerAsync(TestDatabase database, string sql)
    {
        await using var owner = new NpgsqlConnection(database.OwnerConnectionString);
        await owner.OpenAsync(CancellationToken);
        await using var command = new NpgsqlCommand(sql, owner);
        await command.ExecuteNonQueryAsync(CancellationToken);
    }

    private static async Task<LoginResponse> AdminAsync(RunningServer server)
    {
        string email = $"admin-{Guid.NewGuid():N}@example.com";
        LoginResponse anOperator = await server.LoginOperatorAsync();
        using HttpResponseMessage made = await server.SendAsync(
            HttpMethod.Post,
            "/v1/platform/enterprises",
            anOperator.AccessToken,
            JsonContent.Create(new CreateEnterpriseRequest("Example Ltd", "Asia/Kolkata", email, Password))
        );
        await RunningServer.ReadAsync<CreateEnterpriseResponse>(made, HttpStatusCode.Created);
        return await server.LoginAsync(email, Password);
    }

    private static async Task MakeKeysAsync(RunningServer server, LoginResponse admin, int count)
    {
        for (int number = 0; number < count; number++)
        {
            await PostAsync<CreateApiKeyResponse>(
                server,
                admin,
                "/v1/admin/api-keys",
                new CreateApiKeyRequest($"key {number}", ["usage:write"]),
                HttpStatusCode.Created
            );
        }
    }

    private static async Task<IReadOnlyList<AuditDestinationResponse>> ListAsync(
        RunningServer server,
        LoginResponse admin
    )
    {
        using HttpResponseMessage response = await server.SendAsync(
            HttpMethod.Get,
            "/v1/audit/destinations",
            admin.AccessToken
        );
        return (await RunningServer.ReadAsync<AuditDestinationListResponse>(response, HttpStatusCode.OK)).Destinations;
    }

    private static async Task<T> PostAsync<T>(
        RunningServer server,
        LoginResponse admin,
        string path,
        object body,
        HttpStatusCode expected = HttpStatusCode.OK
    )
    {
        using HttpResponseMessage response = await server.SendAsync(
            HttpMethod.Post,
            path,
            admin.AccessToken,
            JsonContent.Create(body)
        );
        return await RunningServer.ReadAsync<T>(response, expected);
    }

    /// <summary>A syslog receiver over TLS that reads frames as RFC 5425 has them.</summary>
    private sealed class SyslogReceiver : IAsyncDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly SslStreamCertificateContext _certificate;
        private readonly CancellationTokenSource _ending = new();
        private readonly Task _accepting;
        private int _connections;

        public SyslogReceiver(TestCertificate certificate)
        {
            byte[] pfx = certificate.Pfx("x");
            X509Certificate2Collection all = X509CertificateLoader.LoadPkcs12Collection(pfx, "x");
            X509Certificate2 own = all.First(one => one.HasPrivateKey);
            _certificate = SslStreamCertificateContext.Create(own, all, offline: true);
            _listener.Start();
            _accepting = AcceptAsync();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public ConcurrentQueue<string> Messages { get; } = new();

        public int Connections => Volatile.Read(ref _connections);

        /// <summary>Ends connections after a message, without having read the rest.</summary>
        public volatile bool BreaksOff;

        public async ValueTask DisposeAsync()
        {
            await _ending.CancelAsync();
            _listener.Dispose();
            await _accepting.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            _ending.Dispose();
        }

        private async Task AcceptAsync()
        {
            while (!_ending.IsCancellationRequested)
            {
                using TcpClient client = await _listener.AcceptTcpClientAsync(_ending.Token);
                try
                {
                    await using var tls = new SslStream(client.GetStream());
                    await tls.AuthenticateAsServerAsync(
                        new SslServerAuthenticationOptions { ServerCertificateContext = _certificate },
                        _ending.Token
                    );
                    await ReadAsync(tls, client);
                }
                catch (Exception exception)
                    when (exception is IOException or System.Security.Authentication.AuthenticationException)
                {
                    // The other side has ended it.
                }
            }
        }

        private async Task ReadAsync(SslStream tls, TcpClient client)
        {
            while (true)
            {
                var length = new StringBuilder();
                byte[] one = new byte[1];
                while (await tls.ReadAsync(one, _ending.Token) == 1 && one[0] != ' ')
                {
                    length.Append((char)one[0]);
                }

                if (length.Length == 0)
                {
                    await tls.ShutdownAsync(); // everything is read: it answers the end with its own
                    Interlocked.Increment(ref _connections);
                    return;
                }

                byte[] message = new byte[int.Parse(length.ToString(), CultureInfo.InvariantCulture)];
                await tls.ReadExactlyAsync(message, _ending.Token);
                Messages.Enqueue(Encoding.UTF8.GetString(message));
                if (BreaksOff)
                {
                    client.LingerState = new LingerOption(true, 0);
                    client.Close();
                    Interlocked.Increment(ref _connections);
                    return;
                }
            }
        }
    }
}
