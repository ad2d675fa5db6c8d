using System.Globalization;
using System.Text;

namespace UsageMonitor.Bench;

/// <summary>Properties such as a web application sends: ids and numbers that differ, agents and hosts that repeat, some text.</summary>
internal static class EventProperties
{
    private static readonly string[] Agents =
    [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/139.0.0.0 Safari/537.36 Edg/139.0.0.0",
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
    ];

    private static readonly string[] Pages = ["projects", "invoices", "reports", "customers", "documents", "settings"];
    private static readonly string[] Regions = ["eu-central-1", "us-east-1", "ap-south-1", "ap-southeast-2"];
    private static readonly string[] Plans = ["starter", "business", "enterprise"];
    private static readonly int[] Statuses = [200, 200, 200, 200, 201, 204, 304, 400, 404];

    private static readonly string[] Words = (
        "account active added amount approval archive assigned attached balance blocked budget cancelled category changed "
        + "closed comment completed contact contract created currency customer date deadline delayed delivery department "
        + "details discount document draft due edited estimate expected export failed filter final folder forecast from "
        + "group imported internal invoice item label last ledger linked list manager market meeting member monthly name "
        + "new note number open order overdue owner page paid partner payment pending period person plan price priority "
        + "product project purchase quarter quote received record region related reminder renewal report request review "
        + "risk sales schedule sent service shared shipment signed status step supplier support task team template term "
        + "ticket total transfer travel update urgent user value vendor version week yearly"
    ).Split(' ');

    /// <summary>A JSON object of exactly so many bytes, all ASCII.</summary>
    public static string Make(Random random, int bytes)
    {
        string page = Pick(Pages, random);
        var text = new StringBuilder(bytes);
        CultureInfo plain = CultureInfo.InvariantCulture;
        text.Append(plain, $$"""{"sessionId":"{{UniqueIds.From((ulong)random.NextInt64())}}" """).Length--;
        text.Append(plain, $$""","traceId":"{{random.NextInt64():x16}}{{random.NextInt64():x16}}" """).Length--;
        text.Append(plain, $$""","url":"https://app.example.com/{{page}}/{{random.Next(100_000)}}""");
        text.Append(plain, $$"""?tab={{Pick(Words, random)}}&page={{random.Next(20)}}" """).Length--;
        text.Append(plain, $$""","referrer":"https://app.example.com/{{Pick(Pages, random)}}" """).Length--;
        text.Append(
            plain,
            $$""","userAgent":"{{Pick(Agents, random)}}","status":{{Statuses[random.Next(Statuses.Length)]}}"""
        );
        text.Append(plain, $$""","durationMilliseconds":{{random.Next(5, 4_000)}}""");
        text.Append(
            plain,
            $$""","responseBytes":{{random.Next(200, 90_000)}},"region":"{{Pick(Regions, random)}}" """
        ).Length--;
        text.Append(
            plain,
            $$""","plan":"{{Pick(Plans, random)}}","appVersion":"5.{{random.Next(8, 14)}}.{{random.Next(10)}}" """
        ).Length--;
        text.Append(plain, $$""","device":{"screen":"{{random.Next(8, 26) * 100}}x{{random.Next(6, 15) * 100}}"}""");
        text.Append(",\"summary\":\"");
        const string end = "\"}";
        while (text.Length < bytes - end.Length)
        {
            text.Append(Pick(Words, random)).Append(' ');
        }

        text.Length = bytes - end.Length;
        return text.Append(end).ToString();
    }

    private static string Pick(string[] from, Random random) => from[random.Next(from.Length)];
}
