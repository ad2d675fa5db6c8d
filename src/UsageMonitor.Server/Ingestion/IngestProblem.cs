namespace UsageMonitor.Server.Ingestion;

/// <summary>Why a whole request is refused: nothing of it is accepted.</summary>
/// <param name="Status">The HTTP status.</param>
/// <param name="Code">Stable, one of the constants here.</param>
/// <param name="Detail">For people: what is wrong and where.</param>
internal sealed record IngestProblem(int Status, string Code, string Detail)
{
    public const string BodyTooLarge = "body_too_large";
    public const string InvalidCompression = "invalid_compression";
    public const string InvalidJson = "invalid_json";
    public const string InvalidRequest = "invalid_request";
    public const string TooManyEvents = "too_many_events";
    public const string UnsupportedEncoding = "unsupported_encoding";
    public const string UnsupportedMediaType = "unsupported_media_type";

    public static IngestProblem NotJson(string detail) => new(StatusCodes.Status400BadRequest, InvalidJson, detail);
}
