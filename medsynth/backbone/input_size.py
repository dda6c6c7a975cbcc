"""The input size of a timm network: native, smallest, and the one chosen for given images."""

from __future__ import annotations

from timm.models import PretrainedCfg

from medsynth.contracts import InputError

SMALLEST_SIZE = 32  # pixels: the total stride of most networks, so that their last maps have one position
SMALLEST_SIZES = {"inception_v3": 75}  # pixels, where timm does not give the size


def native_size(config: PretrainedCfg) -> int:
    """Return the height and width in pixels that the weights were trained with."""
    return config.input_size[-1]


def smallest_size(config: PretrainedCfg) -> int:
    """Return the smallest height and width in pixels that the network accepts."""
    if config.fixed_input_size:
        return native_size(config)
    if config.min_input_size:
        return config.min_input_size[-1]
    return SMALLEST_SIZES.get(str(config.architecture), SMALLEST_SIZE)


def choose_size(config: PretrainedCfg, *, image_size: int, input_size: int | str | None, enlarge: bool) -> int:
    """Choose the height and width in pixels that the network sees; see ``TimmBackbone`` for the arguments.

    Raises:
        InputError: the network does not accept that size, or ``enlarge`` forbids it.
    """
    name = config.architecture
    smallest = smallest_size(config)
    if input_size == "native":
        input_size = native_size(config)
    elif input_size is None:
        input_size = smallest if config.fixed_input_size else max(image_size, smallest)
    too_large = config.fixed_input_size and input_size != smallest
    if not isinstance(input_size, int) or input_size < smallest or too_large:
        right = f"{smallest} or null" if config.fixed_input_size else f"{smallest} or more, native or null"
        raise InputError(f"backbone.input_size={input_size} does not suit {name}: choose {right}.")
    if input_size > image_size and not enlarge:
        raise InputError(
            f"data.image_size={image_size} is too small for backbone {name} with backbone.enlarge=false: "
            f"choose data.image_size={input_size} or more, or backbone.enlarge=true."
        )
    return input_size
