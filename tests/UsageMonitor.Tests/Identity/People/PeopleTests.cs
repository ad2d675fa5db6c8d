using System.Net;
using Npgsql;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Identity.People;

/// <summary>Who may do what to whom, on a server without mail, whose answers have the links.</summary>
public sealed class PeopleTests(ServerFixture fixture, Engines engines) : IClassFixture<ServerFixture>
{
    private const string Manager = "PeopleManager";

    private RunningServer Server => fixture.Server;

    [Fact]
    public async Task Change_WhenThePersonMayDoMoreThanTheCaller_ShouldBeRefused()
    {
        Acme acme = await Acme.CreateAsync(Server);
        await MakeRoleAsync(acme, Manager, Permissions.PeopleRead, Permissions.PeopleWrite);
        await Server.JoinAsync(acme.Admin, RolePermissions.EnterpriseAdmin);
        LoginResponse manager = await Server.JoinAsync(acme.Admin, Manager);
        string admin = Of(acme.Admin);
        UpdateUserRequest update = new(null, [RolePermissions.Employee], false);

        HttpResponseMessage[] refused =
        [
            await Server.PutAsync(admin, manager.AccessToken, update),
            await Server.SendAsync(HttpMethod.Delete, admin, manager.AccessToken),
            await Server.SendAsync(HttpMethod.Post, admin + "/password-reset", manager.AccessToken),
            await Server.SendAsync(HttpMethod.Post, admin + "/invitation", manager.AccessToken),
            await Server.SendAsync(HttpMethod.Delete, admin + "/sessions", manager.AccessToken),
            await Server.InviteAsync(manager, PeopleOf.NewEmail(), RolePermissions.EnterpriseAdmin),
            await Server.InviteAsync(manager, PeopleOf.NewEmail(), RolePermissions.Employee, RolePermissions.Analyst),
            await Server.PutAsync(
                Of(manager),
                manager.AccessToken,
                new UpdateUserRequest(null, [Manager, RolePermissions.EnterpriseAdmin], true)
            ),
        ];

        foreach (HttpResponseMessage response in refused)
        {
            await RunningServer.AssertProblemAsync(response, 403, "beyond_your_permissions");
        }

        Assert.Equal(200, await Server.StatusAsync(HttpMethod.Get, "/v1/auth/validate", acme.Admin.AccessToken));
        LoginResponse employee = await Server.JoinAsync(manager, RolePermissions.Employee);
        using HttpResponseMessage changed = await Server.PutAsync(Of(employee), manager.AccessToken, update);
        await PeopleOf.EnsureAsync(changed, HttpStatusCode.NoContent);
    }

    [Fact]
    public async Task Change_WhenItIsOneself_ShouldNotLockOneOut()
    {
        Acme acme = await Acme.CreateAsync(Server);
        await Server.JoinAsync(acme.Admin, RolePermissions.EnterpriseAdmin);
        string own = Of(acme.Admin);
        string token = acme.Admin.AccessToken;

        HttpResponseMessage[] refused =
        [
            await Server.PutAsync(own, token, new UpdateUserRequest(null, [RolePermissions.EnterpriseAdmin], false)),
            await Server.PutAsync(own, token, new UpdateUserRequest(null, [RolePermissions.Analyst], true)),
            await Server.SendAsync(HttpMethod.Delete, own, token),
            await Server.SendAsync(HttpMethod.Post, own + "/password-reset", token),
        ];

        foreach (HttpResponseMessage response in refused)
        {
            await RunningServer.AssertProblemAsync(response, 409, "own_account");
        }

        UpdateUserRequest rename = new("Ada", [RolePermissions.EnterpriseAdmin, RolePermissions.Analyst], true);
        using HttpResponseMessage renamed = await Server.PutAsync(own, token, rename);
        await PeopleOf.EnsureAsync(renamed, HttpStatusCode.NoContent);
        UserSummary person = await Server.GetAsync<UserSummary>(own, token);
        Assert.Equal("Ada", person.DisplayName);
        Assert.Equal([RolePermissions.Analyst, RolePermissions.EnterpriseAdmin], person.Roles);
    }

    [Fact]
    public async Task Change_WhenTwoAdminsRemoveEachOtherAtOnce_ShouldLeaveOne()
    {
        for (int round = 0; round < 3; round++)
        {
            Acme acme = await Acme.CreateAsync(Server);
            LoginResponse other = await Server.JoinAsync(acme.Admin, RolePermissions.EnterpriseAdmin);

            int[] answers = await Task.WhenAll(
                Server.StatusAsync(HttpMethod.Delete, Of(other), acme.Admin.AccessToken),
                Server.StatusAsync(HttpMethod.Delete, Of(acme.Admin), other.AccessToken)
            );

            Assert.Single(answers, 204);
            Assert.Contains(answers, status => status is 401 or 409);
        }
    }

