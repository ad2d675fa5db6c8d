using System.Collections.Frozen;
using System.Globalization;
using CsCheck;
using Npgsql;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using UsageMonitor.Tests.Fixtures;
using Xunit;

namespace UsageMonitor.Tests.Limits;

/// <summary>Short ways to make limits and time.</summary>
internal static class LimitMaking
{
    public static readonly Guid Enterprise = Guid.Parse("00000000-0000-7000-8000-0000000000ee");
    public static readonly Guid Ana = Guid.Parse("00000000-0000-7000-8000-00000000000a");
    public static readonly Guid Bob = Guid.Parse("00000000-0000-7000-8000-00000000000b");

    public static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(index => values[index]);

    public static LocalTime Local(string zone) => new(TimeZoneInfo.FindSystemTimeZoneById(zone));

    public static DateTime Utc(string text) => DateTimeOffset.Parse(text, CultureInfo.InvariantCulture).UtcDateTime;

    public static StoredLimit Limit(
        int number,
        long value,
        string feature = "export",
        LimitScope scope = LimitScope.User,
        string? role = null,
        LimitWindow window = LimitWindow.Daily,
        LimitAction action = LimitAction.Block,
        Guid? subject = null,
        DateTime? startsAt = null,
        DateTime? expiresAt = null
    ) =>
        new(
            new Guid(number, 0, 0x7000, 0x80, 0, 0, 0, 0, 0, 0, 0),
            1,
            LimitMeter.Of(Enterprise, feature, scope, role, window),
            subject,
            null,
            value,
            action,
            LimitTerms.Active,
            startsAt,
            expiresAt,
            Guid.Empty,
            default,
            default
        );

    public static LimitSet Set(params StoredLimit[] limits) =>
        new(limits, FrozenDictionary<string, FrozenSet<Guid>>.Empty);

    /// <summary>As the database's owner, whom no wall holds.</summary>
    public static async Task ExecuteAsync(this TestDatabase database, string sql)
    {
        await using var connection = new NpgsqlConnection(database.OwnerConnectionString);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }
}
