"""The sizes of images that networks can have, known without PyTorch: the same for an early check and the networks."""

from __future__ import annotations

import math

from medsynth.errors import InputError

FASTGAN_SIZES = (16, 32, 64, 128, 256, 512, 1024)
_MOST_HALVINGS = 8  # of the U-Net's paper, for 256 pixels


def doublings(image_size: int, component: str, *, smallest: int = 8) -> int:
    """Return how many times 4 pixels are doubled to reach ``image_size``.

    Args:
        image_size: height and width in pixels.
        component: the choice that the size has to suit, for the error: "generator=dcgan".
        smallest: the smallest size that the component can have.

    Raises:
        InputError: the size is less than ``smallest``, or not 4 times a power of two.
    """
    if image_size < smallest or image_size & (image_size - 1):
        right = ", ".join(str(size) for size in (8, 16, 32, 64, 128) if size >= smallest)
        raise InputError(f"data.image_size={image_size} does not suit {component}: choose {right} or 256.")
    return image_size.bit_length() - 3


def check_fastgan(image_size: int) -> None:
    """Check the size of FastGAN's images.

    Raises:
        InputError: it is none of ``FASTGAN_SIZES``.
    """
    if image_size not in FASTGAN_SIZES:
        raise InputError(
            f"data.image_size={image_size} does not suit generator=fastgan: choose 16, 32, 64, 128 or 256."
        )


def check_resnet_translator(image_size: int) -> None:
    """Check the size of the images of ``ResNetTranslator``.

    Raises:
        InputError: it is not a multiple of 4, or less than 16.
    """
    if image_size % 4 or image_size < 16:
        raise InputError(
            f"data.image_size={image_size} does not suit generator=resnet_translator: choose a multiple of 4 from "
            "16 on."
        )


def check_patch(image_size: int, layers: int) -> None:
    """Check that images are large enough for ``layers`` layers of stride 2.

    Raises:
        InputError: they are not.
    """
    if image_size < 3 * 2**layers:
        raise InputError(
            f"discriminator.layers={layers} needs images of {3 * 2**layers} pixels or more, but "
            f"data.image_size={image_size}: choose fewer layers."
        )


def tomsk_levels(image_size: int, levels: int | None) -> int:
    """Return the doublings of the reference system's generator; None: from 4 pixels on.

    Raises:
        InputError: ``image_size`` is not a multiple of ``2**levels``.
    """
    levels = round(math.log2(max(image_size, 8) / 4)) if levels is None else levels
    if image_size < 2**levels or image_size % 2**levels:
        raise InputError(
            f"data.image_size={image_size} does not suit generator=tomsk with {levels} levels: "
            f"choose a multiple of {2**levels}, or set generator.levels."
        )
    return levels


def unet_levels(image_size: int, levels: int | None) -> int:
    """Return the halvings of the U-Net's resolution; None: as many as possible.

    Raises:
        InputError: ``image_size`` cannot be halved twice, or not ``levels`` times.
    """
    possible = next((n for n in range(_MOST_HALVINGS, 1, -1) if image_size % 2**n == 0), 0)
    if possible == 0:
        raise InputError(f"data.image_size={image_size} does not suit generator=unet: choose a multiple of 4.")
    if levels is None:
        return possible
    if not 2 <= levels <= possible:
        raise InputError(
            f"generator.levels={levels} does not suit data.image_size={image_size}: choose from 2 to {possible}, or "
            "null for the most."
        )
    return levels
