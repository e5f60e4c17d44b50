"""The Merkle tree against the published vectors, and against the RFC's own recursive definition for every size."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.governance.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    prove,
    verify_consistency,
    verify_inclusion,
)

# The tests of certificate-transparency (merkletree/merkle_tree_test.cc) publish these leaves, roots and paths.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def grown(leaves: list[bytes]) -> Frontier:
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree


# ---- the definition of the RFC, word by word: slow, and written without a look at the code above


def mth(d: list[bytes]) -> bytes:
    if not d:
        return hashlib.sha256(b"").digest()
    if len(d) == 1:
        return hashlib.sha256(b"\x00" + d[0]).digest()
    k = 1
    while 2 * k < len(d):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = 1
    while 2 * k < len(d):
        k *= 2
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], complete: bool) -> list[bytes]:
    if m == len(d):
        return [] if complete else [mth(d)]
    k = 1
    while 2 * k < len(d):
        k *= 2
    if m <= k:
        return [*subproof(m, d[:k], complete), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


# ---- the published vectors


@pytest.mark.proves("the Merkle tree is that of RFC 6962: published roots and paths")
@pytest.mark.parametrize("size", range(9))
def test_the_published_roots(size: int) -> None:
    assert grown(LEAVES[:size]).root().hex() == ROOTS[size]
    assert mth(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_inclusion_paths(index: int, size: int) -> None:
    proof = prove(inclusion_ranges(index, size), LEAVES)
    assert [node.hex() for node in proof] == INCLUSION[index, size]
    assert verify_inclusion(leaf_hash(LEAVES[index]), index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_published_consistency_paths(old: int, new: int) -> None:
    proof = prove(consistency_ranges(old, new), LEAVES)
    assert [node.hex() for node in proof] == CONSISTENCY[old, new]
    assert verify_consistency(old, new, proof, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


# ---- every size


@pytest.mark.parametrize("size", range(1, 34))
def test_every_proof_of_every_small_tree(size: int) -> None:
    leaves = [bytes([number]) for number in range(size)]
    root = grown(leaves).root()
    assert root == mth(leaves)
    for index in range(size):
        proof = prove(inclusion_ranges(index, size), leaves)
        assert proof == path(index, leaves)
        for place in range(size):
            right = verify_inclusion(leaf_hash(leaves[index]), place, size, proof, root)
            assert right == (place == index)
    for old in range(1, size + 1):
        proof = prove(consistency_ranges(old, size), leaves)
        assert proof == subproof(old, leaves, True)
        for claimed in range(size + 2):
            right = verify_consistency(claimed, size, proof, mth(leaves[:claimed]), root)
            # An empty proof also shows that nothing comes before everything.
            assert right == (claimed == old or (claimed == 0 and not proof))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=300), st.data())
def test_any_tree(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    root = mth(leaves)
    cut = data.draw(st.integers(0, size))
    tree = grown(leaves[:cut])
    assert tree.root() == mth(leaves[:cut])
    tree = Frontier.of(tree.size, tree.nodes)  # kept and read again
    tree.extend(leaves[cut:])
    assert (tree.size, tree.root(), len(tree.nodes)) == (size, root, size.bit_count())
    index = data.draw(st.integers(0, size - 1))
    proof = prove(inclusion_ranges(index, size), iter(leaves))
    assert proof == path(index, leaves)
    assert verify_inclusion(leaf_hash(leaves[index]), index, size, proof, root)
    if cut:
        shown = prove(consistency_ranges(cut, size), iter(leaves))
        assert shown == subproof(cut, leaves, True)
        assert verify_consistency(cut, size, shown, mth(leaves[:cut]), root)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 70), st.data())
def test_a_changed_proof_shows_nothing(size: int, data: st.DataObject) -> None:
    leaves = [number.to_bytes(2) for number in range(size)]
    root = mth(leaves)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion, consistency = path(index, leaves), subproof(old, leaves, True)
    for proof, holds in (
        (inclusion, lambda p: verify_inclusion(leaf_hash(leaves[index]), index, size, p, root)),
        (consistency, lambda p: verify_consistency(old, size, p, mth(leaves[:old]), root)),
    ):
        assert holds(proof)
        changes = [[*proof, EMPTY_ROOT], [EMPTY_ROOT, *proof], proof[:-1], proof[1:], [node[:31] for node in proof]]
        changes += [[*proof[:at], EMPTY_ROOT, *proof[at + 1 :]] for at in range(len(proof))]
        assert not any(holds(other) for other in changes if other != proof)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, inclusion, root)
    assert not verify_inclusion(leaf_hash(leaves[index]), index, size, inclusion, EMPTY_ROOT)
    assert not verify_consistency(old, size, consistency, EMPTY_ROOT, root)


def test_what_is_no_tree_is_refused() -> None:
    for wrong in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_ranges(*wrong)
    for wrong in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="no proof leads"):
            consistency_ranges(*wrong)
    with pytest.raises(ValueError, match="the tree has no leaf 3"):
        prove(inclusion_ranges(0, 8), LEAVES[:3])
    with pytest.raises(ValueError, match="no frontier of a tree of 3 leaves"):
        Frontier.of(3, [EMPTY_ROOT])
    assert not verify_inclusion(b"", -1, 0, [], EMPTY_ROOT)
    assert not verify_consistency(3, 2, [], EMPTY_ROOT, EMPTY_ROOT)
    assert verify_consistency(0, 2, [], EMPTY_ROOT, leaf_hash(b"x"))
