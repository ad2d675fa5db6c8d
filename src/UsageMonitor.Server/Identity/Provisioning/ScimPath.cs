using System.Globalization;
using System.Text.Json;

namespace UsageMonitor.Server.Identity.Provisioning;

/// <summary>A comparison <c>attribute eq value</c>.</summary>
/// <param name="Attribute">In lower case, without schema and brackets, such as <c>emails.value</c>.</param>
/// <param name="Value">A text as it is, <c>true</c> and numbers as they are written.</param>
internal readonly record struct ScimComparison(string Attribute, string Value);

/// <summary>
/// Where a PATCH changes something (RFC 7644, 3.5.2): <c>name.givenName</c>, <c>members[value eq "…"]</c>,
/// <c>emails[type eq "work"].value</c>.
/// </summary>
/// <param name="Attribute">In lower case; empty for the resource itself.</param>
/// <param name="Filter">Which of its values, or null: all.</param>
/// <param name="SubAttribute">In lower case, or null.</param>
internal sealed record ScimPath(string Attribute, ScimComparison? Filter, string? SubAttribute)
{
    public const int CharactersMax = 500;
    private static readonly string[] s_schemas = [ScimSchemas.User, ScimSchemas.Group];

    public static ScimPath Resource { get; } = new("", null, null);

    /// <summary>Attribute and sub-attribute, such as <c>name.givenname</c>.</summary>
    public string Name => SubAttribute is null ? Attribute : $"{Attribute}.{SubAttribute}";

    /// <summary>An attribute of a schema of another kind, which nobody here knows.</summary>
    public bool IsForeign => Attribute.StartsWith("urn:", StringComparison.Ordinal);

    /// <exception cref="ScimException">It is no path.</exception>
    public static ScimPath Parse(string text)
    {
        if (text.Length > CharactersMax)
        {
            throw ScimException.InvalidPath($"A path may have {CharactersMax} characters.");
        }

        string path = WithoutSchema(text.Trim());
        if (path.StartsWith("urn:", StringComparison.OrdinalIgnoreCase))
        {
            return new ScimPath(path.ToLowerInvariant(), null, null);
        }

        ScimComparison? filter = null;
        int open = path.IndexOf('[', StringComparison.Ordinal);
        if (open >= 0)
        {
            var scanner = new ScimScanner(path, open + 1);
            filter = scanner.ReadComparison();
            scanner.Expect(']');
            path = path[..open] + scanner.Rest;
        }

        string[] names = path.ToLowerInvariant().Split('.');
        return names.Length <= 2 && names.All(IsName) || path.Length == 0
            ? new ScimPath(names[0], filter, names.Length == 2 ? names[1] : null)
            : throw ScimException.InvalidPath("The path is none of SCIM's.");
    }

    /// <summary>The attribute alone when its schema is written before it.</summary>
    public static string WithoutSchema(string path)
    {
        foreach (string schema in s_schemas)
        {
            if (path.StartsWith(schema, StringComparison.OrdinalIgnoreCase))
            {
                return path.Length == schema.Length ? ""
                    : path[schema.Length] == ':' ? path[(schema.Length + 1)..]
                    : path;
            }
        }

        return path;
    }

    private static bool IsName(string name) =>
        name.Length > 0
        && name.All(character => char.IsAsciiLetterOrDigit(character) || character is '-' or '_' or '$');
}

/// <summary>A filter of the forms that provisioning systems send: <c>eq</c>, joined by <c>and</c>.</summary>
internal static class ScimFilter
{
    private const int CharactersMax = 1_000;
    private const int ComparisonsMax = 5;

    /// <exception cref="ScimException">It is no filter, or one that is not supported.</exception>
    public static List<ScimComparison> Parse(string? text)
    {
        var comparisons = new List<ScimComparison>();
        if (string.IsNullOrWhiteSpace(text))
        {
            return comparisons;
        }

        if (text.Length > CharactersMax)
        {
            throw ScimException.InvalidFilter($"A filter may have {CharactersMax} characters.");
        }

        var scanner = new ScimScanner(text, 0);
        do
        {
            comparisons.Add(scanner.ReadComparison());
            if (comparisons.Count > ComparisonsMax)
            {
                throw ScimException.InvalidFilter($"A filter may have {ComparisonsMax} comparisons.");
            }
        } while (scanner.TryReadAnd());

        return scanner.Rest.Length == 0
            ? comparisons
            : throw ScimException.InvalidFilter("Only eq is supported, joined by and.");
    }
}

/// <summary>Reads comparisons from a text.</summary>
internal sealed class ScimScanner(string text, int start)
{
    private int _at = start;

    /// <summary>What has not been read.</summary>
    public string Rest => text[_at..].Trim();

    public ScimComparison ReadComparison()
    {
        string attribute = ReadAttribute();
        if (!ReadWord().Equals("eq", StringComparison.OrdinalIgnoreCase))
        {
            throw ScimException.InvalidFilter("Only eq is supported, joined by and.");
        }

        return new ScimComparison(attribute, ReadValue());
    }

    public bool TryReadAnd()
    {
        int before = _at;
        if (ReadWord().Equals("and", StringComparison.OrdinalIgnoreCase))
        {
            return true;
        }

        _at = before;
        return false;
    }

    public void Expect(char character)
    {
        SkipSpaces();
        if (_at >= text.Length || text[_at++] != character)
        {
            throw ScimException.InvalidFilter(string.Create(CultureInfo.InvariantCulture, $"{character} is missing."));
        }
    }

    // The values that a bracket chooses among do not matter to whether one of them is equal.
    private string ReadAttribute()
    {
        SkipSpaces();
        int from = _at;
        string attribute = "";
        while (_at < text.Length && text[_at] != ' ')
        {
            if (text[_at] == '[')
            {
                attribute += text[from.._at];
                _at++;
                ReadComparison();
                Expect(']');
                from = _at;
            }
            else
            {
                _at++;
            }
        }

        attribute = ScimPath.WithoutSchema(attribute + text[from.._at]).ToLowerInvariant();
        return attribute.Length > 0 ? attribute : throw ScimException.InvalidFilter("An attribute is missing.");
    }

    private string ReadWord()
    {
        SkipSpaces();
        int from = _at;
        while (
            _at < text.Length && char.IsAsciiLetterOrDigit(text[_at]) || _at < text.Length && text[_at] is '.' or '-'
        )
        {
            _at++;
        }

        return text[from.._at];
    }

    private string ReadValue()
    {
        SkipSpaces();
        if (_at >= text.Length || text[_at] != '"')
        {
            string word = ReadWord();
            return word.Length > 0 ? word : throw ScimException.InvalidFilter("A value is missing.");
        }

        int from = _at++;
        while (_at < text.Length && text[_at] != '"')
        {
            _at += text[_at] == '\\' ? 2 : 1;
        }

        if (_at >= text.Length)
        {
            throw ScimException.InvalidFilter("A quotation mark is missing.");
        }

        try
        {
            return JsonSerializer.Deserialize<string>(text.AsSpan(from, ++_at - from))!;
        }
        catch (JsonException)
        {
            throw ScimException.InvalidFilter("A value is not a JSON text.");
        }
    }

    private void SkipSpaces()
    {
        while (_at < text.Length && text[_at] == ' ')
        {
            _at++;
        }
    }
}
