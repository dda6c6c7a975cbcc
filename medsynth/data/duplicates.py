"""Search for images that occur more than once: exact copies by digests, near duplicates by perceptual hashes.

The hash (pHash: signs of the low frequencies of the discrete cosine transform, Zauner 2010) has 256 bits. Measured on
abdominal and head CT and hand radiographs of 64x64 pixels, copies that were re-encoded as JPEG (quality 75), resized,
brightened or darkened differ in 6 bits at most; unrelated images differ in about 128. The hash misses copies that were
cropped or shifted by a pixel (20 to 80 bits), mirrored or rotated, and re-encoded copies of images without fine detail.
It cannot distinguish copies from similar images: pairs within 4 bits are mostly versions of one slice, from 6 bits on
some are neighboring slices of a volume, from 16 bits on nearly all are, and images of little content, such as a
headrest alone, match at any distance. 6 bits are therefore a cautious default, and pairs should be looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medsynth.data.reading import SPLITS
from medsynth.terminal import track

NEAR = 6  # bits in which near duplicates that stay in one split differ at most
LISTED = 1000  # pairs and groups; all are counted
_LEVEL = 0.02  # of an image's range: pixels that are farther from its median are content
_CONTENT = 0.05  # the least fraction of such pixels with which a perceptual hash says something
_BLOCK = (256, 2048)  # rows compared at a time, so that intermediate results fit into the processor's cache


def exact(digests: Sequence[str]) -> list[list[int]]:
    """Return the rows of each digest that occurs more than once, in the order of their first."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        groups[digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def near(perceptual: Sequence[str], distance: int) -> Iterator[np.ndarray]:
    """Find pairs of rows whose hashes differ in at most ``distance`` bits, in blocks that bound the memory.

    Args:
        perceptual: hexadecimal hashes of 64 bits or a multiple.
        distance: the largest Hamming distance.

    Yields:
        int64 ``(pairs, 3)``: a row, a later row, and their Hamming distance.
    """
    content = np.frombuffer(bytes.fromhex("".join(perceptual)), np.uint64)
    words = content.reshape(max(len(perceptual), 1), -1)
    height, width = _BLOCK
    firsts = range(0, len(perceptual), height)
    for first in track(firsts, "comparing", total=len(firsts), unit="blocks"):
        for second in range(first - first % width, len(words), width):
            pairs = _pairs(words, first, second, distance)
            if len(pairs):
                yield pairs


def clusters(digests: Sequence[str], perceptual: Sequence[str], comparable: np.ndarray) -> np.ndarray:
    """Return a number for each image, equal for duplicates, direct ones and through other images.

    Args:
        digests: equal digests mean exact copies.
        perceptual: hexadecimal hashes of 256 bits; near duplicates differ in ``NEAR`` bits at most.
        comparable: bool ``(N,)``: the images whose perceptual hashes count.

    Returns:
        int ``(N,)``.
    """
    _, copy = np.unique(np.asarray(digests), return_inverse=True)
    known, kind = np.unique(np.asarray(perceptual)[comparable], return_inverse=True)
    pairs = _near_of_distinct(known.tolist(), NEAR) + copy.max(initial=-1) + 1
    edges = np.concatenate([np.stack([copy[comparable], kind + copy.max(initial=-1) + 1], axis=1), pairs])
    size = int(max(copy.max(initial=-1), edges.max(initial=-1))) + 1
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1][copy]


def have_content(images: np.ndarray) -> np.ndarray:
    """Tell which images ``(N, C, H, W)`` show enough for a perceptual hash: bool ``(N,)``.

    The hash stretches the values to their range, so that images of one value and a few other pixels, such as black
    slices with a marker, have equal hashes.
    """
    values = images.reshape(len(images), -1)
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    away = np.abs(values - np.median(values, axis=1, keepdims=True)) > _LEVEL * (high - low)
    return away.mean(1) >= _CONTENT