    [Fact]
    public async Task Change_WhenTheLastAdminWouldGo_ShouldBeRefused()
    {
        Acme acme = await Acme.CreateAsync(Server);
        LoginResponse other = await Server.JoinAsync(acme.Admin, RolePermissions.EnterpriseAdmin);

        // Admins who were only invited do not count: nobody knows whether they will ever come.
        using HttpResponseMessage invited = await Server.InviteAsync(
            acme.Admin,
            PeopleOf.NewEmail(),
            RolePermissions.EnterpriseAdmin
        );
        await PeopleOf.EnsureAsync(invited, HttpStatusCode.Created);

        // One who may do as much as an admin, but is none.
        await MakeRoleAsync(acme, "Almost", RolePermissions.BuiltIn[RolePermissions.EnterpriseAdmin]);
        LoginResponse almost = await Server.JoinAsync(acme.Admin, "Almost");
        Assert.Equal(204, await Server.StatusAsync(HttpMethod.Delete, Of(other), almost.AccessToken));

        HttpResponseMessage[] refused =
        [
            await Server.SendAsync(HttpMethod.Delete, Of(acme.Admin), almost.AccessToken),
            await Server.PutAsync(
                Of(acme.Admin),
                almost.AccessToken,
                new UpdateUserRequest(null, [RolePermissions.EnterpriseAdmin], false)
            ),
            await Server.PutAsync(Of(acme.Admin), almost.AccessToken, new UpdateUserRequest(null, [], true)),
        ];

        foreach (HttpResponseMessage response in refused)
        {
            await RunningServer.AssertProblemAsync(response, 409, "last_admin");
        }

        Assert.Equal(200, await Server.StatusAsync(HttpMethod.Get, Of(acme.Admin), acme.Admin.AccessToken));
    }

    [Fact]
    public async Task Roles_WhenTheyAreUnknownOrOfThePlatform_ShouldBeA400()
    {
        Acme acme = await Acme.CreateAsync(Server);
        LoginResponse anOperator = await Server.LoginOperatorAsync();
        (LoginResponse Who, string Role)[] wrong =
        [
            (acme.Admin, "Nonsense"),
            (acme.Admin, RolePermissions.Operator),
            (acme.Admin, "employee"),
            (anOperator, RolePermissions.EnterpriseAdmin),
            (anOperator, RolePermissions.Employee),
        ];

        foreach ((LoginResponse who, string role) in wrong)
        {
            using HttpResponseMessage invited = await Server.InviteAsync(who, PeopleOf.NewEmail(), role);
            await RunningServer.AssertProblemAsync(invited, 400, "unknown_role");
        }

        LoginResponse second = await Server.JoinAsync(anOperator, RolePermissions.Operator);
        Assert.Null(second.User.EnterpriseId);
        Assert.Equal(204, await Server.StatusAsync(HttpMethod.Delete, Of(second), anOperator.AccessToken));
    }

    [Fact]
    public async Task Person_WhenOfAnotherEnterprise_ShouldBeAnsweredLikeOneWhoDoesNotExist()
    {
        Acme acme = await Acme.CreateAsync(Server);
        Acme other = await Acme.CreateAsync(Server);
        Guid session = (await Server.GetAsync<UserSession[]>(Of(other.Admin) + "/sessions", other.Admin.AccessToken))[
            0
        ].SessionId;
        (HttpMethod Method, string Path, object? Body)[] requests =
        [
            (HttpMethod.Get, "", null),
            (HttpMethod.Put, "", new UpdateUserRequest(null, [RolePermissions.Employee], false)),
            (HttpMethod.Delete, "", null),
            (HttpMethod.Post, "/invitation", null),
            (HttpMethod.Post, "/password-reset", null),
            (HttpMethod.Get, "/sessions", null),
            (HttpMethod.Delete, "/sessions", null),
            (HttpMethod.Delete, $"/sessions/{session}", null),
        ];

        foreach ((HttpMethod method, string path, object? body) in requests)
        {
            string[] answers = [await AnswerAsync(other.Admin.User.UserId), await AnswerAsync(Guid.NewGuid())];
            Assert.StartsWith("404 ", answers[0], StringComparison.Ordinal);
            Assert.Equal(answers[1], answers[0]);

            async Task<string> AnswerAsync(Guid userId)
            {
                using HttpContent? content = body is null ? null : System.Net.Http.Json.JsonContent.Create(body);
                using HttpResponseMessage response = await Server.SendAsync(
                    method,
                    $"{PeopleOf.Path}/{userId}{path}",
                    acme.Admin.AccessToken,
                    content
                );
                string text = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
                int traced = text.IndexOf(",\"traceId\"", StringComparison.Ordinal);
                return $"{(int)response.StatusCode} {(traced < 0 ? text : text[..traced])}";
            }
        }

        Assert.Equal(200, await Server.StatusAsync(HttpMethod.Get, Of(other.Admin), other.Admin.AccessToken));
    }

