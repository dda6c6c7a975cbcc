"""Discriminators teach a generator, on phantoms and on a real set: slow, to be run when one of them changes.

``fd_pixels`` compares images averaged to 8 x 8 fields and depends on no network: gray noise, one texture and a white
background have values far above the bounds, whatever the features of the discriminator say.
"""

import os
from pathlib import Path

import pytest

import medsynth

pytestmark = pytest.mark.slow

COMPOSITIONS = {
    "dcgan": ["discriminator=dcgan", "generator.width=16"],
    "grid": ["experiment=tomsk_plus", "generator=dcgan", "generator.width=16"],
    "vision_aided": ["backbone=efficientnet_lite0", "generator.width=16"],
}
BOUNDS = {  # fd_pixels after 6,400 images, of phantoms and of heads: twice that of seed 0; untrained it is 25
    "dcgan": (0.4, 0.8),
    "grid": (10.4, 5.4),
    "vision_aided": (4.4, 3.0),
}


def learned(name, folder, *options):
    """Return fd_pixels of the composition after 6,400 images of 32 px."""
    short = {"max_images": 6400, "val_every_images": 3200, "report": "false"}
    return medsynth.train(*COMPOSITIONS[name], *options, "data.image_size=32", folder=folder, **short).metrics[
        "val/fd_pixels"
    ]


def phantoms(name, folder):
    return learned(name, folder, "data.source.num_images=1000", "data.source.num_val=400")


def heads(name, folder):
    archive = Path(os.environ.get("MEDSYNTH_TEST_DATA", ""), "mednist_mini_64.zip")
    if not archive.is_file():
        pytest.skip("MEDSYNTH_TEST_DATA does not name a folder with mednist_mini_64.zip")
    return learned(
        name, folder, "data=mednist", f"data.root={archive}", "data.reader.classes=[HeadCT]", "data.val_fraction=0.25"
    )


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_phantoms_are_learned(name, tmp_path):
    assert phantoms(name, tmp_path / "run") < BOUNDS[name][0]


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_heads_are_learned(name, tmp_path):
    assert heads(name, tmp_path / "run") < BOUNDS[name][1]
