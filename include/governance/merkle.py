"""The Merkle tree of RFC 6962 (section 2.1; RFC 9162 says the same) over SHA-256: roots, proofs, and their checks.

A leaf's hash is ``SHA-256(0x00 || data)``, an inner node's ``SHA-256(0x01 || left || right)``, and the tree of ``n``
leaves splits at the largest power of two below ``n``. The empty tree's root is the SHA-256 of nothing.

For the ledger, **the data of leaf ``i`` is the 32 bytes of the chain hash of event ``i + 1``** (see
:mod:`include.governance.ledger`): it commits to every field of that event and to all events before it.

Hashes are 32 bytes each. Nothing here needs a secret or a database, and no proof is ever "almost" right: the checks
return True or False for any input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

__all__ = [
    "EMPTY_ROOT",
    "Frontier",
    "consistency_ranges",
    "inclusion_ranges",
    "leaf_hash",
    "node_hash",
    "prove",
    "verify_consistency",
    "verify_inclusion",
]

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""

Range = tuple[int, int]
"""Leaves from the first number up to but without the second."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of the leaf that holds ``data``."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The right edge of a growing tree: all that is needed to go on with it, in at most ``log2(size) + 1`` hashes.

    :param size: number of leaves.
    :param nodes: the roots of the perfect subtrees that the leaves make up, from the left: one for each 1 in ``size``
        written in binary, the largest first.
    """

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, size: int, nodes: Iterable[bytes]) -> Self:
        """Return a frontier that was kept.

        :raises ValueError: when the number or the length of the nodes does not fit the size.
        """
        kept = list(nodes)
        if size < 0 or len(kept) != size.bit_count() or any(len(node) != 32 for node in kept):
            raise ValueError(f"{len(kept)} nodes are no frontier of a tree of {size} leaves")
        return cls(size, kept)

    def append(self, data: bytes) -> None:
        """Add the leaf that holds ``data``."""
        self.extend((data,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves by their data, in their order: two hashes for each on average."""
        nodes, size = self.nodes, self.size
        for data in leaves:
            node, full = sha256(b"\x00" + data).digest(), size
            while full & 1:
                node = sha256(b"\x01" + nodes.pop() + node).digest()
                full >>= 1
            nodes.append(node)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Return the root of the tree as it stands."""
        if not self.nodes:
            return EMPTY_ROOT
        *others, root = self.nodes
        for node in reversed(others):
            root = node_hash(node, root)
        return root


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the subtrees whose roots prove that leaf ``index`` is in a tree of ``size`` leaves (RFC 6962, 2.1.1).

    They are in the order of the proof, from the leaf upwards.

    :raises ValueError: when there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    found: list[Range] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((first, middle))
            first = middle
    return found[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Return the subtrees whose roots prove that a tree of ``new`` leaves begins with that of ``old`` (2.1.2).

    :raises ValueError: unless ``0 < old <= new``.
    """
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from a tree of {old} leaves to one of {new}")
    found: list[Range] = []
    first, end, whole = 0, new, True
    while old < end:
        middle = first + _split(end - first)
        if old <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((first, middle))
            first, whole = middle, False
    if not whole:
        found.append((first, end))
    return found[::-1]


def prove(ranges: Sequence[Range], leaves: Iterable[bytes]) -> list[bytes]:
    """Return the proof made of the roots of some subtrees.

    Streams: the leaves are read once, and only the edges of the subtrees are held.

    :param ranges: from :func:`inclusion_ranges` or :func:`consistency_ranges`; they do not overlap.
    :param leaves: the data of the tree's leaves, from the first.
    :raises ValueError: when the leaves end too early.
    """
    roots: dict[Range, bytes] = {}
    waiting = iter(leaves)
    done = 0
    for first, end in sorted(ranges):
        _skip(waiting, first - done)
        tree = Frontier()
        tree.extend(_take(waiting, end - first))
        if tree.size != end - first:
            raise ValueError(f"the tree has no leaf {first + tree.size}")
        roots[first, end], done = tree.root(), end
    return [roots[one] for one in ranges]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether a proof shows a leaf at ``index`` of the tree of ``size`` leaves with this root.

    After RFC 9162, section 2.1.3.2.

    :param leaf: the leaf's hash, from :func:`leaf_hash`.
    """
    if not 0 <= index < size or any(len(node) != 32 for node in proof):
        return False
    place, last, found = index, size - 1, leaf
    for node in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(node, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, node)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Tell whether a proof shows that the tree of ``new`` leaves begins with the tree of ``old``.

    After RFC 9162, section 2.1.4.2. Every tree begins with the empty one, whose root is known: that needs no proof.
    """
    if not 0 <= old <= new or any(len(node) != 32 for node in proof):
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found_new = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            found_old, found_new = node_hash(node, found_old), node_hash(node, found_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, node)
        place, last = place >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root


def _split(size: int) -> int:
    """Return the largest power of two below ``size`` (which is 2 or more)."""
    return 1 << ((size - 1).bit_length() - 1)


def _skip(leaves: Iterator[bytes], count: int) -> None:
    for _ in _take(leaves, count):
        pass


def _take(leaves: Iterator[bytes], count: int) -> Iterator[bytes]:
    for _ in range(count):
        leaf = next(leaves, None)
        if leaf is None:
            return
        yield leaf
