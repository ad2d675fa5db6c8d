using UsageMonitor.Server.Platform.Auditing;

namespace UsageMonitor.Server.Audit;

/// <summary>The first thing that is wrong with a chain.</summary>
/// <param name="Kind"><c>ALTERED</c>, <c>REMOVED</c>, <c>INSERTED</c>, <c>REORDERED</c> or <c>REWRITTEN</c>.</param>
/// <param name="Sequence">Of the first entry that is not what it was, or is not there.</param>
/// <param name="Detail">For people.</param>
internal sealed record AuditFault(string Kind, long Sequence, string Detail);

/// <summary>What was found.</summary>
/// <param name="Fault">The first fault, or null: the chain is whole.</param>
/// <param name="Entries">How many entries were looked at.</param>
/// <param name="First">The first one's sequence, or 0.</param>
/// <param name="Last">The last one's sequence, or 0.</param>
/// <param name="Sealed">Entries whose content could not be read, so that only its hash was held to the chain.</param>
/// <param name="AnchoredTo">How far the newest matching checkpoint reaches, or 0.</param>
internal sealed record AuditVerdict(
    AuditFault? Fault,
    long Entries,
    long First,
    long Last,
    long Sealed,
    long AnchoredTo
);

/// <summary>
/// Follows a chain entry by entry, in the order in which they come, and names the first that was altered, removed, inserted or put
/// elsewhere. Hashes show that something is wrong; what becomes of the entries behind shows what it was.
/// </summary>
internal sealed class AuditVerifier
{
    private const int ShiftMax = 1_000;

    private readonly SortedDictionary<long, AuditAnchor> _anchors = [];
    private readonly long _from;
    private AuditRecord? _last;
    private AuditRecord? _suspect;
    private AuditRecord? _moved;
    private long _missing;
    private bool _seenMissing;
    private bool _seenPredecessor;
    private long _insertedAt;
    private AuditFault? _fault;
    private long _entries;
    private long _first;
    private long _sealed;
    private long _anchoredTo;
    private long _highest;

    /// <param name="anchors">What has been signed.</param>
    /// <param name="from">The sequence with which the entries are to begin; 0: whichever comes.</param>
    public AuditVerifier(IEnumerable<AuditAnchor> anchors, long from)
    {
        _from = from;
        foreach (AuditAnchor anchor in anchors)
        {
            // Of two that differ the earlier one was signed before whatever happened since.
            if (!_anchors.TryGetValue(anchor.Sequence, out AuditAnchor? known) || anchor.SignedAt < known.SignedAt)
            {
                _anchors[anchor.Sequence] = anchor;
            }
        }
    }

    public void Add(AuditRecord record)
    {
        _entries++;
        _sealed += record.Content is null ? 1 : 0;
        _highest = Math.Max(_highest, record.Sequence);
        if (_first == 0)
        {
            _first = record.Sequence;
        }

        if (_fault is not null)
        {
            return;
        }

        if (_missing > 0 || _moved is not null)
        {
            Watch(record);
            return;
        }

        if (_suspect is not null)
        {
            Judge(record);
            return;
        }

        Check(record);
    }

    /// <summary>The chain has come to its end.</summary>
    public AuditVerdict End()
    {
        if (_fault is null && _suspect is { } suspect)
        {
            // Nobody behind it vouches for it; a checkpoint may.
            bool vouched =
                _anchors.TryGetValue(suspect.Sequence, out AuditAnchor? anchor)
                && anchor.Hash.AsSpan().SequenceEqual(suspect.Hash);
            _fault = vouched ? Altered(_last!.Sequence) : Altered(suspect.Sequence);
        }

        if (_fault is null && _missing > 0)
        {
            _fault = _seenMissing
                ? new AuditFault("REORDERED", _missing, $"Entry {_missing} is there, in another place.")
                : Removed(_missing);
        }

        if (_fault is null && _moved is { } moved)
        {
            _fault =
                _insertedAt > 0 ? new AuditFault("INSERTED", _insertedAt, $"Entry {_insertedAt} was put in later.")
                : _seenPredecessor
                    ? new AuditFault("REORDERED", moved.Sequence, $"What stands at {moved.Sequence} is another entry.")
                : Removed(moved.Sequence);
        }

        if (_fault is null)
        {
            // The end: what has been signed beyond it is gone.
            foreach (AuditAnchor anchor in _anchors.Values)
            {
                if (anchor.Sequence > (_last?.Sequence ?? 0))
                {
                    _fault = Removed(_last is { } last ? last.Sequence + 1 : Math.Max(1, _from));
                    break;
                }
            }
        }

        return new AuditVerdict(_fault, _entries, _first, _highest, _sealed, _anchoredTo);
    }

