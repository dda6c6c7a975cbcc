"""Exact copies and near duplicates: compared with a direct search and with altered copies, and their speed."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from medsynth.data import duplicates
from medsynth.data.duplicates import clusters, exact, find_duplicates, have_content, near
from medsynth.data.record_reading import _perceptual_hash


def hexadecimal(bits):
    """Convert bits (N, 256) to hashes as in the cache."""
    return [np.packbits(row).tobytes().hex() for row in bits]


def found_by(hashes, distance):
    blocks = list(near(hashes, distance))
    return sorted(map(tuple, np.concatenate(blocks).tolist())) if blocks else []


def anatomy(seed, size=96):
    """Return a smooth gray image with structure at several scales."""
    rng = np.random.default_rng(seed)
    total = sum(
        np.asarray(Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize((size, size), Image.BICUBIC)) / n
        for n in (4, 8, 16)
    )
    return np.clip(90 + 200 * total, 0, 255).astype(np.uint8)


def hash_of(values):
    return _perceptual_hash(np.asarray(values, np.float32)[None])


def jpeg(values, quality):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def test_exact_copies_are_grouped_in_order():
    assert exact(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
    assert exact(["a", "b"]) == exact([]) == []


@pytest.mark.parametrize("distance", [0, 6, 20])
def test_pairs_equal_those_of_a_direct_comparison(distance, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", (8, 24))  # several blocks, the last ones incomplete
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (12, 256))[rng.integers(0, 12, 70)]  # families of a few
    for row in bits:
        row[rng.choice(256, rng.integers(0, 12), replace=False)] ^= 1
    expected = [(i, j, int((bits[i] != bits[j]).sum())) for j in range(70) for i in range(j)]
    expected = sorted(pair for pair in expected if pair[2] <= distance)
    assert found_by(hexadecimal(bits), distance) == expected
    assert distance == 0 or len(expected) > 10


def test_the_distance_counts_the_bits_of_all_words():
    bits = np.zeros((3, 256), np.uint8)
    bits[1, [0, 70, 140, 210]] = 1  # one in each word of 64
    bits[2, :7] = 1
    hashes = hexadecimal(bits)
    assert found_by(hashes, 4) == [(0, 1, 4)]
    assert found_by(hashes, 3) == []
    assert found_by(hashes, 9) == [(0, 1, 4), (0, 2, 7), (1, 2, 9)]
    assert found_by([], 6) == found_by(hashes[:1], 6) == []


def test_clusters_are_those_of_a_direct_comparison():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, (30, 256))[rng.integers(0, 30, 150)]  # families of a few
    for row in bits:
        row[rng.choice(256, rng.integers(0, 5), replace=False)] ^= 1
    digests = [f"{number % 140}" for number in range(150)]  # the last ten are copies of the first
    comparable = np.arange(150) % 7 > 0
    numbers = clusters(digests, hexadecimal(bits), comparable).tolist()

    together = [[i == j or digests[i] == digests[j] for i in range(150)] for j in range(150)]
    for i, j, _ in found_by(hexadecimal(bits), 6):
        together[i][j] = together[j][i] = together[i][j] or bool(comparable[i] and comparable[j])
    reachable = np.array(together)
    for _ in range(8):
        reachable = reachable @ reachable
    assert (np.equal.outer(numbers, numbers) == reachable).all()
    assert 30 < len(set(numbers)) < 130
    alone = clusters(digests, hexadecimal(bits), np.zeros(150, bool))
    assert len(set(alone.tolist())) == 140, "exact copies alone"
    assert clusters([], [], np.zeros(0, bool)).tolist() == []


def test_hashes_at_the_largest_distance_are_found_whatever_the_places_of_the_bits():
    rng = np.random.default_rng(2)
    for count, expected in ((6, 1), (7, 2)):
        for _ in range(20):
            bits = np.repeat(rng.integers(0, 2, (1, 256)), 2, axis=0)
            bits[1, rng.choice(256, count, replace=False)] ^= 1
            assert len(set(clusters(["a", "b"], hexadecimal(bits), np.ones(2, bool)).tolist())) == expected


def test_frames_of_one_value_and_a_marker_have_no_content():
    frame = np.zeros((1, 48, 48), np.float32)
    frame[0, :4, :4] = 1
    images = np.stack([frame, frame * 0, anatomy(0, 48)[None] / 127.5 - 1])
    assert have_content(images).tolist() == [False, False, True]


def test_altered_copies_are_near_and_other_images_are_not():
    images = [anatomy(seed) for seed in range(8)]
    hashes = []
    for image in images:
        smaller = np.asarray(Image.fromarray(image).resize((80, 80), Image.BILINEAR))
        for copy in (image, jpeg(image, 75), np.clip(image.astype(int) + 1, 0, 255), image * 0.8, smaller):
            hashes.append(hash_of(copy))
    families = {(i, j) for i, j, _ in found_by(hashes, 6)}
    assert families == {(i, j) for j in range(40) for i in range(j) if i // 5 == j // 5}
    # What the description says that the hash does not see:
    for other in (images[0][:, ::-1], images[0][8:-8, 8:-8], np.roll(images[0], 3, axis=1)):
        assert found_by([hash_of(images[0]), hash_of(other)], 6) == []


def columns(bits, *, digests, patients):
    return {"digest": digests, "perceptual": hexadecimal(bits), "patient": patients}


def test_counts_of_copies_and_near_duplicates():
    bits = np.zeros((7, 256), np.uint8)
    bits[4:, :128] = 1  # two families: rows 0 to 3 and 4 to 6
    bits[1, 0] = bits[2, [1, 2]] = 1
    images = columns(bits, digests=list("abcaxyz"), patients=["P", "P", "Q", "P", "", "", ""])
    found = find_duplicates(images, {"train": [0, 1, 3, 4], "val": [2, 6], "test": []}, 3)
    assert found["exact"] == {"groups": 1, "images": 2, "groups_across_splits": 0, "first": [[0, 3]]}
    # Rows 0 and 3 are the same image; row 5 is in no split.
    pairs = [[4, 6, 0], [0, 2, 2], [2, 3, 2], [1, 2, 3], [0, 1, 1], [1, 3, 1]]  # those across splits, then the others
    assert found["near"] == {
        "pairs": 6,
        "pairs_across_splits": 4,
        "pairs_within_patient": 2,
        "images": 6,
        "held_out_images_near_training": 2,
        "first": pairs,
        "distance": 3,
    }


def test_copies_across_given_splits_come_first():
    bits = np.zeros((4, 256), np.uint8)
    images = columns(bits, digests=list("aabb"), patients=[""] * 4)
    found = find_duplicates(images, {"train": [0, 1, 2], "test": [3]}, 0)
    assert found["exact"] == {"groups": 2, "images": 4, "groups_across_splits": 1, "first": [[2, 3], [0, 1]]}
    assert found["near"]["pairs_within_patient"] is None, "no patient is known"
    assert "near" not in find_duplicates(images, {"train": [0, 1], "val": [2, 3]}, None)


def test_all_pairs_are_counted_and_the_nearest_listed(monkeypatch):
    monkeypatch.setattr(duplicates, "LISTED", 5)
    monkeypatch.setattr(duplicates, "_BLOCK", (4, 4))
    bits = np.tril(np.ones((20, 256), np.uint8))  # rows i and j differ in j - i bits
    images = columns(bits, digests=[str(i) for i in range(20)], patients=[""] * 20)
    found = find_duplicates(images, {"train": list(range(19)), "val": [19]}, 4)["near"]
    assert found["pairs"] == 19 + 18 + 17 + 16
    assert found["first"] == [[18, 19, 1], [17, 19, 2], [16, 19, 3], [15, 19, 4], [0, 1, 1]]


@pytest.mark.slow
def test_thirty_thousand_images_take_seconds():
    bits = np.random.default_rng(0).integers(0, 2, (30_000, 256))
    bits[7000, 1:] = bits[25_000, 1:]
    hashes = hexadecimal(bits)
    start = time.perf_counter()
    pairs = found_by(hashes, 6)
    assert time.perf_counter() - start < 10  # 1.5 s on one processor
    assert [pair[:2] for pair in pairs] == [(7000, 25_000)]


def test_hashes_that_differ_in_all_bands_but_one_are_compared():
    """Six different bits beside each other lie in six of the seven bands, wherever they begin."""
    for first in range(7):
        differing = np.zeros(256, dtype=np.uint8)
        differing[first : first + 6] = 1
        hashes = ["00" * 32, np.packbits(differing).tobytes().hex()]
        assert len(set(clusters(["a", "b"], hashes, np.ones(2, dtype=bool)).tolist())) == 1


def test_copies_between_validation_and_test_are_none_of_training_images():
    bits = np.zeros((3, 256), np.uint8)
    bits[0, :128] = 1
    found = find_duplicates(
        columns(bits, digests=list("abc"), patients=[""] * 3), {"train": [0], "val": [1], "test": [2]}, 3
    )
    assert (found["near"]["pairs_across_splits"], found["near"]["held_out_images_near_training"]) == (1, 0)