    [Fact]
    public async Task Update_WhenAPersonIsDeactivatedOrLosesARole_ShouldBeSoOnEveryInstance()
    {
        await using RunningServer second = await RunningServer.StartAsync(
            engines,
            ("ConnectionStrings:Postgres", Server.Database.OwnerConnectionString)
        );
        Acme acme = await Acme.CreateAsync(Server);
        LoginResponse person = await Server.JoinAsync(acme.Admin, RolePermissions.Auditor);
        LoginResponse there = await second.LoginAsync(person.User.Email, PeopleOf.Password);
        Assert.Equal(200, await second.StatusAsync(HttpMethod.Get, PeopleOf.Path, there.AccessToken));

        using HttpResponseMessage demoted = await Server.PutAsync(
            Of(person),
            acme.Admin.AccessToken,
            new UpdateUserRequest(null, [RolePermissions.Employee], true)
        );
        await PeopleOf.EnsureAsync(demoted, HttpStatusCode.NoContent);
        await BecomesAsync(403);
        using HttpResponseMessage off = await Server.PutAsync(
            Of(person),
            acme.Admin.AccessToken,
            new UpdateUserRequest(null, [RolePermissions.Employee], false)
        );
        await PeopleOf.EnsureAsync(off, HttpStatusCode.NoContent);
        await BecomesAsync(401);

        using HttpResponseMessage refresh = await second.PostAsync(
            "/v1/auth/refresh",
            null,
            new RefreshRequest(there.RefreshToken)
        );
        await RunningServer.AssertProblemAsync(refresh, 401, "invalid_token");
        using HttpResponseMessage login = await second.PostAsync(
            "/v1/auth/login",
            null,
            new LoginRequest(person.User.Email, PeopleOf.Password)
        );
        await RunningServer.AssertProblemAsync(login, 401, "invalid_credentials");
        using HttpResponseMessage on = await Server.PutAsync(
            Of(person),
            acme.Admin.AccessToken,
            new UpdateUserRequest(null, [RolePermissions.Employee], true)
        );
        await PeopleOf.EnsureAsync(on, HttpStatusCode.NoContent);
        await second.LoginAsync(person.User.Email, PeopleOf.Password);
        Assert.Equal(401, await second.StatusAsync(HttpMethod.Get, PeopleOf.Path, there.AccessToken));

        Task BecomesAsync(int status) =>
            Eventually.TrueAsync(
                async () => await second.StatusAsync(HttpMethod.Get, PeopleOf.Path, there.AccessToken) == status,
                $"{status} on the other instance"
            );
    }

    [Fact]
    public async Task Remove_WhenDone_ShouldForgetThePersonAndKeepTheirUsage()
    {
        Acme acme = await Acme.CreateAsync(Server);
        LoginResponse person = await Server.JoinAsync(acme.Admin, RolePermissions.Auditor);

        Assert.Equal(204, await Server.StatusAsync(HttpMethod.Delete, Of(person), acme.Admin.AccessToken));

        Assert.Equal(401, await Server.StatusAsync(HttpMethod.Get, "/v1/auth/validate", person.AccessToken));
        Assert.Equal(404, await Server.StatusAsync(HttpMethod.Get, Of(person), acme.Admin.AccessToken));
        Assert.Equal(
            "1|0|0",
            await ScalarAsync(
                """
                SELECT count(*) || '|' || count(coalesce(email, email_hash, display_name)) || '|' || count(password_hash)
                FROM users WHERE user_id = $1
                """,
                person.User.UserId
            )
        );
        using HttpResponseMessage again = await Server.InviteAsync(
            acme.Admin,
            person.User.Email,
            RolePermissions.Employee
        );
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(again, HttpStatusCode.Created);
        Assert.Equal(person.User.UserId, sent.UserId);
        using HttpResponseMessage accepted = await Server.AcceptAsync(SmtpServer.TokenIn(sent.Link!));
        await PeopleOf.EnsureAsync(accepted, HttpStatusCode.NoContent);
        LoginResponse back = await Server.LoginAsync(person.User.Email, PeopleOf.Password);
        Assert.Equal([RolePermissions.Employee], back.User.Roles);
    }

