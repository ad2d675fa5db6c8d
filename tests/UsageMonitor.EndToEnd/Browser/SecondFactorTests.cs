using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using Microsoft.Playwright;
using UsageMonitor.EndToEnd.Fixtures;
using Xunit;

namespace UsageMonitor.EndToEnd.Browser;

/// <summary>Second factors as people use them, in Debian's Chromium: passkeys with its virtual authenticator, codes without JavaScript.</summary>
public sealed class SecondFactorTests : IAsyncLifetime
{
    private const int PageMillisecondsMax = 30_000;
    private readonly TemporaryFolder _folder = new();
    private readonly ConcurrentQueue<string> _faults = new();
    private ServerProcess _server = null!;
    private IPlaywright _playwright = null!;
    private IBrowser _browser = null!;
    private Tenant _tenant = null!;

    /// <summary>Passkeys need a name: an address of numbers can be no relying party.</summary>
    private string Address => $"http://localhost:{_server.Address.Port}";

    public async ValueTask InitializeAsync()
    {
        _server = await ServerProcess.StartReadyAsync(new ServerOptions(_folder.File("data"), Ports.Free()));
        using (Api platform = await Api.SignInAsOperatorAsync(_server.Address))
        {
            _tenant = await platform.CreateTenantAsync("Acme", "Asia/Kolkata");
        }

        _playwright = await Playwright.CreateAsync();
        _browser = await _playwright.Chromium.LaunchAsync(
            new BrowserTypeLaunchOptions
            {
                ExecutablePath = "/usr/bin/chromium",
                Args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
            }
        );
    }

