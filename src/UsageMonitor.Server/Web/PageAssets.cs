using System.Collections.Frozen;
using System.Reflection;
using System.Text.Json;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Net.Http.Headers;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Web;

/// <summary>The bundled scripts and styles, carried inside the assembly: wherever the binary runs, its pages are whole.</summary>
/// <remarks>
/// A name changes with its content (see <c>assets/build.mjs</c>), so an answer may be kept for ever by browsers and CDNs.
/// Each file is there three times: as it is, gzip and brotli.
/// </remarks>
internal sealed class PageAssets
{
    private const string Prefix = "assets/";
    private static readonly (string Token, string Suffix)[] s_encodings = [("br", ".br"), ("gzip", ".gz")];

    private readonly Assembly _assembly = typeof(PageAssets).Assembly;
    private readonly FrozenSet<string> _files;
    private readonly FrozenDictionary<string, string> _addresses;

    /// <exception cref="InvalidOperationException">The build left the assets out.</exception>
    public PageAssets()
    {
        _files = _assembly
            .GetManifestResourceNames()
            .Where(name => name.StartsWith(Prefix, StringComparison.Ordinal))
            .Select(name => name[Prefix.Length..])
            .ToFrozenSet(StringComparer.Ordinal);
        using Stream stream =
            _assembly.GetManifestResourceStream(Prefix + "manifest.json")
            ?? throw new InvalidOperationException("This build has no page assets: run 'npm ci' and build again.");
        _addresses = JsonSerializer
            .Deserialize<Dictionary<string, string>>(stream)!
            .ToFrozenDictionary(pair => pair.Key, pair => "/assets/" + pair.Value, StringComparer.Ordinal);
    }

    /// <summary>Where a file such as <c>page.js</c> is to be fetched.</summary>
    public string Address(string name) => _addresses[name];

    public static void Map(IEndpointRouteBuilder routes) =>
        routes
            .MapGet(
                "/assets/{name}",
                (string name, HttpContext context, PageAssets assets) => assets.Get(name, context)
            )
            .RequirePermission(Permissions.Anonymous)
            .ExcludeFromDescription();

    private Results<FileStreamHttpResult, NotFound> Get(string name, HttpContext context)
    {
        if (!_addresses.Values.Contains("/assets/" + name))
        {
            return TypedResults.NotFound();
        }

        IHeaderDictionary headers = context.Response.Headers;
        headers.CacheControl = "public, max-age=31536000, immutable";
        headers.Vary = HeaderNames.AcceptEncoding;
        string contentType = Path.GetExtension(name) switch
        {
            ".js" => "text/javascript; charset=utf-8",
            ".css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        IList<StringWithQualityHeaderValue> accepted = context.Request.GetTypedHeaders().AcceptEncoding;
        foreach ((string token, string suffix) in s_encodings)
        {
            if (_files.Contains(name + suffix) && accepted.Any(value => value.Value == token && value.Quality != 0))
            {
                headers.ContentEncoding = token;
                return TypedResults.Stream(Open(name + suffix), contentType);
            }
        }

        return TypedResults.Stream(Open(name), contentType);
    }

    private Stream Open(string file) => _assembly.GetManifestResourceStream(Prefix + file)!;
}
