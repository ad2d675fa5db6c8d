using System.Diagnostics;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using Npgsql;
using UsageMonitor.Contracts;

namespace UsageMonitor.Bench;

/// <summary>
/// <c>./bench active-users</c>: exact distinct users of 90 days × 10,000 users × 10 features, asked over HTTP with a range
/// that no cache has seen, on days as they are at best (a row) and at worst (45 rows).
/// </summary>
internal sealed class ActiveUsersBench(Options options, string program, string dataFolder, TextWriter progress)
{
    private const int RangeDays = 90;
    private const int Ranges = 40;
    private const int WarmUpRanges = 10;
    private const int StepsAtBest = 1;
    private const int StepsAtWorst = 4_095;
    private const int Seed = 20_260_101;
    private const double MillisecondsTarget = 50;

    /// <summary>Answers are cached for five seconds; a round asks for the same ranges as the one before.</summary>
    private static readonly TimeSpan BetweenRounds = TimeSpan.FromSeconds(6);

    private static readonly DateOnly First = new(2025, 1, 1);
    private readonly Report _report = new();

    public async Task<Report> RunAsync()
    {
        string folder = Path.Combine(dataFolder, "platform");
        BenchEnterprise[] enterprises;
        Guid[] ids;
        await using (ServerProcess server = await ServerProcess.ServeAsync(program, folder, options.LogLevel))
        {
            using var platform = new PlatformClient(server.Port, server.Tail);
            enterprises = await platform.CreateEnterprisesAsync(2);
            ids = await Task.WhenAll(enterprises.Select(enterprise => EnterpriseIdAsync(server, enterprise)));
        }

        int rangeDays = options.Quick ? RangeDays / 9 : RangeDays;
        await SeedAsync(folder, ids, rangeDays);
        await using (ServerProcess server = await ServerProcess.ServeAsync(program, folder, options.LogLevel))
        {
            await MeasureAsync(server, enterprises, rangeDays);
        }

        _report.Note(
            $"Every one of {ActiveUsersSeed.Users:N0} users used each of {ActiveUsersSeed.Features} features on each day; ranges of {rangeDays} days, "
                + "each asked once a round by one caller. A summary reads the range before as well, so twice the days. One row a day: all came in "
                + $"one step. 45 rows a day: {StepsAtWorst:N0} steps, 15 rows on each of three levels."
        );
        return _report;
    }

    private async Task SeedAsync(string folder, Guid[] ids, int rangeDays)
    {
        progress.WriteLine("writing the days");
        await using ServerProcess postgres = await ServerProcess.StartPostgresAsync(program, folder);
        await using var connection = new NpgsqlConnection(postgres.ConnectionString);
        await connection.OpenAsync();
        var random = new Random(Seed);
        int days = (2 * rangeDays) + Ranges;
        await new ActiveUsersSeed(ids[0], StepsAtBest).WriteAsync(connection, First, days, random);
        await new ActiveUsersSeed(ids[1], StepsAtWorst).WriteAsync(connection, First, days, random);
        await using var analyze = new NpgsqlCommand("VACUUM (ANALYZE) active_user_sets, usage_aggregates", connection);
        analyze.CommandTimeout = 0;
        await analyze.ExecuteNonQueryAsync();
    }

    private async Task MeasureAsync(ServerProcess server, BenchEnterprise[] enterprises, int rangeDays)
    {
        string[] layouts = ["a row a day", "45 rows a day"];
        string[] paths = ["usage/by-feature", "summary"];
        var cases = layouts
            .SelectMany(
                (layout, index) => paths.Select(path => (Layout: layout, Path: path, Enterprise: enterprises[index]))
            )
            .ToArray();
        var medians = cases.ToDictionary(each => each, _ => new List<double>());
        var worst = cases.ToDictionary(each => each, _ => new List<double>());
        for (int round = 0; round <= options.Rounds; round++)
        {
            foreach (var each in cases)
            {
                double[] milliseconds = await AskAsync(
                    server,
                    each.Enterprise,
                    each.Path,
                    rangeDays,
                    round == 0 ? WarmUpRanges : Ranges
                );
                if (round > 0)
                {
                    medians[each].Add(Latency.Percentile(milliseconds, 50));
                    worst[each].Add(Latency.Percentile(milliseconds, 99));
                    progress.WriteLine(
                        $"{each.Path}, {each.Layout}, round {round}: p50 {medians[each][^1]:0.0} ms, p99 {worst[each][^1]:0.0} ms"
                    );
                }
            }

            await Task.Delay(BetweenRounds);
        }

        foreach (var each in cases)
        {
            string name = $"/v1/dashboard/{each.Path}, {each.Layout}";
            _report.Add(
                new Measure(
                    $"{name}, p50 (ms)",
                    medians[each],
                    "≤ 50",
                    milliseconds => milliseconds <= MillisecondsTarget
                )
            );
            _report.Add(new Measure($"{name}, p99 (ms)", worst[each]));
        }
    }

    private static async Task<double[]> AskAsync(
        ServerProcess server,
        BenchEnterprise enterprise,
        string path,
        int rangeDays,
        int ranges
    )
    {
        using HttpClient http = ClientOf(server, enterprise);
        double[] milliseconds = new double[ranges];
        for (int range = 0; range < ranges; range++)
        {
            DateOnly from = First.AddDays(rangeDays + range);
            long started = Stopwatch.GetTimestamp();
            string answer = await http.GetStringAsync(
                new Uri(
                    $"/v1/dashboard/{path}?from={from:yyyy-MM-dd}&to={from.AddDays(rangeDays):yyyy-MM-dd}",
                    UriKind.Relative
                )
            );
            milliseconds[range] = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            if (!answer.Contains($"\"activeUsers\":{ActiveUsersSeed.Users},", StringComparison.Ordinal))
            {
                throw new BenchException($"{path} does not count {ActiveUsersSeed.Users} users: {answer}");
            }
        }

        Array.Sort(milliseconds);
        return milliseconds;
    }

    private static async Task<Guid> EnterpriseIdAsync(ServerProcess server, BenchEnterprise enterprise)
    {
        using HttpClient http = ClientOf(server, enterprise);
        return (await http.GetFromJsonAsync<ValidateResponse>(new Uri("/v1/auth/validate", UriKind.Relative)))!
            .EnterpriseId!
            .Value;
    }

    private static HttpClient ClientOf(ServerProcess server, BenchEnterprise enterprise)
    {
        var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{server.Port}") };
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", enterprise.ApiKey);
        return http;
    }
}
