using System.Text;
using Microsoft.AspNetCore.DataProtection;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Web;

/// <summary>Data protection under a key derived from the master key, so that any instance accepts a form another one rendered.</summary>
/// <remarks>ASP.NET's own keeps a key ring in a folder of the machine, which instances behind a load balancer do not share.</remarks>
internal sealed class MasterKeyProtection(MasterKey masterKey) : IDataProtectionProvider
{
    private readonly byte[] _key = masterKey.Derive("data-protection");

    public IDataProtector CreateProtector(string purpose) => new Protector(_key, purpose);

    private sealed class Protector(byte[] key, string purpose) : IDataProtector
    {
        private readonly byte[] _context = Encoding.UTF8.GetBytes(purpose);

        public IDataProtector CreateProtector(string inner) => new Protector(key, purpose + '\n' + inner);

        public byte[] Protect(byte[] plaintext) => Sealing.Seal(key, plaintext, _context);

        public byte[] Unprotect(byte[] protectedData) => Sealing.Open(key, protectedData, _context);
    }
}
