using UsageMonitor.Contracts;

namespace UsageMonitor.Server.Identity;

/// <summary>What a key's data is processed for, and what allows it.</summary>
/// <param name="Purpose">In the enterprise's words, or null: not recorded.</param>
/// <param name="LegalBasis">One of <see cref="Bases"/>, or null: not recorded.</param>
internal readonly record struct ApiKeyPurpose(string? Purpose, string? LegalBasis)
{
    /// <summary>UTF-16 code units.</summary>
    public const int CharactersMax = 500;

    /// <summary>GDPR, Article 6 (1), (a) to (f); consent and the others stand for India's DPDP Act, sections 6 and 7, too.</summary>
    public static readonly IReadOnlyList<(string Code, string Label)> Bases =
    [
        (LegalBases.Consent, "Consent"),
        (LegalBases.Contract, "Contract"),
        (LegalBases.LegalObligation, "Legal obligation"),
        (LegalBases.VitalInterests, "Vital interests"),
        (LegalBases.PublicTask, "Public task"),
        (LegalBases.LegitimateInterests, "Legitimate interests"),
    ];

    /// <summary>As people read a code.</summary>
    public static string LabelOf(string? code) => Bases.FirstOrDefault(one => one.Code == code).Label ?? "not recorded";

    /// <returns>What is wrong, or null.</returns>
    public static string? Read(string? purpose, string? legalBasis, out ApiKeyPurpose read)
    {
        string text = purpose?.Trim() ?? "";
        read = new ApiKeyPurpose(text.Length == 0 ? null : text, legalBasis);
        return text.Length > CharactersMax || text.Any(c => char.IsControl(c) && c is not '\n' and not '\r')
                ? $"purpose may have {CharactersMax} characters at most, none of them a control character."
            : legalBasis is not null && !Bases.Any(one => one.Code == legalBasis)
                ? $"legalBasis must be one of {string.Join(", ", Bases.Select(one => one.Code))}."
            : null;
    }
}
