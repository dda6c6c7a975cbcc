"""Compositions learn, on phantoms and on a real set: slow, to be run when a network, a loss or a task of them changes.

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
    "patch": ["discriminator=patch", "generator.width=16"],
    "r3gan": ["experiment=r3gan"],
    "sagan": ["experiment=sagan", "generator.attention=16", "discriminator.attention=16"],
    "sngan": ["discriminator=sngan", "generator.width=16"],
    "vaegan": ["task=vaegan", "generator.width=16"],
    "vision_aided": ["backbone=efficientnet_lite0", "generator.width=16"],
}
# Twice fd_pixels of seed 0 after 6,400 images; untrained it is 25.
OF_PHANTOMS = {
    "dcgan": 0.4,
    "grid": 10.4,
    "patch": 0.4,
    "r3gan": 14.4,
    "sagan": 4.1,
    "sngan": 0.8,
    "vaegan": 0.6,
    "vision_aided": 4.4,
}
OF_HEADS = {"dcgan": 0.8, "grid": 5.4, "patch": 0.94, "sngan": 1.4, "vision_aided": 3.0}


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


@pytest.mark.parametrize(("name", "bound"), OF_PHANTOMS.items(), ids=OF_PHANTOMS)
def test_phantoms_are_learned(name, bound, tmp_path):
    assert phantoms(name, tmp_path / "run") < bound


@pytest.mark.parametrize(("name", "bound"), OF_HEADS.items(), ids=OF_HEADS)
def test_heads_are_learned(name, bound, tmp_path):
    assert heads(name, tmp_path / "run") < bound