    private void Check(AuditRecord record)
    {
        long expected =
            _last is { } last ? last.Sequence + 1
            : _from > 0 ? _from
            : record.Sequence;
        if (record.Sequence < expected)
        {
            _fault = new AuditFault(
                "INSERTED",
                record.Sequence,
                $"There is more than one entry {record.Sequence}, or it stands behind later ones."
            );
            return;
        }

        if (record.Sequence > expected)
        {
            _missing = expected;
            return;
        }

        byte[] before = _last?.Hash ?? Beginning(record);
        if (!IsOwn(record, record.Sequence))
        {
            Unlike(record);
        }
        else if (!record.PreviousHash.AsSpan().SequenceEqual(before))
        {
            if (_last is null)
            {
                _fault = Altered(record.Sequence);
            }
            else
            {
                _suspect = record;
            }
        }
        else if (!HasContent(record))
        {
            _fault = new AuditFault(
                "ALTERED",
                record.Sequence,
                $"What entry {record.Sequence} tells of what was done was altered."
            );
        }
        else
        {
            Accept(record);
        }
    }

    // What the entries before are gone of, a checkpoint tells; of a part of a chain nobody does.
    private byte[] Beginning(AuditRecord first) =>
        first.Sequence == 1 ? AuditChain.Genesis
        : _anchors.TryGetValue(first.Sequence - 1, out AuditAnchor? anchor) ? anchor.Hash
        : first.PreviousHash;

    private void Accept(AuditRecord record)
    {
        if (_anchors.TryGetValue(record.Sequence, out AuditAnchor? anchor))
        {
            if (!anchor.Hash.AsSpan().SequenceEqual(record.Hash))
            {
                long from = _anchoredTo + 1;
                bool isItAlone = anchor.PreviousHash?.AsSpan().SequenceEqual(record.PreviousHash) == true;
                _fault =
                    from == record.Sequence || isItAlone
                        ? Altered(record.Sequence)
                        : new AuditFault(
                            "REWRITTEN",
                            from,
                            $"The chain was written anew somewhere from entry {from} to {record.Sequence}: the checkpoint of {record.Sequence} has another hash."
                        );
                return;
            }

            _anchoredTo = record.Sequence;
        }

        _last = record;
    }

    // A hash that is not the entry's own: changed where it stands, or an entry of another place.
    private void Unlike(AuditRecord record)
    {
        for (int shift = 1; shift <= ShiftMax; shift++)
        {
            if (IsOwn(record, record.Sequence + shift))
            {
                // It stood further behind: what stood here is gone, or stands elsewhere.
                _moved = record;
                return;
            }

            if (record.Sequence - shift > 0 && IsOwn(record, record.Sequence - shift))
            {
                // It stood further ahead, where something else stands now: that one was let pass, so it was made to fit.
                _moved = record;
                _insertedAt = record.Sequence - shift;
                return;
            }
        }

        _fault = Altered(record.Sequence);
    }

    private void Watch(AuditRecord record)
    {
        _seenMissing |= record.Sequence == _missing;
        _seenPredecessor |= _moved is { } moved && moved.PreviousHash.AsSpan().SequenceEqual(record.Hash);
    }

    // The entry after a break tells which side of it is genuine.
    private void Judge(AuditRecord next)
    {
        bool vouched =
            next.Sequence == _suspect!.Sequence + 1
            && next.PreviousHash.AsSpan().SequenceEqual(_suspect.Hash)
            && IsOwn(next, next.Sequence);
        _fault = vouched ? Altered(_last!.Sequence) : Altered(_suspect.Sequence);
    }

    private static bool IsOwn(AuditRecord record, long sequence)
    {
        string canonical = AuditChain.Canonical(record.Columns with { Sequence = sequence });
        return AuditChain.Hash(record.PreviousHash, canonical).AsSpan().SequenceEqual(record.Hash);
    }

    private static bool HasContent(AuditRecord record) =>
        record is not { Content: { } content, Salt: { } salt }
        || Convert.ToHexStringLower(AuditChain.ContentHash(salt, content)) == record.Columns.ContentHash;

    private static AuditFault Altered(long sequence) => new("ALTERED", sequence, $"Entry {sequence} was altered.");

    private static AuditFault Removed(long sequence) => new("REMOVED", sequence, $"Entry {sequence} is not there.");
}
