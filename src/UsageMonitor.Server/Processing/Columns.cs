using Npgsql;

namespace UsageMonitor.Server.Processing;

/// <summary>Rows as the columns that a statement unnests.</summary>
internal static class Columns
{
    public static NpgsqlParameter<TColumn[]> Of<TRow, TColumn>(List<TRow> rows, Func<TRow, TColumn> read)
    {
        var column = new TColumn[rows.Count];
        for (int i = 0; i < column.Length; i++)
        {
            column[i] = read(rows[i]);
        }

        return new NpgsqlParameter<TColumn[]> { TypedValue = column };
    }

    public static NpgsqlParameter<DateTime> Value(DateTime utc) => new() { TypedValue = utc };
}
