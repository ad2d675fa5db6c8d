using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Audit;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Audit;

/// <summary>Reading, exporting and checking of the log over HTTP and offline.</summary>
public sealed class AuditApiTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Password = "an admin's long password";

    private static CancellationToken CancellationToken => TestContext.Current.CancellationToken;

    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task List_WhenAnAdminHasActed_ShouldTellWhoDidWhatFromWhere()
    {
        LoginResponse admin = await AdminAsync();
        CreateApiKeyResponse key = await MakeKeyAsync(admin, "the first");

        AuditEntryResponse entry = Assert.Single(
            await ListAsync(admin, $"?action=api_key.created&targetId={key.ApiKeyId}")
        );

        Assert.Equal(
            ("USER", admin.User.UserId, "DONE", "api_key"),
            (entry.ActorKind, entry.ActorId, entry.Outcome, entry.TargetKind)
        );
        Assert.NotNull(entry.RequestId);
        Assert.Equal("the first", entry.Content!.Value.GetProperty("after").GetProperty("name").GetString());
        Assert.False(string.IsNullOrEmpty(entry.Content.Value.GetProperty("address").GetString()));
        Assert.DoesNotContain(key.ApiKey, entry.Content.Value.GetRawText(), StringComparison.Ordinal);
        AuditEntryResponse one = await GetAsync<AuditEntryResponse>(admin, $"/v1/audit/{entry.Sequence}");
        Assert.Equal(entry.Hash, one.Hash);
    }

    [Fact]
    public async Task List_WhenPaged_ShouldComeToTheFirstEntryWithoutAGap()
    {
        LoginResponse admin = await AdminAsync();
        for (int number = 0; number < 5; number++)
        {
            await MakeKeyAsync(admin, $"key {number}");
        }

        var sequences = new List<long>();
        long? before = null;
        do
        {
            AuditListResponse page = await GetAsync<AuditListResponse>(admin, $"/v1/audit?limit=3&before={before}");
            sequences.AddRange(page.Entries.Select(entry => entry.Sequence));
            before = page.Next;
        } while (before is not null);

        Assert.Equal(Enumerable.Range(1, sequences.Count).Select(number => (long)number).Reverse(), sequences);
    }

    [Fact]
    public async Task SignIn_WhenItFails_ShouldBeToldWithoutTheAddress()
    {
        LoginResponse admin = await AdminAsync();
        using HttpResponseMessage wrong = await Server.SendAsync(
            HttpMethod.Post,
            "/v1/auth/login",
            null,
            JsonContent.Create(new LoginRequest(admin.User.Email, "not the password"))
        );
        Assert.Equal(HttpStatusCode.Unauthorized, wrong.StatusCode);

        AuditEntryResponse failed = Assert.Single(await ListAsync(admin, "?action=sign_in.failed"));
        Assert.Equal((admin.User.UserId.ToString(), "FAILED"), (failed.TargetId, failed.Outcome));
        Assert.DoesNotContain(admin.User.Email, failed.Content!.Value.GetRawText(), StringComparison.OrdinalIgnoreCase);
        Assert.NotEmpty(await ListAsync(admin, "?action=session.began"));
    }

    [Fact]
    public async Task Refusal_WhenItIsRepeated_ShouldBeWrittenOnceAMinute()
    {
        LoginResponse admin = await AdminAsync();
        string refused = "/v1/platform/keys";
        for (int number = 0; number < 3; number++)
        {
            using HttpResponseMessage answer = await Server.SendAsync(HttpMethod.Get, refused, admin.AccessToken);
            Assert.Equal(HttpStatusCode.Forbidden, answer.StatusCode);
        }

        AuditEntryResponse entry = Assert.Single(await ListAsync(admin, "?outcome=REFUSED"));
        Assert.Equal("access.refused", entry.Action);
        Assert.Equal(admin.User.UserId, entry.ActorId);
    }

    [Fact]
    public async Task Person_WhenTheirDataIsRead_ShouldBeToldOf()
    {
        LoginResponse admin = await AdminAsync();
        using HttpResponseMessage read = await Server.SendAsync(
            HttpMethod.Get,
            $"/v1/admin/users/{admin.User.UserId}",
            admin.AccessToken
        );
        Assert.Equal(HttpStatusCode.OK, read.StatusCode);

        AuditEntryResponse entry = Assert.Single(await ListAsync(admin, "?action=person.read"));
        Assert.Equal(admin.User.UserId.ToString(), entry.TargetId);
    }

    [Fact]
    public async Task Export_WhenVerifiedOffline_ShouldBeWholeAndNameWhatIsChanged()
    {
        LoginResponse admin = await AdminAsync();
        for (int number = 0; number < 6; number++)
        {
            await MakeKeyAsync(admin, $"key {number}");
        }

        string export = await ExportAsync(admin, "ndjson");
        string keys = await TextAsync(admin, "/v1/audit/keys");
        string[] lines = export.TrimEnd('\n').Split('\n');
        int first = Array.FindIndex(lines, line => line.Contains("\"type\":\"entry\"", StringComparison.Ordinal));
        int count = lines.Length - first;
        Assert.True(count > 6);

        AssertVerified(AuditCommand.ExitWhole, $"Whole: {count} entries, 1 to {count}", lines, keys);

        // Altered.
        string[] altered = [.. lines];
        altered[first + 3] = altered[first + 3].Replace("\"name\":\"", "\"name\":\"x", StringComparison.Ordinal);
        AssertVerified(AuditCommand.ExitFault, "ALTERED: What entry 4", altered, keys);

        // Removed, with the content of the line before left out too: the first is told.
        AssertVerified(
            AuditCommand.ExitFault,
            "REMOVED: Entry 3 is not there.",
            lines.Where((_, at) => at != first + 2),
            keys
        );

        // Put elsewhere.
        string[] reordered = [.. lines];
        (reordered[first + 1], reordered[first + 4]) = (reordered[first + 4], reordered[first + 1]);
        AssertVerified(AuditCommand.ExitFault, "REORDERED: Entry 2 is there", reordered, keys);

        // Put in.
        AssertVerified(AuditCommand.ExitFault, "INSERTED: There is more than one", [.. lines, lines[first + 2]], keys);

        // Cut off at the end.
        AssertVerified(AuditCommand.ExitFault, $"REMOVED: Entry {count - 1} is not there.", lines[..^2], keys);

        // A checkpoint of a key of one's own.
        AssertVerified(AuditCommand.ExitFault, "ALTERED: the checkpoint", lines, """{"keys":[]}""");
    }

    [Fact]
    public async Task Export_WhenTheEnterprisesKeyIsDestroyed_ShouldStillFollowTheChain()
    {
        LoginResponse admin = await AdminAsync();
        await MakeKeyAsync(admin, "a key");
        string[] lines = (await ExportAsync(admin, "ndjson")).TrimEnd('\n').Split('\n');
        string[] without =
        [
            .. lines.Select(line =>
            {
                AuditLine read = AuditLines.Read(line);
                return read.Entry is null
                    ? line
                    : AuditLines.Json(AuditLines.RecordOf(read) with { Salt = null, Content = null });
            }),
        ];

        AssertVerified(AuditCommand.ExitWhole, "Whole: ", without, null);
        Assert.DoesNotContain("a key", string.Join('\n', without), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("csv", "sequence,occurredAt,action")]
    [InlineData("cef", "CEF:0|UsageMonitor|UsageMonitor|1|")]
    public async Task Export_WhenInAnotherFormat_ShouldHaveALineForEachEntry(string format, string beginning)
    {
        LoginResponse admin = await AdminAsync();
        await MakeKeyAsync(admin, "=1+1 | a=b");

        string export = await ExportAsync(admin, format);

        Assert.StartsWith(beginning, export, StringComparison.Ordinal);
        Assert.Contains("api_key.created", export, StringComparison.Ordinal);
        Assert.NotEmpty(await ListAsync(admin, "?action=audit.exported"));
    }

    [Fact]
    public async Task Verify_WhenTheRowsAreTamperedWith_ShouldTellWhere()
    {
        LoginResponse admin = await AdminAsync();
        for (int number = 0; number < 4; number++)
        {
            await MakeKeyAsync(admin, $"key {number}");
        }

        AuditCheckpointResponse signed = await PostAsync<AuditCheckpointResponse>(
            admin,
            "/v1/audit/checkpoints",
            new { },
            HttpStatusCode.Created
        );
        AuditVerifyResponse whole = await PostAsync<AuditVerifyResponse>(
            admin,
            "/v1/audit/verify",
            new AuditVerifyRequest()
        );
        Assert.True(whole.IsWhole, whole.Fault?.Detail);
        Assert.Equal(signed.Sequence, whole.AnchoredTo);

        // Whoever may do everything cuts the end off, and says that it was always there.
        await OwnerAsync(
            $"DELETE FROM audit_log WHERE enterprise_id = '{admin.User.EnterpriseId}' AND sequence = {signed.Sequence}"
        );
        await OwnerAsync(
            $"""
            UPDATE audit_heads h SET sequence = l.sequence, hash = l.hash FROM audit_log l
            WHERE h.enterprise_id = '{admin.User.EnterpriseId}' AND l.enterprise_id = h.enterprise_id AND l.sequence = {signed.Sequence
                - 1}
            """
        );
        AuditVerifyResponse cut = await PostAsync<AuditVerifyResponse>(
            admin,
            "/v1/audit/verify",
            new AuditVerifyRequest(1, signed.Sequence)
        );

        Assert.Equal(("REMOVED", signed.Sequence), (cut.Fault!.Kind, cut.Fault.Sequence));
    }

    [Fact]
    public async Task Audit_WhenAnotherEnterpriseAsks_ShouldShowOnlyItsOwn()
    {
        LoginResponse one = await AdminAsync();
        LoginResponse other = await AdminAsync();
        await MakeKeyAsync(one, "only mine");

        string seen = await ExportAsync(other, "ndjson");

        Assert.DoesNotContain(one.User.EnterpriseId!.Value.ToString(), seen, StringComparison.Ordinal);
        Assert.DoesNotContain("only mine", seen, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Checkpoints_WhenTheHourIsOver_ShouldBeSignedForChainsThatHaveGrown()
    {
        LoginResponse admin = await AdminAsync();
        var service = ActivatorUtilities.CreateInstance<CheckpointService>(Server.Services);

        Assert.True(await service.RunAsync(CancellationToken) > 0);

        AuditCheckpointListResponse signed = await GetAsync<AuditCheckpointListResponse>(
            admin,
            "/v1/audit/checkpoints"
        );
        Assert.Single(signed.Checkpoints);
        AuditKeysResponse keys = await GetAsync<AuditKeysResponse>(admin, "/v1/audit/keys");
        JsonElement key = keys.Keys.Single(jwk => jwk.GetProperty("kid").GetString() == signed.Checkpoints[0].KeyId);
        Assert.Equal(signed.Checkpoints[0].Hash, CheckpointSignature.Read(signed.Checkpoints[0].Jws, key)!.Hash);
        Assert.Null(CheckpointSignature.Read(signed.Checkpoints[0].Jws[..^4] + "AAAA", key));
    }

    private static void AssertVerified(int exit, string beginning, IEnumerable<string> lines, string? keys)
    {
        string file = Path.GetTempFileName();
        string keyFile = Path.GetTempFileName();
        try
        {
            File.WriteAllLines(file, lines);
            File.WriteAllText(keyFile, keys);
            using var output = new StringWriter();
            int found = AuditCommand.Run(file, keys is null ? null : keyFile, output, output);
            Assert.StartsWith(beginning, output.ToString(), StringComparison.Ordinal);
            Assert.Equal(exit, found);
        }
        finally
        {
            File.Delete(file);
            File.Delete(keyFile);
        }
    }

    private async Task<LoginResponse> AdminAsync()
    {
        string email = $"admin-{Guid.NewGuid():N}@example.com";
        LoginResponse anOperator = await Server.LoginOperatorAsync();
        using HttpResponseMessage made = await Server.SendAsync(
            HttpMethod.Post,
            "/v1/platform/enterprises",
            anOperator.AccessToken,
            JsonContent.Create(new CreateEnterpriseRequest("Example Ltd", "Asia/Kolkata", email, Password))
        );
        await RunningServer.ReadAsync<CreateEnterpriseResponse>(made, HttpStatusCode.Created);
        return await Server.LoginAsync(email, Password);
    }

    private async Task<CreateApiKeyResponse> MakeKeyAsync(LoginResponse admin, string name) =>
        await PostAsync<CreateApiKeyResponse>(
            admin,
            "/v1/admin/api-keys",
            new CreateApiKeyRequest(name, ["usage:write"]),
            HttpStatusCode.Created
        );

    private async Task<IReadOnlyList<AuditEntryResponse>> ListAsync(LoginResponse admin, string query) =>
        (await GetAsync<AuditListResponse>(admin, "/v1/audit" + query)).Entries;

    private async Task<T> GetAsync<T>(LoginResponse admin, string path)
    {
        using HttpResponseMessage response = await Server.SendAsync(HttpMethod.Get, path, admin.AccessToken);
        return await RunningServer.ReadAsync<T>(response, HttpStatusCode.OK);
    }

    private async Task<T> PostAsync<T>(
        LoginResponse admin,
        string path,
        object body,
        HttpStatusCode expected = HttpStatusCode.OK
    )
    {
        using HttpResponseMessage response = await Server.SendAsync(
            HttpMethod.Post,
            path,
            admin.AccessToken,
            JsonContent.Create(body)
        );
        return await RunningServer.ReadAsync<T>(response, expected);
    }

    private Task<string> ExportAsync(LoginResponse admin, string format) =>
        TextAsync(admin, $"/v1/audit/export?format={format}");

    private async Task<string> TextAsync(LoginResponse admin, string path)
    {
        using HttpResponseMessage response = await Server.SendAsync(HttpMethod.Get, path, admin.AccessToken);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        return await response.Content.ReadAsStringAsync(CancellationToken);
    }

    private async Task OwnerAsync(string sql)
    {
        await using var owner = new NpgsqlConnection(Server.Database.OwnerConnectionString);
        await owner.OpenAsync(CancellationToken);
        await using var command = new NpgsqlCommand(sql, owner);
        await command.ExecuteNonQueryAsync(CancellationToken);
    }
}
