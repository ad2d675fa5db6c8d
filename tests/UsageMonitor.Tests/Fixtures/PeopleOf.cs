using System.Net;
using System.Net.Http.Json;
using UsageMonitor.Contracts;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>What an admin does with people, over HTTP.</summary>
internal static class PeopleOf
{
    public const string Path = "/v1/admin/users";
    public const string Password = "seven quiet lanterns by the pier";

    public static string NewEmail() => $"person-{Guid.NewGuid():N}@acme.example";

    public static Task<HttpResponseMessage> InviteAsync(
        this RunningServer server,
        LoginResponse admin,
        string email,
        params string[] roles
    ) => server.PostAsync(Path, admin.AccessToken, new InviteUserRequest(email, null, roles));

    public static Task<HttpResponseMessage> PostAsync<T>(
        this RunningServer server,
        string path,
        string? bearer,
        T body
    ) => server.SendAsync(HttpMethod.Post, path, bearer, JsonContent.Create(body));

    public static Task<HttpResponseMessage> PutAsync<T>(
        this RunningServer server,
        string path,
        string? bearer,
        T body
    ) => server.SendAsync(HttpMethod.Put, path, bearer, JsonContent.Create(body));

    public static async Task<T> GetAsync<T>(this RunningServer server, string path, string bearer)
    {
        using HttpResponseMessage response = await server.SendAsync(HttpMethod.Get, path, bearer);
        return await RunningServer.ReadAsync<T>(response, HttpStatusCode.OK);
    }

    /// <summary>Invites a person, who accepts and signs in; on a server without mail, whose answer has the link.</summary>
    public static async Task<LoginResponse> JoinAsync(
        this RunningServer server,
        LoginResponse admin,
        params string[] roles
    )
    {
        string email = NewEmail();
        using HttpResponseMessage invited = await server.InviteAsync(admin, email, roles);
        SentLinkResponse sent = await RunningServer.ReadAsync<SentLinkResponse>(invited, HttpStatusCode.Created);
        using HttpResponseMessage accepted = await server.AcceptAsync(SmtpServer.TokenIn(sent.Link!));
        await EnsureAsync(accepted, HttpStatusCode.NoContent);
        return await server.LoginAsync(email, Password);
    }

    public static Task<HttpResponseMessage> AcceptAsync(
        this RunningServer server,
        string token,
        string password = Password
    ) => server.PostAsync("/v1/auth/invitations/accept", null, new AcceptInvitationRequest(token, password));

    public static async Task<int> StatusAsync(this RunningServer server, HttpMethod method, string path, string? bearer)
    {
        using HttpResponseMessage response = await server.SendAsync(method, path, bearer);
        return (int)response.StatusCode;
    }

    public static async Task EnsureAsync(HttpResponseMessage response, HttpStatusCode expected)
    {
        string body = await response.Content.ReadAsStringAsync(Xunit.TestContext.Current.CancellationToken);
        Xunit.Assert.True(response.StatusCode == expected, $"{response.StatusCode}: {body}");
    }
}
