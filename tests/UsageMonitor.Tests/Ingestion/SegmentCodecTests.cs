using UsageMonitor.EventLog;
using UsageMonitor.Server.Ingestion;
using UsageMonitor.Server.Limits;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Ingestion;

public sealed class SegmentCodecTests
{
    // Written by the program before there were blocked events.
    private const string OldHeaders =
        "AQGg85ABAAAAcIAAAAAAAAABjwAAAEWpQ146rLnisdvzbJQsfH2/UB5ImOiwaDiBDlDeFg483muHs+PBxfNiGJdqUZRhjPZ0NkmUNL8GMlENDNO5xWvNL5tK61CKbb0BlE0CBP6gmeuT4iwzprxZ2zFAbmvz05FrnCnvMS/Efxq0khp6KzCsmjk7PlGBu4pTnXRG8wxxKxGHCzo6Qy8Zh02aB9YK";
    private const string OldProperties =
        "AQGg85ABAAAAcIAAAAAAAAABKgAAAD0FARnCMea6LuxmjhntxLWGYVtc6IaBhEYZ5u9QM0PJyVrWTFucItg/jA==";

    private static readonly EnterpriseInfo s_enterprise = new(
        Guid.Parse("0190f3a0-0000-7000-8000-000000000001"),
        "Golden",
        TimeZoneInfo.Utc,
        3,
        [.. Enumerable.Range(1, 32).Select(i => (byte)i)],
        EnterpriseInfo.Active
    );

    private static readonly ParsedEvent[] s_events =
    [
        new(
            Guid.Parse("0190f3a0-1111-7000-8000-000000000001"),
            UserIds.Resolve(s_enterprise.EnterpriseId, "ana", out _),
            "ana",
            "search",
            "use",
            1_774_000_000_123_456,
            "{\"n\":1}"u8.ToArray()
        ),
        new(
            Guid.Parse("0190f3a0-1111-7000-8000-000000000002"),
            Guid.Parse("7d444840-9dc0-11d1-b245-5ffdce74fad2"),
            null,
            "export",
            "open",
            1_774_000_000_000_000,
            default
        ),
    ];

    [Fact]
    public void OpenHeaders_WhenTheSegmentIsFromBeforePolicies_ShouldReadIt()
    {
        byte[] properties = Convert.FromBase64String(OldProperties);

        HeaderBlock block = Open(Convert.FromBase64String(OldHeaders));

        AssertEvents(block);
        Assert.Empty(block.Blocked);
        Assert.Equal("{\"n\":1}", SegmentCodec.OpenProperties(s_enterprise, properties, 0));
        Assert.Equal("", SegmentCodec.OpenProperties(s_enterprise, properties, 1));
    }

