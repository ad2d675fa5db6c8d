using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using QRCoder;
using UsageMonitor.Contracts;
using UsageMonitor.Server.Identity.SecondFactors;
using UsageMonitor.Server.Platform;
using UsageMonitor.Server.Web.Components;

namespace UsageMonitor.Server.Web;

/// <summary><c>/account/second-factor</c>: people set their factors up and take them away; <c>/account/confirm</c>: they show who they are.</summary>
internal static class SecondFactorPages
{
    public const string Address = "/account/second-factor";
    public const string ConfirmAddress = "/account/confirm";
    private const int QrPixelsPerModule = 4;

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPage(
            Address,
            Permissions.SettingUp,
            (HttpContext context, OwnFactors factors) => ShowAsync(context, factors, new Shown())
        );
        routes.MapForm(
            Address + "/totp",
            Permissions.SettingUp,
            async (HttpContext context, OwnFactors factors, [FromForm] IFormCollection _) =>
                await EndAsync(context, factors, await factors.BeginTotpAsync(context))
        );
        routes.MapForm(
            Address + "/totp/confirm",
            Permissions.SettingUp,
            async (HttpContext context, OwnFactors factors, [FromForm] string? code) =>
                await EndAsync(context, factors, await factors.ConfirmTotpAsync(context, code))
        );
        routes.MapForm(
            Address + "/totp/remove",
            Permissions.Person,
            async (HttpContext context, OwnFactors factors, [FromForm] IFormCollection _) =>
                await EndAsync(context, factors, await factors.RemoveTotpAsync(context))
        );
        routes.MapForm(
            Address + "/recovery-codes",
            Permissions.Person,
            async (HttpContext context, OwnFactors factors, [FromForm] IFormCollection _) =>
                await EndAsync(context, factors, await factors.ReplaceRecoveryCodesAsync(context))
        );
        routes.MapForm(Address + "/passkeys", Permissions.SettingUp, AddPasskeyAsync);
        routes.MapForm(
            Address + "/passkeys/{passkeyId:guid}/remove",
            Permissions.Person,
            async (Guid passkeyId, HttpContext context, OwnFactors factors, [FromForm] IFormCollection _) =>
                await EndAsync(context, factors, await factors.RemovePasskeyAsync(context, passkeyId))
        );
        routes.MapPage(
            ConfirmAddress,
            Permissions.SettingUp,
            (HttpContext context, RecentProof proof, string? returnUrl) => AskAsync(context, proof, returnUrl, null)
        );
        routes.MapForm(ConfirmAddress, Permissions.SettingUp, ConfirmAsync);
    }

    /// <summary>Where a person shows once more who they are, and comes back from.</summary>
    public static string ConfirmThen(string address) => $"{ConfirmAddress}?returnUrl={Uri.EscapeDataString(address)}";

    /// <summary>A QR code as a picture in the page; the secret leaves for nowhere else.</summary>
    public static string QrCode(string uri)
    {
        using QRCodeData data = QRCodeGenerator.GenerateQrCode(uri, QRCodeGenerator.ECCLevel.M);
        using var code = new PngByteQRCode(data);
        return "data:image/png;base64," + Convert.ToBase64String(code.GetGraphic(QrPixelsPerModule));
    }

    private static async Task<IResult> AddPasskeyAsync(
        HttpContext context,
        OwnFactors factors,
        [FromForm] string? name,
        [FromForm] string? challenge,
        [FromForm] string? passkey
    )
    {
        var request = new AddPasskeyRequest(name, challenge, SignInEndpoints.Credential(passkey));
        return await EndAsync(context, factors, await factors.AddPasskeyAsync(context, request));
    }

    // What shows a secret is answered at once; all else leads back to the page, so that reloading repeats nothing.
    private static Task<IResult> EndAsync(HttpContext context, OwnFactors factors, IResult result)
    {
        // The page's own is stricter; ASP.NET warns of every header that it overrides.
        context.Response.Headers.Remove(Microsoft.Net.Http.Headers.HeaderNames.CacheControl);
        return result switch
        {
            ProblemHttpResult problem when FormOutcome.Code(problem) == "proof_required" => Task.FromResult(
                Pages.SeeOther(context, ConfirmThen(Address))
            ),
            ProblemHttpResult problem => ShowAsync(
                context,
                factors,
                new Shown(Error: FormOutcome.Sentence(problem), Status: problem.StatusCode)
            ),
            IValueHttpResult { Value: FactorAddedResponse { RecoveryCodes: { } codes } } => ShowAsync(
                context,
                factors,
                new Shown(codes, IsSetUp: true)
            ),
            IValueHttpResult { Value: RecoveryCodesResponse made } => ShowAsync(
                context,
                factors,
                new Shown(made.RecoveryCodes)
            ),
            _ => Task.FromResult(Pages.SeeOther(context, Address)),
        };
    }

    private static async Task<IResult> ShowAsync(HttpContext context, OwnFactors factors, Shown shown)
    {
        EnterpriseInfo enterprise = await context
            .RequestServices.GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        return new RazorComponentResult<SecondFactorPage>(
            new
            {
                Factors = await factors.DescribeAsync(context),
                Pending = await factors.PendingTotpAsync(context),
                shown.Codes,
                shown.Error,
                shown.IsSetUp,
                EnterpriseName = enterprise.Name,
                Formats = Formats.For(context.Request, enterprise.TimeZone),
            }
        )
        {
            StatusCode = shown.Status,
        };
    }

    private static async Task<IResult> AskAsync(
        HttpContext context,
        RecentProof proof,
        string? returnUrl,
        ProblemHttpResult? problem
    )
    {
        EnterpriseInfo enterprise = await context
            .RequestServices.GetRequiredService<EnterpriseDirectory>()
            .OfCallerAsync(context, context.RequestAborted);
        return new RazorComponentResult<ConfirmPage>(
            new
            {
                Methods = await proof.MethodsAsync(context),
                ReturnUrl = Pages.LocalOrHome(returnUrl),
                EnterpriseName = enterprise.Name,
                Error = problem is null ? null : FormOutcome.Sentence(problem),
            }
        )
        {
            StatusCode = problem?.StatusCode switch
            {
                null => null,
                StatusCodes.Status429TooManyRequests => StatusCodes.Status429TooManyRequests,
                _ => StatusCodes.Status422UnprocessableEntity,
            },
        };
    }

    private static async Task<IResult> ConfirmAsync(
        HttpContext context,
        RecentProof proof,
        [FromForm] string? password,
        [FromForm] string? code,
        [FromForm] string? recoveryCode,
        [FromForm] string? challenge,
        [FromForm] string? passkey,
        [FromForm] string? returnUrl
    )
    {
        IResult result = await proof.ProveAsync(
            context,
            new ProofRequest(
                string.IsNullOrEmpty(password) ? null : password,
                SignInEndpoints.Given(code),
                SignInEndpoints.Given(recoveryCode),
                challenge,
                SignInEndpoints.Credential(passkey)
            )
        );
        return result is ProblemHttpResult problem
            ? await AskAsync(context, proof, returnUrl, problem)
            : Pages.SeeOther(context, returnUrl);
    }

    /// <summary>What the page shows beside the factors as they are.</summary>
    private sealed record Shown(
        IReadOnlyList<string>? Codes = null,
        string? Error = null,
        bool IsSetUp = false,
        int? Status = null
    );
}
