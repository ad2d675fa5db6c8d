using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace UsageMonitor.Server.Platform;

/// <summary>The configuration section <c>Tls</c>.</summary>
/// <param name="Certificate"><c>Tls:Certificate</c>: PEM (the server's certificate first, then those between it and the root) or PFX.</param>
/// <param name="Key"><c>Tls:Key</c>: the private key as PEM; null when the certificate's file has it too.</param>
/// <param name="Password"><c>Tls:Password</c>: opens the PFX or the encrypted key.</param>
internal sealed record TlsSettings(string Certificate, string? Key, string? Password)
{
    /// <summary><c>Tls:RedirectFromPort</c>: a plain port that only sends browsers on to https.</summary>
    public int? RedirectFromPort { get; init; }

    /// <summary><c>Tls:PublicPort</c>: the port of https as clients see it, if it is mapped to <c>Port</c>.</summary>
    public int? PublicPort { get; init; }

    public override string ToString() => $"TLS with {Certificate}"; // never the password
}

/// <summary>The certificate's files cannot be used; the message says why.</summary>
internal sealed class CertificateException(string message, Exception inner) : Exception(message, inner);

/// <summary>
/// The server's certificate, read again when its files change: new connections get the new one, those that are open stay.
/// </summary>
/// <remarks>
/// The files' content is compared at a handshake, every second at most, rather than watched: that also sees what a mounted
/// secret's symbolic link points to now, and a pair that was half replaced is simply tried again.
/// </remarks>
internal sealed partial class ServerCertificate
{
    private const int CheckSeconds = 1;
    private const int FileBytesMax = 1024 * 1024;

    private readonly TlsSettings _settings;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Lock _checking = new();
    private volatile Loaded _loaded;
    private long _checkedAt;
    private string? _failure;

    /// <exception cref="CertificateException">The files cannot be used.</exception>
    public ServerCertificate(TlsSettings settings, TimeProvider time, ILogger<ServerCertificate> logger)
    {
        (_settings, _time, _logger) = (settings, time, logger);
        _loaded = Load(settings, Read(settings));
        _checkedAt = time.GetTimestamp();
        LogUsed(_loaded);
    }

    /// <summary>What the files hold now: the certificate with its key, and those between it and the root.</summary>
    public SslStreamCertificateContext Current()
    {
        CheckFiles();
        return _loaded.Context;
    }

    /// <exception cref="CertificateException">The files cannot be used.</exception>
    public static void Check(TlsSettings settings) => Load(settings, Read(settings));

    private void CheckFiles()
    {
        // One connection looks; the others go on with what there is.
        if (
            _time.GetElapsedTime(Volatile.Read(ref _checkedAt)) < TimeSpan.FromSeconds(CheckSeconds)
            || !_checking.TryEnter()
        )
        {
            return;
        }

        try
        {
            Volatile.Write(ref _checkedAt, _time.GetTimestamp());
            byte[] content = Read(_settings);
            if (!content.AsSpan().SequenceEqual(_loaded.Content))
            {
                _loaded = Load(_settings, content);
                LogUsed(_loaded);
            }

            _failure = null;
        }
        catch (CertificateException exception)
        {
            if (_failure != exception.Message)
            {
                LogNotReplaced(exception.Message);
            }

            _failure = exception.Message;
        }
        finally
        {
            _checking.Exit();
        }
    }

    // Both files in one, so that one comparison tells whether anything changed.
    private static byte[] Read(TlsSettings settings)
    {
        byte[] certificate = Read("Tls:Certificate", settings.Certificate);
        return settings.Key is { } key ? [.. certificate, (byte)'\n', .. Read("Tls:Key", key)] : certificate;
    }

    private static byte[] Read(string setting, string path)
    {
        try
        {
            var file = new FileInfo(path);
            return file.Exists && file.ResolveLinkTarget(true) is null && file.Length > FileBytesMax
                ? throw new InvalidDataException("it is too long")
                : File.ReadAllBytes(path);
        }
        catch (Exception exception)
            when (exception is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new CertificateException($"{setting}: {path} cannot be read: {exception.Message}", exception);
        }
    }

    private static Loaded Load(TlsSettings settings, byte[] content)
    {
        try
        {
            X509Certificate2Collection all = Encoding
                .ASCII.GetString(content)
                .Contains("-----BEGIN ", StringComparison.Ordinal)
                ? ReadPem(Encoding.UTF8.GetString(content), settings.Password)
                : X509CertificateLoader.LoadPkcs12Collection(content, settings.Password);
            X509Certificate2 own =
                all.FirstOrDefault(certificate => certificate.HasPrivateKey)
                ?? throw new CryptographicException("it has no private key");
            all.Remove(own);
            return new Loaded(content, own, SslStreamCertificateContext.Create(own, all, offline: true));
        }
        catch (Exception exception) when (exception is CryptographicException or ArgumentException)
        {
            throw new CertificateException(
                $"Tls:Certificate: {settings.Certificate} cannot be used: {exception.Message}",
                exception
            );
        }
    }

    private static X509Certificate2Collection ReadPem(string pem, string? password)
    {
        using X509Certificate2 paired = password is null
            ? X509Certificate2.CreateFromPem(pem, pem)
            : X509Certificate2.CreateFromEncryptedPem(pem, pem, password);
        var all = new X509Certificate2Collection();
        all.ImportFromPem(pem);
        all.RemoveAt(0); // the first is the server's own, which needs its key

        // By way of PKCS #12, because Windows cannot use a key that is in no store.
        all.Insert(0, X509CertificateLoader.LoadPkcs12(paired.Export(X509ContentType.Pkcs12), null));
        return all;
    }

    private void LogUsed(Loaded loaded)
    {
        DateTimeOffset until = loaded.Own.NotAfter.ToUniversalTime();
        LogCertificate(loaded.Own.Subject, until);
        if (until <= _time.GetUtcNow())
        {
            LogExpired(loaded.Own.Subject);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "TLS uses the certificate {Subject}, good until {Until:u}.")]
    private partial void LogCertificate(string subject, DateTimeOffset until);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The certificate {Subject} has expired.")]
    private partial void LogExpired(string subject);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The certificate is not replaced. {Reason}")]
    private partial void LogNotReplaced(string reason);

    private sealed record Loaded(byte[] Content, X509Certificate2 Own, SslStreamCertificateContext Context);
}
