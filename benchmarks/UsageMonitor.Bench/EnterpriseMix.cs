namespace UsageMonitor.Bench;

/// <summary>
/// The mission's enterprises: half have 500 users, three in ten 2,000 and two in ten 10,000. An event is as likely to come
/// from any user as from any other, so an enterprise is chosen in proportion to its users.
/// </summary>
internal sealed class EnterpriseMix
{
    private readonly long[] _usersThrough;

    public EnterpriseMix(int enterprises)
    {
        _usersThrough = new long[enterprises];
        long users = 0;
        for (int enterprise = 0; enterprise < enterprises; enterprise++)
        {
            users += UsersOf(enterprise);
            _usersThrough[enterprise] = users;
        }
    }

    public int Count => _usersThrough.Length;

    public long Users => _usersThrough[^1];

    public static int UsersOf(int enterprise) =>
        (enterprise % 10) switch
        {
            < 5 => 500,
            < 8 => 2_000,
            _ => 10_000,
        };

    public int Choose(Random random)
    {
        int found = Array.BinarySearch(_usersThrough, random.NextInt64(Users) + 1);
        return found >= 0 ? found : ~found;
    }

    /// <summary>A user's id: always the same, and spread like a random one.</summary>
    public static Guid UserId(int enterprise, int user) => UniqueIds.From(((ulong)enterprise << 32) | (uint)user);
}
