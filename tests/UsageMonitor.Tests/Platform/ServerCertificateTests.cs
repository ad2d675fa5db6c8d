using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Platform;

public sealed class ServerCertificateTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("usage-monitor-certificate-").FullName;
    private readonly FakeTimeProvider _time = new(DateTimeOffset.UtcNow);
    private readonly TestCertificate _first = new("first");
    private readonly TestCertificate _second = new("second");

    private string CertificateFile => Path.Combine(_folder, "chain.pem");

    private string KeyFile => Path.Combine(_folder, "key.pem");

    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void Current_WhenThePairIsHalfReplacedOrGone_ShouldKeepTheOldOneUntilItIsWhole()
    {
        File.WriteAllText(CertificateFile, _first.ChainPem);
        File.WriteAllText(KeyFile, _first.KeyPem);
        ServerCertificate certificate = Open();
        Assert.Equal("CN=first", SubjectAfterAWhile(certificate));

        File.WriteAllText(CertificateFile, _second.ChainPem);
        Assert.Equal("CN=first", SubjectAfterAWhile(certificate));
        File.Delete(KeyFile);
        Assert.Equal("CN=first", SubjectAfterAWhile(certificate));
        File.WriteAllText(KeyFile, _second.KeyPem[..40]);
        Assert.Equal("CN=first", SubjectAfterAWhile(certificate));
        File.WriteAllText(KeyFile, _second.KeyPem);
        Assert.Equal("CN=second", SubjectAfterAWhile(certificate));
        Assert.Single(certificate.Current().IntermediateCertificates);
    }

    [Fact]
    public void Current_WhenASymbolicLinkPointsElsewhere_ShouldFollowIt()
    {
        foreach (TestCertificate version in new[] { _first, _second })
        {
            string folder = Path.Combine(_folder, version.Own.Subject);
            Directory.CreateDirectory(folder);
            File.WriteAllText(Path.Combine(folder, "chain.pem"), version.ChainPem);
            File.WriteAllText(Path.Combine(folder, "key.pem"), version.KeyPem);
        }

        // As Kubernetes mounts a secret: the files are links through a folder's link that is replaced.
        string current = Path.Combine(_folder, "..data");
        Directory.CreateSymbolicLink(current, _first.Own.Subject);
        File.CreateSymbolicLink(CertificateFile, Path.Combine("..data", "chain.pem"));
        File.CreateSymbolicLink(KeyFile, Path.Combine("..data", "key.pem"));
        ServerCertificate certificate = Open();
        Assert.Equal("CN=first", SubjectAfterAWhile(certificate));

        File.Delete(current);
        Directory.CreateSymbolicLink(current, _second.Own.Subject);
        Assert.Equal("CN=second", SubjectAfterAWhile(certificate));
    }

    private ServerCertificate Open() =>
        new(new TlsSettings(CertificateFile, KeyFile, null), _time, NullLogger<ServerCertificate>.Instance);

    private string SubjectAfterAWhile(ServerCertificate certificate)
    {
        _time.Advance(TimeSpan.FromSeconds(1));
        return certificate.Current().TargetCertificate.Subject;
    }
}