    [Fact]
    public async Task List_WhenReadPageByPage_ShouldHaveEverybodyOnce()
    {
        Acme acme = await Acme.CreateAsync(Server);
        var invited = new List<string> { acme.Admin.User.Email };
        for (int i = 0; i < 5; i++)
        {
            string email = PeopleOf.NewEmail();
            using HttpResponseMessage one = await Server.InviteAsync(acme.Admin, email, RolePermissions.Analyst);
            await PeopleOf.EnsureAsync(one, HttpStatusCode.Created);
            invited.Add(email);
        }

        var listed = new List<string>();
        string? cursor = null;
        do
        {
            UserPage page = await Server.GetAsync<UserPage>(
                $"{PeopleOf.Path}?limit=2{(cursor is null ? "" : "&cursor=" + cursor)}",
                acme.Admin.AccessToken
            );
            Assert.InRange(page.Users.Count, 1, 2);
            listed.AddRange(page.Users.Select(person => person.Email));
            cursor = page.Next;
        } while (cursor is not null);

        Assert.Equal(invited, listed);
        foreach (string wrong in new[] { "limit=0", "limit=201", "cursor=x!", "limit=x", "cursor=", "role=%00" })
        {
            Assert.Equal(
                400,
                await Server.StatusAsync(HttpMethod.Get, $"{PeopleOf.Path}?{wrong}", acme.Admin.AccessToken)
            );
        }

        UserPage admins = await Server.GetAsync<UserPage>(
            $"{PeopleOf.Path}?role={RolePermissions.EnterpriseAdmin}",
            acme.Admin.AccessToken
        );
        Assert.Equal([acme.Admin.User.Email], admins.Users.Select(person => person.Email));
        UserPage nobody = await Server.GetAsync<UserPage>(
            $"{PeopleOf.Path}?email={RunningServer.OperatorEmail}",
            acme.Admin.AccessToken
        );
        Assert.Empty(nobody.Users);
    }

    [Fact]
    public async Task Sessions_WhenOneIsEnded_ShouldEndThatOneOnly()
    {
        Acme acme = await Acme.CreateAsync(Server);
        LoginResponse first = await Server.JoinAsync(acme.Admin, RolePermissions.Analyst);
        LoginResponse second = await Server.LoginAsync(first.User.Email, PeopleOf.Password);
        string sessions = Of(first) + "/sessions";
        UserSession[] listed = await Server.GetAsync<UserSession[]>(sessions, acme.Admin.AccessToken);
        Assert.Equal(2, listed.Length);
        Assert.All(listed, session => Assert.Equal(("password", "127.0.0.1"), (session.Method, session.Address)));

        string newest = $"{sessions}/{listed[0].SessionId}";
        Assert.Equal(204, await Server.StatusAsync(HttpMethod.Delete, newest, acme.Admin.AccessToken));
        Assert.Equal(204, await Server.StatusAsync(HttpMethod.Delete, newest, acme.Admin.AccessToken));
        Assert.Equal(401, await Server.StatusAsync(HttpMethod.Get, "/v1/auth/validate", second.AccessToken));
        Assert.Equal(200, await Server.StatusAsync(HttpMethod.Get, "/v1/auth/validate", first.AccessToken));

        Assert.Equal(204, await Server.StatusAsync(HttpMethod.Delete, sessions, acme.Admin.AccessToken));
        Assert.Equal(401, await Server.StatusAsync(HttpMethod.Get, "/v1/auth/validate", first.AccessToken));
        Assert.Empty(await Server.GetAsync<UserSession[]>(sessions, acme.Admin.AccessToken));
        UserSession[] own = await Server.GetAsync<UserSession[]>(Of(acme.Admin) + "/sessions", acme.Admin.AccessToken);
        Assert.True(Assert.Single(own).IsCurrent);
    }

    private static string Of(LoginResponse person) => $"{PeopleOf.Path}/{person.User.UserId}";

    private Task<object?> MakeRoleAsync(Acme acme, string role, params string[] permissions) =>
        ScalarAsync(
            """
            WITH made AS (INSERT INTO roles VALUES ($1, $2, '', now(), now()))
            INSERT INTO role_permissions SELECT $1, $2, unnest($3)
            """,
            acme.EnterpriseId,
            role,
            permissions
        );

    private async Task<object?> ScalarAsync(string sql, params object[] parameters)
    {
        await using var owner = NpgsqlDataSource.Create(Server.Database.OwnerConnectionString);
        await using NpgsqlCommand command = owner.CreateCommand(sql);
        foreach (object parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        return await command.ExecuteScalarAsync(TestContext.Current.CancellationToken);
    }
}
