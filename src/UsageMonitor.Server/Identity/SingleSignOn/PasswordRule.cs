using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity.SingleSignOn;

/// <summary>Who may use a password in an enterprise that signs in by its own provider.</summary>
internal static class PasswordRule
{
    /// <summary>
    /// Where password sign-in is off, an EnterpriseAdmin may still get in with one, so that a provider that is down or was
    /// set up wrong does not shut out who could mend it (and an operator, who has no provider). A password alone is not enough
    /// then: see <see cref="NeedsSecondFactor"/>.
    /// </summary>
    public static bool Allows(EnterpriseInfo enterprise, IEnumerable<string> roles) =>
        enterprise.PasswordSignIn
        || roles.Any(role => role is RolePermissions.EnterpriseAdmin or RolePermissions.Operator);

    /// <summary>Whether whoever signs in with a password must show a second factor before they may do anything.</summary>
    public static bool NeedsSecondFactor(EnterpriseInfo enterprise) =>
        enterprise.SecondFactorRequired || !enterprise.PasswordSignIn;
}
