namespace UsageMonitor.Server.Alerts;

/// <summary>
/// How many deliveries may be under way, so that no endpoint delays another: an endpoint has a few at once; one that failed or was
/// slow has one at once until it does well again, and all such together leave most of the room to the others.
/// </summary>
internal sealed class DeliveryLanes(TimeProvider time)
{
    public const int MailsAtOnceMax = 8;
    public const int PostsAtOnceMax = 64;
    public const int PostsPerEndpointMax = 4;
    public const int PostsPerEnterpriseMax = 16;
    public const int PostsOfSlowAtOnceMax = 24;
    public static readonly TimeSpan SlowFrom = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan ForgottenAfter = TimeSpan.FromHours(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<Guid, Lane> _lanes = [];
    private readonly Dictionary<Guid, int> _postsOfEnterprise = [];
    private int _mails;
    private int _posts;

    private sealed class Lane
    {
        public int UnderWay { get; set; }

        public bool IsSlow { get; set; }

        public DateTimeOffset LastUsedAt { get; set; }
    }

    /// <summary>What there is room for now.</summary>
    public DeliveryRoom Room()
    {
        lock (_lock)
        {
            DateTimeOffset old = time.GetUtcNow() - ForgottenAfter;
            foreach ((Guid endpointId, Lane lane) in _lanes)
            {
                if (lane.UnderWay == 0 && (!lane.IsSlow || lane.LastUsedAt < old))
                {
                    _lanes.Remove(endpointId);
                }
            }

            int slowRoom = PostsOfSlowAtOnceMax - _lanes.Values.Where(lane => lane.IsSlow).Sum(lane => lane.UnderWay);
            var endpoints = new Dictionary<Guid, int>();
            foreach ((Guid endpointId, Lane lane) in _lanes.OrderBy(lane => lane.Value.LastUsedAt))
            {
                // The mail server's room is Mails.
                if (endpointId != AlertOutbox.MailServer)
                {
                    int room = lane.IsSlow
                        ? Math.Min(1 - lane.UnderWay, slowRoom)
                        : PostsPerEndpointMax - lane.UnderWay;
                    endpoints[endpointId] = Math.Max(0, room);
                    slowRoom -= lane.IsSlow ? endpoints[endpointId] : 0;
                }
            }

            bool isMailSlow = _lanes.TryGetValue(AlertOutbox.MailServer, out Lane? mail) && mail.IsSlow;
            return new DeliveryRoom(
                Math.Max(0, (isMailSlow ? 1 : MailsAtOnceMax) - _mails),
                PostsAtOnceMax - _posts,
                PostsPerEndpointMax,
                PostsPerEnterpriseMax,
                endpoints,
                _postsOfEnterprise.ToDictionary(pair => pair.Key, pair => PostsPerEnterpriseMax - pair.Value)
            );
        }
    }

    public void Begin(ClaimedDelivery delivery) => Count(delivery, 1);

    /// <param name="delivery">What has ended.</param>
    /// <param name="isSlow">The endpoint failed or was slow.</param>
    public void End(ClaimedDelivery delivery, bool isSlow)
    {
        lock (_lock)
        {
            Count(delivery, -1);
            _lanes[delivery.EndpointId].IsSlow = isSlow;
        }
    }

    private void Count(ClaimedDelivery delivery, int more)
    {
        lock (_lock)
        {
            if (!_lanes.TryGetValue(delivery.EndpointId, out Lane? lane))
            {
                _lanes[delivery.EndpointId] = lane = new Lane();
            }

            lane.UnderWay += more;
            lane.LastUsedAt = time.GetUtcNow();
            if (delivery.EndpointId == AlertOutbox.MailServer)
            {
                _mails += more;
                return;
            }

            _posts += more;
            int posts = _postsOfEnterprise.GetValueOrDefault(delivery.EnterpriseId) + more;
            if (posts == 0)
            {
                _postsOfEnterprise.Remove(delivery.EnterpriseId);
            }
            else
            {
                _postsOfEnterprise[delivery.EnterpriseId] = posts;
            }
        }
    }
}
