using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Serialization;
using UsageMonitor.Server.Platform;

namespace UsageMonitor.Server.Identity;

/// <summary>
/// A credential as bytes, for <see cref="SharedCache"/>. Every property goes along, those not thought of yet included: a test
/// holds what comes back against what went in.
/// </summary>
internal static class CredentialCodec
{
    // A member that one of two releases side by side does not know is a miss, not a credential without it.
    private static readonly JsonSerializerOptions s_json = new()
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true,
        Converters = { new NamesConverter(), new NetworkConverter() },
    };

    public static byte[] Encode(Credential credential) => JsonSerializer.SerializeToUtf8Bytes(credential, s_json);

    /// <summary>The credential, or null when these bytes are none.</summary>
    public static Credential? Decode(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return JsonSerializer.Deserialize<Credential>(bytes, s_json);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private sealed class NamesConverter : JsonConverter<FrozenSet<string>>
    {
        public override FrozenSet<string> Read(
            ref Utf8JsonReader reader,
            Type typeToConvert,
            JsonSerializerOptions options
        ) => JsonSerializer.Deserialize<string[]>(ref reader, options)!.ToFrozenSet(StringComparer.Ordinal);

        public override void Write(Utf8JsonWriter writer, FrozenSet<string> value, JsonSerializerOptions options) =>
            JsonSerializer.Serialize(writer, value.AsEnumerable(), options);
    }

    private sealed class NetworkConverter : JsonConverter<System.Net.IPNetwork>
    {
        public override System.Net.IPNetwork Read(
            ref Utf8JsonReader reader,
            Type typeToConvert,
            JsonSerializerOptions options
        ) =>
            System.Net.IPNetwork.TryParse(reader.GetString(), out System.Net.IPNetwork network)
                ? network
                : throw new JsonException();

        public override void Write(Utf8JsonWriter writer, System.Net.IPNetwork value, JsonSerializerOptions options) =>
            writer.WriteStringValue(value.ToString());
    }
}