    public async ValueTask DisposeAsync()
    {
        await _browser.DisposeAsync();
        _playwright.Dispose();
        await _server.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task Passkey_WhenItIsSetUp_ShouldSignInAfterThePasswordAndAlone()
    {
        IPage page = await OpenAsync(javaScript: true);
        ICDPSession authenticator = await page.Context.NewCDPSessionAsync(page);
        await authenticator.SendAsync("WebAuthn.enable");
        await authenticator.SendAsync(
            "WebAuthn.addVirtualAuthenticator",
            new Dictionary<string, object>
            {
                ["options"] = new
                {
                    protocol = "ctap2",
                    transport = "internal",
                    hasResidentKey = true,
                    hasUserVerification = true,
                    isUserVerified = true,
                    automaticPresenceSimulation = true,
                },
            }
        );
        await PasswordAsync(page);
        await AtAsync(page, "/");

        await page.GotoAsync(Address + "/account/second-factor");
        await page.GetByLabel("Name").FillAsync("a laptop");
        await Button(page, "Add a passkey").ClickAsync();
        await page.GetByText("Keep these recovery codes").WaitForAsync();
        string[] codes = (await page.Locator(".made code").InnerTextAsync()).Split('\n');
        Assert.Equal(10, codes.Distinct().Count());
        await page.GetByRole(AriaRole.Link, new PageGetByRoleOptions { Name = "I have kept them" }).ClickAsync();
        await AtAsync(page, "/");

        // The password alone leads to a second step, and nowhere else.
        await SignOutAsync(page);
        await PasswordAsync(page);
        await AtAsync(page, "/sign-in/second-factor**");
        await page.GotoAsync(Address + "/account");
        await AtAsync(page, "/sign-in?**");
        await PasswordAsync(page);
        await Button(page, "Use a passkey").ClickAsync();
        await AtAsync(page, "/account");
        await page.GetByText("Password and passkey").WaitForAsync();

        await SignOutAsync(page);
        await Button(page, "Use a passkey").ClickAsync();
        await AtAsync(page, "/");
        await page.GotoAsync(Address + "/account");
        await page.GetByRole(AriaRole.Cell, new PageGetByRoleOptions { Name = "Passkey", Exact = true }).WaitForAsync();

        // Without the device a recovery code, once.
        await SignOutAsync(page);
        await PasswordAsync(page);
        await page.GetByText("Use a recovery code").ClickAsync();
        await page.GetByLabel("Recovery code").FillAsync(codes[0]);
        await page.Locator(".recovery").GetByRole(AriaRole.Button).ClickAsync();
        await AtAsync(page, "/");
        Assert.Empty(_faults);
    }

    [Fact]
    public async Task Totp_WhenThereIsNoJavaScript_ShouldBeSetUpAndSignIn()
    {
        IPage page = await OpenAsync(javaScript: false);
        await PasswordAsync(page);
        await page.GotoAsync(Address + "/account/second-factor");
        await Button(page, "Set up an app").ClickAsync();
        byte[] secret = FromBase32(await page.Locator(".totp-steps code").InnerTextAsync());
        await page.GetByLabel("Type the code").FillAsync("000000");
        await Button(page, "Set it up").ClickAsync();
        await page.GetByRole(AriaRole.Alert).WaitForAsync();
        await page.GetByLabel("Type the code").FillAsync(CodeOf(secret, 0));
        await Button(page, "Set it up").ClickAsync();
        await page.GetByText("Keep these recovery codes").WaitForAsync();

        await SignOutAsync(page);
        await PasswordAsync(page);
        await AtAsync(page, "/sign-in/second-factor**");
        await page.GetByLabel("Code of your authenticator app").FillAsync("000000");
        await Button(page, "Sign in").First.ClickAsync();
        await page.GetByText("That was not right").WaitForAsync();

        // One step ahead: the code of the step that confirmed is used up.
        await page.GetByLabel("Code of your authenticator app").FillAsync(CodeOf(secret, 1));
        await Button(page, "Sign in").First.ClickAsync();
        await AtAsync(page, "/");
        await page.GotoAsync(Address + "/account");
        await page.GetByText("Password and app").WaitForAsync();
        await Button(page, "Sign out everywhere else").ClickAsync();
        await page.GetByText("This one").WaitForAsync();
        Assert.Equal(0, await Button(page, "Sign out everywhere else").CountAsync());
    }

    private async Task<IPage> OpenAsync(bool javaScript)
    {
        IBrowserContext context = await _browser.NewContextAsync(
            new BrowserNewContextOptions { JavaScriptEnabled = javaScript }
        );
        IPage page = await context.NewPageAsync();
        page.Console += (_, message) =>
        {
            if (message.Type == "error")
            {
                _faults.Enqueue(message.Text);
            }
        };
        page.PageError += (_, error) => _faults.Enqueue(error);
        await page.GotoAsync(Address);
        return page;
    }

    private async Task PasswordAsync(IPage page)
    {
        await page.GetByLabel("E-mail").FillAsync(_tenant.AdminEmail);
        await page.GetByLabel("Password", new PageGetByLabelOptions { Exact = true }).FillAsync(_tenant.AdminPassword);
        await page.GetByRole(AriaRole.Button, new PageGetByRoleOptions { Name = "Sign in", Exact = true }).ClickAsync();
    }

    private static async Task SignOutAsync(IPage page)
    {
        await page.Locator(".account summary").ClickAsync();
        await page.GetByRole(AriaRole.Button, new PageGetByRoleOptions { Name = "Sign out", Exact = true })
            .Last.ClickAsync();
        await page.GetByLabel("E-mail").WaitForAsync();
    }

    // Asks where the page is instead of waiting for it to go there: it may have gone already.
    private Task AtAsync(IPage page, string path) =>
        Assertions
            .Expect(page)
            .ToHaveURLAsync(
                new Regex("^" + Regex.Escape(Address + path).Replace(@"\*\*", ".*", StringComparison.Ordinal) + "$"),
                new PageAssertionsToHaveURLOptions { Timeout = PageMillisecondsMax }
            );

    private static ILocator Button(IPage page, string name) =>
        page.GetByRole(AriaRole.Button, new PageGetByRoleOptions { Name = name });

    private static byte[] FromBase32(string text)
    {
        const string Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        string bits = string.Concat(
            text.Where(char.IsLetterOrDigit)
                .Select(character =>
                    Convert.ToString(Alphabet.IndexOf(character, StringComparison.Ordinal), 2).PadLeft(5, '0')
                )
        );
        return
        [
            .. bits.Chunk(8).Where(chunk => chunk.Length == 8).Select(chunk => Convert.ToByte(new string(chunk), 2)),
        ];
    }

    // RFC 6238 by hand: the test must not share the server's library.
    private static string CodeOf(byte[] secret, int stepsAhead)
    {
        byte[] counter = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(counter, DateTimeOffset.UtcNow.ToUnixTimeSeconds() / 30 + stepsAhead);
#pragma warning disable CA5350 // What authenticator apps do.
        byte[] hash = HMACSHA1.HashData(secret, counter);
#pragma warning restore CA5350
        int offset = hash[^1] & 0xf;
        int number = BinaryPrimitives.ReadInt32BigEndian(hash.AsSpan(offset)) & int.MaxValue;
        return (number % 1_000_000).ToString("D6", CultureInfo.InvariantCulture);
    }
}