    [Fact]
    public void Encode_WhenNothingIsBlocked_ShouldStayReadableForTheProgramBefore()
    {
        SegmentDraft draft = SegmentCodec.Encode(3, [new SegmentCodec.Block(s_enterprise, [.. s_events], 4)]);

        Assert.Equal(Convert.FromBase64String(OldHeaders).Length, draft.Headers.Length);
        Assert.Equal((byte)1, draft.Headers.Span[0]);
        Assert.Equal([new SegmentTally(s_enterprise.EnterpriseId, 2, 4)], draft.Tallies);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void Encode_WhenEventsAreBlocked_ShouldGiveThemBackBesideTheAccepted(int accepted)
    {
        var policy = Guid.NewGuid();
        var key = Guid.NewGuid();
        BlockedAttempt[] blocked =
        [
            new(s_events[0], 7, ReceiptIds.Create(DateTimeOffset.UtcNow), "policy_forbidden", key, policy, 9),
            new(
                s_events[1] with
                {
                    Properties = "{\"blocked\":true}"u8.ToArray(),
                },
                9,
                ReceiptIds.Create(DateTimeOffset.UtcNow),
                "policy_default",
                null,
                null,
                null
            ),
        ];

        SegmentDraft draft = SegmentCodec.Encode(
            3,
            [new SegmentCodec.Block(s_enterprise, [.. s_events.Take(accepted)], 4) { Blocked = [.. blocked] }]
        );

        HeaderBlock block = Open(draft.Headers);
        Assert.Equal((byte)2, draft.Headers.Span[0]);
        Assert.Equal([new SegmentTally(s_enterprise.EnterpriseId, accepted, 4, 2)], draft.Tallies);
        Assert.Equal(accepted, block.Events.Length);
        Assert.Equal(
            blocked.Select(one =>
                (one.Event.EventId, one.Event.UserId, one.Event.ExternalId, one.Event.TimestampMicroseconds)
            ),
            block.Blocked.Select(one =>
                (one.Event.EventId, one.Event.UserId, one.Event.ExternalId, one.Event.TimestampMicroseconds)
            )
        );
        Assert.Equal(
            blocked.Select(one => (one.ReceiptId, one.Code, one.ApiKeyId, one.PolicyId, one.PolicyVersion)),
            block.Blocked.Select(one => (one.ReceiptId, one.Code, one.ApiKeyId, one.PolicyId, one.PolicyVersion))
        );
        Assert.Equal(["search", "export"], block.Blocked.Select(one => block.FeatureNames[one.Event.Feature]));
        Assert.Equal(["use", "open"], block.Blocked.Select(one => block.EventTypes[one.Event.Type]));
        Assert.Equal("{\"n\":1}", SegmentCodec.OpenProperties(s_enterprise, draft.Properties, accepted));
        Assert.Equal("{\"blocked\":true}", SegmentCodec.OpenProperties(s_enterprise, draft.Properties, accepted + 1));
    }

    [Fact]
    public void Encode_WhenALimitRefused_ShouldGiveBackTheLimitAsItWas()
    {
        var limit = new LimitRefusal(
            Guid.NewGuid(),
            7,
            long.MaxValue,
            long.MaxValue - 1,
            new WindowSpan(
                new DateTime(2026, 10, 24, 18, 30, 0, DateTimeKind.Utc),
                new DateTime(2026, 10, 25, 18, 30, 0, DateTimeKind.Utc)
            )
        );
        BlockedAttempt[] blocked =
        [
            new(s_events[0], 0, ReceiptIds.Create(DateTimeOffset.UtcNow), "limit_reached", Guid.NewGuid(), null, null)
            {
                Limit = limit,
            },
            new(s_events[1], 1, ReceiptIds.Create(DateTimeOffset.UtcNow), "policy_default", null, null, null),
        ];

        SegmentDraft draft = SegmentCodec.Encode(
            3,
            [new SegmentCodec.Block(s_enterprise, [.. s_events], 0) { Blocked = [.. blocked] }]
        );

        HeaderBlock block = Open(draft.Headers);
        Assert.Equal((byte)3, draft.Headers.Span[0]);
        AssertEvents(block);
        Assert.Equal([limit, null], block.Blocked.Select(one => one.Limit));
        Assert.Equal(["limit_reached", "policy_default"], block.Blocked.Select(one => one.Code));
        Assert.Equal("{\"n\":1}", SegmentCodec.OpenProperties(s_enterprise, draft.Properties, 2));
    }

    private static void AssertEvents(HeaderBlock block) =>
        Assert.Equal(
            s_events.Select(one =>
                (one.EventId, one.UserId, one.ExternalId, one.FeatureName, one.EventType, one.TimestampMicroseconds)
            ),
            block.Events.Select(one =>
                (
                    one.EventId,
                    one.UserId,
                    one.ExternalId,
                    block.FeatureNames[one.Feature],
                    block.EventTypes[one.Type],
                    one.TimestampMicroseconds
                )
            )
        );

    private static HeaderBlock Open(ReadOnlyMemory<byte> headers)
    {
        (Guid enterpriseId, ReadOnlyMemory<byte> block) = Assert.Single(SegmentCodec.HeaderBlocks(headers));
        Assert.Equal(s_enterprise.EnterpriseId, enterpriseId);
        return SegmentCodec.OpenHeaders(s_enterprise, block);
    }
}
