using System.Net.Http.Headers;
using System.Text;
using UsageMonitor.Server.Alerts;
using Xunit;

namespace UsageMonitor.Tests.Alerts;

public sealed class WebhookSignatureTests
{
    private static readonly byte[] s_secret = Convert.FromBase64String("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");

    [Fact]
    public void Sign_WhenGivenTheVectorOfStandardWebhooks_ShouldSignTheSame() =>
        Assert.Equal(
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            WebhookSignature.Sign(
                [s_secret],
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1614265330,
                Encoding.UTF8.GetBytes("{\"test\": 2432232314}")
            )
        );

    [Fact]
    public void Sign_WhenThereAreTwoSecrets_ShouldSignWithEachTheNewestFirst()
    {
        byte[] other = WebhookSignature.NewSecret();
        byte[] body = "{}"u8.ToArray();

        string both = WebhookSignature.Sign([other, s_secret], "id", 1, body);

        Assert.Equal(
            WebhookSignature.Sign([other], "id", 1, body) + " " + WebhookSignature.Sign([s_secret], "id", 1, body),
            both
        );
    }

    [Fact]
    public void Next_WhenAttemptsFail_ShouldWaitTwiceAsLongEachTimeUpToAnHourForADay()
    {
        var written = new DateTime(2026, 3, 10, 12, 0, 0, DateTimeKind.Utc);
        double[] delays =
        [
            .. Enumerable
                .Range(1, 12)
                .Select(attempt =>
                    (DeliveryRetry.Next(written, written, attempt, null, 0.5)!.Value - written).TotalSeconds
                ),
        ];

        Assert.Equal(
            [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600],
            delays.Select(delay => Math.Round(delay))
        );
        Assert.Equal(4, (DeliveryRetry.Next(written, written, 1, null, 0)!.Value - written).TotalSeconds, 3);
        Assert.Equal(6, (DeliveryRetry.Next(written, written, 1, null, 1)!.Value - written).TotalSeconds, 3);
        Assert.NotNull(DeliveryRetry.Next(written, written.AddHours(22.7), 20, null, 1));
        Assert.Null(DeliveryRetry.Next(written, written.AddHours(23.1), 20, null, 0.5));
    }

    [Fact]
    public void Next_WhenTheReceiverAsksForTime_ShouldGiveItUpToAnHour()
    {
        var now = new DateTime(2026, 3, 10, 12, 0, 0, DateTimeKind.Utc);

        Assert.Equal(now.AddMinutes(7), DeliveryRetry.Next(now, now, 1, TimeSpan.FromMinutes(7), 0.5));
        Assert.Equal(now.AddHours(1), DeliveryRetry.Next(now, now, 1, TimeSpan.FromDays(300), 0.5));
        Assert.Equal(now.AddSeconds(5), DeliveryRetry.Next(now, now, 1, TimeSpan.FromSeconds(-9), 0.5));
        var date = new RetryConditionHeaderValue(new DateTimeOffset(now.AddMinutes(2)));
        Assert.Equal(TimeSpan.FromMinutes(2), DeliveryRetry.RetryAfter(503, date, now));
        Assert.Null(DeliveryRetry.RetryAfter(500, date, now));
    }
}
