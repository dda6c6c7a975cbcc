"""How large the images are that a network sees."""

from __future__ import annotations

from typing import Any

from medsynth.contracts import InputError

SMALLEST_SIZE = 32  # pixels: the total stride of most networks, which leaves them one place
SMALLEST_SIZES = {"inception_v3": 75}  # where timm does not say it


def native_size(config: Any) -> int:
    """Height and width in pixels that the weights were trained with, from timm's ``pretrained_cfg``."""
    return config.input_size[-1]


def smallest_size(config: Any) -> int:
    """The smallest sensible height and width in pixels, from timm's ``pretrained_cfg``."""
    if config.fixed_input_size:
        return native_size(config)
    if config.min_input_size:
        return config.min_input_size[-1]
    return SMALLEST_SIZES.get(config.architecture, SMALLEST_SIZE)


def choose_size(config: Any, *, image_size: int, input_size: int | str | None, enlarge: bool) -> int:
    """Height and width in pixels that the network sees; see ``TimmBackbone`` for the arguments.

    Raises:
        InputError: the network does not take that size, or ``enlarge`` forbids it.
    """
    name = config.architecture
    smallest, largest = smallest_size(config), native_size(config) if config.fixed_input_size else float("inf")
    if input_size == "native":
        input_size = native_size(config)
    elif input_size is None:
        input_size = min(max(image_size, smallest), largest)
    if not isinstance(input_size, int) or not smallest <= input_size <= largest:
        right = f"{smallest} or more, native or null" if largest > smallest else f"{smallest} or null"
        raise InputError(f"backbone.input_size={input_size} is not a size that {name} takes: {right}.")
    if input_size > image_size and not enlarge:
        raise InputError(
            f"data.image_size={image_size} is too small for backbone {name} with backbone.enlarge=false: "
            f"data.image_size={input_size} is the smallest right value, or set backbone.enlarge=true."
        )
    return input_size