def find_duplicates(
    images: Mapping[str, Sequence[Any]], splits: Mapping[str, Sequence[int]], distance: int | None
) -> dict[str, Any]:
    """Count exact copies and near duplicates, and list the first of them as rows.

    Slices of one patient resemble each other naturally; where patients are known, pairs within a patient are counted
    separately.

    Args:
        images: columns ``digest``, ``perceptual``, ``patient`` ("" where not known), by row.
        splits: split -> rows; other rows are ignored.
        distance: largest number of different bits between near duplicates; None: no search for these.

    Returns:
        ``{"exact": ..., "near": ...}`` of plain numbers and lists. Pairs across splits come first, then the nearest.
    """
    split_of = {row: SPLITS.index(name) for name, rows in splits.items() for row in rows}
    rows = sorted(split_of)
    columns = {name: np.array(images[name])[rows] for name in ("digest", "patient")}
    split = np.array([split_of[row] for row in rows])
    result: dict[str, Any] = {"exact": _exact(columns["digest"].tolist(), rows, split)}
    if distance is not None:
        perceptual = images["perceptual"]
        hashes = [perceptual[row] for row in rows]
        result["near"] = _near(near(hashes, distance), rows, split, **columns) | {"distance": distance}
    return result


def _exact(digests: Sequence[str], rows: Sequence[int], split: np.ndarray) -> dict[str, Any]:
    groups = exact(digests)
    across = [len(set(split[group].tolist())) > 1 for group in groups]
    order = sorted(range(len(groups)), key=lambda number: not across[number])
    return {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "groups_across_splits": sum(across),
        "first": [[rows[position] for position in groups[number]] for number in order[:LISTED]],
    }


def _near(
    blocks: Iterator[np.ndarray], rows: Sequence[int], split: np.ndarray, *, digest: np.ndarray, patient: np.ndarray
) -> dict[str, Any]:
    counts = {"pairs": 0, "pairs_across_splits": 0, "pairs_within_patient": 0}
    involved, leaked = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    first = np.empty((0, 3), dtype=np.int64)
    for block in blocks:
        pairs = block[digest[block[:, 0]] != digest[block[:, 1]]]
        one, other = pairs[:, 0], pairs[:, 1]
        across = split[one] != split[other]
        counts["pairs"] += len(pairs)
        counts["pairs_across_splits"] += int(across.sum())
        counts["pairs_within_patient"] += int(((patient[one] == patient[other]) & (patient[one] != "")).sum())
        involved[pairs[:, :2]] = True
        leaked[pairs[across & ((split[one] == 0) | (split[other] == 0)), :2]] = True
        first = np.concatenate([first, pairs])
        within = split[first[:, 0]] == split[first[:, 1]]
        first = first[np.lexsort((first[:, 1], first[:, 0], first[:, 2], within))[:LISTED]]
    known = bool((patient != "").any())
    return {
        **counts,
        "pairs_within_patient": counts["pairs_within_patient"] if known else None,
        "images": int(involved.sum()),
        "held_out_images_near_training": int((leaked & (split != 0)).sum()),
        "first": [[rows[one], rows[other], bits] for one, other, bits in first.tolist()],
    }


def _near_of_distinct(perceptual: Sequence[str], distance: int) -> np.ndarray:
    """Find the pairs of distinct hashes that differ in at most ``distance`` bits, int64 ``(pairs, 2)``.

    Hashes that differ in so few bits are equal in one of ``distance + 1`` bands of bits, so that only hashes with an
    equal band are compared: the time grows with their number instead of its square.
    """
    words = np.frombuffer(bytes.fromhex("".join(perceptual)), np.uint64).reshape(max(len(perceptual), 1), -1)
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in range(distance + 1 if len(perceptual) else 0):
        packed = np.packbits(bits[:, band :: distance + 1], axis=1)
        _, key = np.unique(packed, axis=0, return_inverse=True)
        order = np.argsort(key, kind="stable")
        key, step = key[order], 1
        first = np.flatnonzero(key[:-1] == key[1:])
        while len(first):
            one, other = order[first], order[first + step]
            near_enough = np.bitwise_count(words[one] ^ words[other]).sum(1, dtype=np.int64) <= distance
            found.append(np.stack([one, other], axis=1)[near_enough])
            step += 1
            first = first[first + step < len(key)]
            first = first[key[first] == key[first + step]]
    return np.concatenate(found)


def _pairs(words: np.ndarray, first: int, second: int, distance: int) -> np.ndarray:
    left, right = words[first : first + _BLOCK[0]], words[second : second + _BLOCK[1]]
    # The first word alone excludes nearly all pairs: its part of the distance is already too large.
    i, j = np.nonzero(np.bitwise_count(left[:, None, 0] ^ right[None, :, 0]) <= distance)
    later = j + second > i + first
    i, j = i[later], j[later]
    differences = np.bitwise_count(left[i] ^ right[j]).sum(1, dtype=np.int64)
    close = differences <= distance
    return np.stack([i[close] + first, j[close] + second, differences[close]], axis=1)
