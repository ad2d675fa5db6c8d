using System.Reflection;
using System.Reflection.Emit;
using UsageMonitor.Server;
using UsageMonitor.Server.Platform;
using Xunit;

namespace UsageMonitor.Tests.Api;

/// <summary>
/// A folder knows those before it on the way of an event and Platform, never those after it. Looks at everything a type
/// mentions: bases, members, attributes aside, and the instructions of its methods.
/// </summary>
public sealed class LayeringTests
{
    private const string Root = "UsageMonitor.Server";

    /// <summary>What each folder may know, beside itself. The root composes them all, and nobody knows the root.</summary>
    private static readonly Dictionary<string, string[]> s_allowed = new()
    {
        ["Platform"] = [],
        ["Identity"] = ["Platform"],
        ["Gateway"] = ["Identity", "Platform"],
        ["Policies"] = ["Gateway", "Identity", "Platform"],
        ["Limits"] = ["Policies", "Gateway", "Identity", "Platform"],
        ["Ingestion"] = ["Limits", "Policies", "Gateway", "Platform"],
        ["Alerts"] = ["Limits", "Gateway", "Identity", "Platform"],
        ["Processing"] = ["Ingestion", "Alerts", "Limits", "Platform"],
        ["Anomalies"] = ["Processing", "Alerts", "Limits", "Gateway", "Identity", "Platform"],
        ["Audit"] = ["Alerts", "Gateway", "Identity", "Platform"],
        ["Archive"] = ["Processing", "Ingestion", "Limits", "Gateway", "Identity", "Platform"],
        ["Dashboard"] = ["Archive", "Processing", "Limits", "Platform"],
        ["Web"] =
        [
            "Dashboard",
            "Audit",
            "Archive",
            "Anomalies",
            "Alerts",
            "Ingestion",
            "Limits",
            "Policies",
            "Identity",
            "Platform",
        ],
        ["Backup"] = ["Audit", "Archive", "Platform"],
        ["Import"] = [],
        ["Demo"] = ["Identity", "Ingestion", "Policies", "Platform"],
    };

    /// <summary>Known and deliberate, with the reason.</summary>
    private static readonly Dictionary<(Type, string), string> s_excused = new()
    {
        [(typeof(ServerSettings), "")] =
            "checks the names of roles with all other settings, so that every error is told at once",
    };

    private static readonly Dictionary<short, OpCode> s_opcodes = typeof(OpCodes)
        .GetFields(BindingFlags.Public | BindingFlags.Static)
        .Select(field => (OpCode)field.GetValue(null)!)
        .ToDictionary(opcode => opcode.Value);

    [Fact]
    public void Folders_WhenListed_ShouldAllBeInTheTable() =>
        Assert.Equal([], Types().Select(FolderOf).Where(folder => folder.Length > 0).Distinct().Except(s_allowed.Keys));

    [Fact]
    public void Types_WhenTheyMentionOthers_ShouldOnlyKnowWhatTheirFolderMay()
    {
        var violations = new SortedSet<string>(StringComparer.Ordinal);
        foreach (Type type in Types().Where(type => FolderOf(type).Length > 0))
        {
            string folder = FolderOf(type);
            foreach (Type mentioned in Mentions(type).Where(IsOurs))
            {
                string other = FolderOf(mentioned);
                if (
                    other != folder
                    && !s_allowed[folder].Contains(other)
                    && !s_excused.ContainsKey((Outermost(type), other))
                )
                {
                    violations.Add(
                        $"{folder} must not know {(other.Length == 0 ? "the root" : other)}: {Outermost(type).Name} mentions {mentioned.Name}"
                    );
                }
            }
        }

        Assert.True(violations.Count == 0, string.Join('\n', violations));
    }

    // What the compiler and source generators add is in no namespace, or in one of their own.
    private static IEnumerable<Type> Types() => typeof(ServerHost).Assembly.GetTypes().Where(IsOurs);

    private static bool IsOurs(Type type) =>
        type.Assembly == typeof(ServerHost).Assembly
        && (type.Namespace is Root || type.Namespace?.StartsWith(Root + ".", StringComparison.Ordinal) == true);

    private static string FolderOf(Type type) =>
        type.Namespace is { } name && name.StartsWith(Root + ".", StringComparison.Ordinal)
            ? name[(Root.Length + 1)..].Split('.')[0]
            : "";

    private static Type Outermost(Type type) => type.DeclaringType is { } outer ? Outermost(outer) : type;

    private static HashSet<Type> Mentions(Type type)
    {
        const BindingFlags Own =
            BindingFlags.Public
            | BindingFlags.NonPublic
            | BindingFlags.Static
            | BindingFlags.Instance
            | BindingFlags.DeclaredOnly;
        var found = new HashSet<Type>();
        Add(found, type.BaseType);
        Array.ForEach(type.GetInterfaces(), each => Add(found, each));
        Array.ForEach(type.GetFields(Own), field => Add(found, field.FieldType));
        foreach (MethodBase method in type.GetMethods(Own).Cast<MethodBase>().Concat(type.GetConstructors(Own)))
        {
            Array.ForEach(method.GetParameters(), parameter => Add(found, parameter.ParameterType));
            Add(found, (method as MethodInfo)?.ReturnType);
            foreach (LocalVariableInfo local in method.GetMethodBody()?.LocalVariables ?? [])
            {
                Add(found, local.LocalType);
            }

            foreach (MemberInfo member in MembersInCode(method))
            {
                Add(found, member as Type ?? member.DeclaringType);
                foreach (Type argument in (member as MethodInfo)?.GetGenericArguments() ?? [])
                {
                    Add(found, argument);
                }
            }
        }

        return found;
    }

    private static void Add(HashSet<Type> found, Type? type)
    {
        if (type is null || type.IsGenericParameter)
        {
            return;
        }

        if (type.HasElementType)
        {
            Add(found, type.GetElementType());
            return;
        }

        found.Add(type.IsGenericType ? type.GetGenericTypeDefinition() : type);
        foreach (Type argument in type.GetGenericArguments())
        {
            Add(found, argument);
        }
    }

    private static IEnumerable<MemberInfo> MembersInCode(MethodBase method)
    {
        byte[] code = method.GetMethodBody()?.GetILAsByteArray() ?? [];
        for (int at = 0; at < code.Length; )
        {
            short value = code[at] == 0xFE ? (short)(0xFE00 | code[at + 1]) : code[at];
            OpCode opcode = s_opcodes[value];
            at += opcode.Size;
            if (
                opcode.OperandType
                is OperandType.InlineMethod
                    or OperandType.InlineField
                    or OperandType.InlineType
                    or OperandType.InlineTok
            )
            {
                yield return method.Module.ResolveMember(
                    BitConverter.ToInt32(code, at),
                    method.DeclaringType!.GetGenericArguments(),
                    method.IsGenericMethod ? method.GetGenericArguments() : []
                )!;
            }

            at += opcode.OperandType switch
            {
                OperandType.InlineNone => 0,
                OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
                OperandType.InlineVar => 2,
                OperandType.InlineI8 or OperandType.InlineR => 8,
                OperandType.InlineSwitch => 4 + (4 * BitConverter.ToInt32(code, at)),
                _ => 4,
            };
        }
    }
}
