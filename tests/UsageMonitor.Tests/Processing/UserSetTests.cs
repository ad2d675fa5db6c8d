using System.Buffers;
using CsCheck;
using UsageMonitor.Server.Processing;
using Xunit;

namespace UsageMonitor.Tests.Processing;

public sealed class UserSetTests
{
    private static readonly Gen<int[]> s_ordinals = Gen.OneOf(
        Gen.Int[0, 100_000].Array[0, 50], // sparse
        Gen.Int[0, 500].Array[0, 2_000] // dense
    );

    [Fact]
    public void Union_WhenWrittenAndRead_ShouldBeTheUnionOfTheMembers() =>
        Gen.Select(s_ordinals, s_ordinals)
            .Sample(
                (one, other) =>
                {
                    var union = new UserSet();
                    foreach (int[] members in new[] { one, other })
                    {
                        ReadOnlySpan<byte> written = Write(members);
                        union.UnionWith(ref written);
                        Assert.Equal(0, written.Length);
                    }

                    Assert.Equal(one.Concat(other).Distinct().Count(), union.Count());
                }
            );

    [Fact]
    public void ActiveUsers_WhenUnitedInAnyOrderAndRepeatedly_ShouldBeTheSame() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, 25], Gen.Int[0, 300])
            .Array[1, 200]
            .Sample(uses =>
            {
                var whole = new ActiveUsers();
                var parts = new[] { new ActiveUsers(), new ActiveUsers(), new ActiveUsers() };
                for (int i = 0; i < uses.Length; i++)
                {
                    (int feature, int hour, int ordinal) = uses[i];
                    whole.Add("feature" + feature, hour * 60, ordinal);
                    parts[i % 3].Add("feature" + feature, hour * 60, ordinal);
                    parts[(i + 1) % 3].Add("feature" + feature, hour * 60, ordinal);
                }

                var united = new ActiveUsers();
                foreach (ActiveUsers part in parts.Reverse().Concat(parts))
                {
                    united.UnionWithDay(part.EncodeDay());
                    united.UnionWithHours(part.EncodeHours());
                }

                Assert.Equal(Counts(whole), Counts(united));
            });

    private static SortedDictionary<string, int> Counts(ActiveUsers users) =>
        new(
            users
                .Day.Select(feature => KeyValuePair.Create(feature.Key, feature.Value.Count()))
                .Concat(
                    users.Hours.SelectMany(hour =>
                        hour.Value.Select(f => KeyValuePair.Create($"{hour.Key}/{f.Key}", f.Value.Count()))
                    )
                )
                .ToDictionary()
        );

    private static byte[] Write(int[] members)
    {
        var set = new UserSet();
        foreach (int member in members)
        {
            set.Add(member);
        }

        Assert.Equal(members.Distinct().Count(), set.Count());
        var writer = new ArrayBufferWriter<byte>();
        set.WriteTo(writer);
        return writer.WrittenSpan.ToArray();
    }
}
