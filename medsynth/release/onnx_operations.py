"""Operations of generators that ONNX lacks, in operations that it has, for ``ExportedProgram.run_decompositions``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.polynomial.chebyshev import Chebyshev, cheb2poly
from scipy.special import erfinv
from torch import Tensor

_DEGREE = 20  # of the polynomial: an absolute error of 4e-9
_LARGEST = 17.5  # of -log(1 - x^2), for the float32 numbers x below 1
_SCALE = 127  # the smallest normal float32, 2**-126, becomes 2


def onnx_decompositions() -> dict[Any, Callable[..., Tensor]]:
    """Return the replacement of each operation."""
    return {torch.ops.aten.view.dtype: viewed_as, torch.ops.aten.erfinv.default: inverse_error_function}


def viewed_as(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the bits of finite float32 numbers as int32, by exact arithmetic on powers of two.

    Raises:
        NotImplementedError: other types.
    """
    if (x.dtype, dtype) != (torch.float32, torch.int32):
        raise NotImplementedError(f"{x.dtype} viewed as {dtype}")
    size = x.abs().double()  # whose exponents reach beyond the scale
    subnormal = (size * 2.0**100 * 2.0**49).long()  # each constant is a float32 number, as which the exporter stores it
    mantissa, exponent = size * 2.0**_SCALE, torch.zeros_like(subnormal)
    for step in (64, 64, 64, 32, 16, 8, 4, 2, 1):
        above = mantissa >= 2.0**step
        mantissa = torch.where(above, mantissa * 2.0**-step, mantissa)
        exponent = torch.where(above, exponent + step, exponent)
    normal = exponent * 2**23 + ((mantissa - 1) * 2**23).long()
    bits = torch.where(exponent > 0, normal, subnormal)
    return torch.where(1 / x < 0, bits - 2**31, bits).to(torch.int32)  # the sign of zero too


def inverse_error_function(x: Tensor) -> Tensor:
    """Return ``erfinv(x)`` for x in (-1, 1): x times a polynomial of ``-log(1 - x^2)``."""
    wide = x.double()
    t = -torch.log((1 - wide) * (1 + wide)) * (2 / _LARGEST) - 1
    highest, *others = reversed(_coefficients())
    value = t * highest
    for coefficient in others[:-1]:
        value = (value + coefficient) * t
    return (wide * (value + others[-1])).to(x.dtype)


@functools.cache
def _coefficients() -> tuple[float, ...]:
    """Return the coefficients of ``erfinv(x) / x`` by powers of t in [-1, 1], ``-log(1 - x^2)`` from 0 to _LARGEST."""

    def ratio(negative_log: Any) -> Any:
        x = np.sqrt(-np.expm1(-negative_log))
        return np.where(x > 0, erfinv(x) / np.maximum(x, 1e-300), np.sqrt(np.pi) / 2)

    series = Chebyshev.interpolate(ratio, _DEGREE, domain=[0, _LARGEST])
    return tuple(float(c) for c in cheb2poly(series.coef))
