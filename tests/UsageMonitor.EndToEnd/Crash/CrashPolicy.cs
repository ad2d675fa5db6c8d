using UsageMonitor.Contracts;
using UsageMonitor.EndToEnd.Fixtures;

namespace UsageMonitor.EndToEnd.Crash;

/// <summary>The policy that refuses a part of the load, so that refused attempts are accounted for under faults too.</summary>
internal static class CrashPolicy
{
    /// <summary>A gateway spreads them over the instances.</summary>
    private const int Questions = 20;

    /// <summary>Returns when every instance refuses.</summary>
    public static async Task ForbidAsync(Uri address, Tenant tenant)
    {
        using Api admin = await Api.SignInAsync(address, tenant.AdminEmail, tenant.AdminPassword);
        await admin.SendAsync<PolicyResponse>(
            HttpMethod.Post,
            "/v1/admin/policies",
            new PolicyRequest("Nobody", "FORBID", Features: [CrashEvent.ForbiddenFeature])
        );
        var question = new CheckRequest("somebody", CrashEvent.ForbiddenFeature);
        await Eventually.TrueAsync(
            async () =>
            {
                for (int asked = 0; asked < Questions; asked++)
                {
                    if ((await admin.SendAsync<CheckResponse>(HttpMethod.Post, "/v1/usage/check", question)).Allowed)
                    {
                        return false;
                    }
                }

                return true;
            },
            () => "the policy holds on every instance"
        );
    }
}
