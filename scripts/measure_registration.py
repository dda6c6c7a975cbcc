"""Measure how many true, displaced and turned pairs the check of ``medsynth/data/registration.py`` recognizes.

    uv run scripts/measure_registration.py /path/to/lung_ct_kernel_pairs_256.zip /path/to/hippocampus_nifti_60.zip

Pairs: phantoms (MR-like and CT, two doses) of four sizes, lung CT of two kernels, and slices of the hippocampus
beside themselves with inverted contrast. Each pair is tried as it is, 100 of them with the target displaced by 20
pixels in a random direction (seed 0), its border repeated, and 100 with the target mirrored left to right, top to
bottom, and rotated by 180 and by 90 degrees clockwise, those whose shape stays the same.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from medsynth.data.image_file import decode
from medsynth.data.nifti_volume import load
from medsynth.data.phantom import PhantomPairs
from medsynth.data.reading import RawImage
from medsynth.data.registration import TURNED, misplacement

DISPLACED, PIXELS = 100, 20
TURNS = {
    "mirrored left to right": lambda image: image[:, ::-1],
    "mirrored top to bottom": lambda image: image[::-1],
    "rotated by 180 degrees": lambda image: image[::-1, ::-1],
    "rotated by 90 degrees clockwise": lambda image: np.rot90(image, -1),
}


def main() -> None:
    sets = dict(phantoms())
    for path in sys.argv[1:]:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if any(name.startswith("sharp/") for name in names):
                sets["lung CT, two kernels, 256 px"] = list(kernels(archive, names))
            else:
                sets["hippocampus, inverted contrast"] = list(inverted(archive, names))
    turns = "".join(f"{name.split()[0] + ' ' + name.split()[-3]:>18}" for name in TURNS)
    print(f"{'pairs':36} true accepted   displaced by {PIXELS} px caught{turns}")
    for name, pairs in sets.items():
        true = sum(misplacement(pair) is None for pair in pairs)
        caught = sum(misplacement(pair) is not None for pair in displaced(pairs))
        named = "".join(f"{turned(pairs, turn):>18}" for turn in TURNS)
        print(f"{name:36} {true:4} of {len(pairs):4}     {caught:4} of {DISPLACED}          {named}", flush=True)


def pair_of(source: np.ndarray, target: np.ndarray) -> RawImage:
    raw = RawImage(source[None].astype(np.float32), "floating-point")
    return RawImage(target[None].astype(np.float32), "floating-point", source=raw)


def phantoms() -> Iterator[tuple[str, list[RawImage]]]:
    for kind in ("mr_to_ct", "denoising"):
        for size in (32, 64, 128, 256):
            made = []
            for anatomy in ("head", "abdomen", "chest"):
                source = PhantomPairs(image_size=size, anatomies=anatomy, kind=kind)
                made += [pair_of(*source.pair("train", index)[:2]) for index in range(34)]
            yield f"phantoms, {kind}, {size} px", made


def kernels(archive: zipfile.ZipFile, names: list[str]) -> Iterator[RawImage]:
    for name in names:
        if name.startswith("sharp/"):
            files = (name, name.replace("sharp/", "soft/", 1))
            yield pair_of(*(decode(archive.read(file)).values[0] for file in files))


def inverted(archive: zipfile.ZipFile, names: list[str]) -> Iterator[RawImage]:
    for name in names:
        if name.endswith((".nii", ".nii.gz")) and "label" not in name:
            volume = load(archive.read(name))
            for depth in (10, 18, 25):
                plane = volume[:, :, depth][0]
                yield pair_of(plane, volume.high - plane)


def displaced(pairs: list[RawImage]) -> Iterator[RawImage]:
    random = np.random.default_rng(0)
    for number in range(DISPLACED):
        pair, angle = pairs[number % len(pairs)], random.uniform(0, 2 * np.pi)
        offset = np.round([PIXELS * np.sin(angle), PIXELS * np.cos(angle)])
        target = ndimage.shift(pair.values[0], offset, order=0, mode="nearest")
        yield pair_of(pair.source.values[0], target)


def turned(pairs: list[RawImage], name: str) -> str:
    """Return how many of the pairs are found to be turned in this way, with its name."""
    tried = [pair for pair in pairs if TURNS[name](pair.values[0]).shape == pair.values[0].shape][:DISPLACED]
    found = (misplacement(pair_of(pair.source.values[0], TURNS[name](pair.values[0]))) for pair in tried)
    return f"{sum(reason == TURNED[name] for reason in found)} of {len(tried)}"


if __name__ == "__main__":
    main()
