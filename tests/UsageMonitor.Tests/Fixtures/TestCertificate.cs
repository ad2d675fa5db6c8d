using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace UsageMonitor.Tests.Fixtures;

/// <summary>A certificate for 127.0.0.1, and the authority between it and a root that signed it, as a user would bring them.</summary>
internal sealed class TestCertificate : IDisposable
{
    private readonly X509Certificate2 _root;
    private readonly X509Certificate2 _intermediate;
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    public TestCertificate(string name)
    {
        using var rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var intermediateKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        _root = Authority("root of " + name, rootKey).CreateSelfSigned(From, Until);
        using (X509Certificate2 issued = Issue(Authority("authority of " + name, intermediateKey), _root))
        {
            _intermediate = issued.CopyWithPrivateKey(intermediateKey);
        }

        var request = new CertificateRequest($"CN={name}", _key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        names.AddDnsName("usage.example");
        request.CertificateExtensions.Add(names.Build());
        Own = Issue(request, _intermediate);
    }

    public X509Certificate2 Own { get; }

    /// <summary>What a client would have to trust.</summary>
    public X509Certificate2 Root => _root;

    /// <summary>The server's and the authority's.</summary>
    public string ChainPem => Own.ExportCertificatePem() + "\n" + _intermediate.ExportCertificatePem() + "\n";

    public string KeyPem => _key.ExportPkcs8PrivateKeyPem() + "\n";

    public string EncryptedKeyPem(string password) =>
        _key.ExportEncryptedPkcs8PrivateKeyPem(
            password,
            new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 10_000)
        );

    public byte[] Pfx(string password)
    {
        using X509Certificate2 paired = Own.CopyWithPrivateKey(_key);
        using X509Certificate2 authority = X509CertificateLoader.LoadCertificate(_intermediate.RawData);
        return new X509Certificate2Collection { paired, authority }.Export(X509ContentType.Pkcs12, password)!;
    }

    public void Dispose()
    {
        Own.Dispose();
        _root.Dispose();
        _intermediate.Dispose();
        _key.Dispose();
    }

    private static DateTimeOffset From => DateTimeOffset.UtcNow.AddDays(-1);

    private static DateTimeOffset Until => DateTimeOffset.UtcNow.AddDays(30);

    private static CertificateRequest Authority(string name, ECDsa key)
    {
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request;
    }

    private static X509Certificate2 Issue(CertificateRequest request, X509Certificate2 issuer) =>
        request.Create(issuer, issuer.NotBefore, issuer.NotAfter, RandomNumberGenerator.GetBytes(8));
}
