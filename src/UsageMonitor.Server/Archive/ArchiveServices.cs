using Microsoft.Extensions.DependencyInjection.Extensions;
using UsageMonitor.Server.Archive.Retention;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Archive;

internal static class ArchiveServices
{
    /// <summary>What reads the archive; nothing is opened before somebody asks, and adding it twice does no harm.</summary>
    public static IServiceCollection AddArchive(this IServiceCollection services)
    {
        services.TryAddSingleton(provider => provider.GetRequiredService<ServerSettings>().Archive);
        services.TryAddSingleton(provider => new OpenedFolder(
            provider.GetRequiredService<ArchiveSettings>().TemporaryFolder
        ));
        services.TryAddSingleton<ArchiveFolder>();
        services.TryAddSingleton<OpenedFiles>();
        services.TryAddSingleton<ArchiveReader>();
        services.TryAddSingleton<EventGroups>();
        services.TryAddSingleton<ReadingPlaces>();
        services.TryAddSingleton<ArchivedUsesReader>();
        services.TryAddSingleton<ReadArchivedUses>(provider =>
            provider.GetRequiredService<ArchivedUsesReader>().ReadAsync
        );
        return services;
    }

    /// <summary>What writes it.</summary>
    public static IServiceCollection AddArchiving(this IServiceCollection services) =>
        services
            .AddArchive()
            .AddSingleton<ArchivePlan>()
            .AddSingleton<Archiver>()
            .AddSingleton<ArchiveSweep>()
            .AddSingleton<MonthEmptying>()
            .AddSingleton<AuditTrim>()
            .AddSingleton<RetentionRun>()
            .AddSingleton<LogTrim>()
            .AddHostedService<ArchiveService>()
            .AddHostedService<RetentionService>();
}
