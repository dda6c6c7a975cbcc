"""Number formats of a training: precision, TensorFloat-32, compiled code; refusal of unsuitable ones."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from medsynth.configuration.device_options import check_precision
from medsynth.contracts import InputError
from medsynth.lightning.half_precision import HalfPrecision

_log = logging.getLogger(__name__)


def best_precision(accelerator: str) -> str:
    """Return bf16-mixed where the processor computes in bfloat16 itself, else 32-true.

    That is CUDA from compute capability 8.0 on, and CPUs with AMX or AVX512-BF16; elsewhere it is emulated, and slow.
    scripts/benchmark_step.py formats measures the gain on a machine.
    """
    return "bf16-mixed" if _computes_in_bfloat16(on_gpu(accelerator)) else "32-true"


def on_gpu(accelerator: str) -> bool:
    """Tell whether a training with ``trainer.accelerator`` would run on a GPU of CUDA."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def precision_options(trainer: Mapping[str, Any], plugins: Sequence[Any]) -> dict[str, Any]:
    """Return options of Lightning's Trainer, ``plugins`` among them, for the finished options ``trainer``.

    Lightning's own 16-mixed has one gradient scaler for both networks.
    """
    if trainer["precision"] != "16-mixed":
        return {"plugins": list(plugins)}
    device = "cuda" if on_gpu(trainer["accelerator"]) else "cpu"
    return {"precision": None, "plugins": [*plugins, HalfPrecision(device)]}


def _computes_in_bfloat16(is_gpu: bool) -> bool:
    if is_gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def final_precision(asked: Any, accelerator: str) -> str:
    """Return the precision to train in: ``auto`` is replaced by the best one of the device.

    Raises:
        InputError: the device lacks what is asked for, or the two networks would not train properly in it.
    """
    is_gpu = on_gpu(accelerator)
    precision = check_precision(asked)
    if precision == "auto":
        precision = best_precision(accelerator)
    elif precision == "bf16-mixed" and not _computes_in_bfloat16(is_gpu):
        if is_gpu:
            raise InputError(
                f"trainer.precision=bf16-mixed needs a GPU of compute capability 8.0 or more, which "
                f"{torch.cuda.get_device_name()} is not: choose 16-mixed or 32-true."
            )
        _log.warning("This CPU only emulates bfloat16: trainer.precision=32-true would be faster than bf16-mixed.")
    return precision


def set_tf32(wanted: bool, accelerator: str) -> None:
    """Set for this process whether float32 matrices are multiplied in TensorFloat-32, 10 bits of mantissa.

    Jobs of a sweep may share a process, so that both cases are set.

    Raises:
        InputError: it is wanted, and there is no GPU that has it.
    """
    if wanted and not (on_gpu(accelerator) and torch.cuda.get_device_capability() >= (8, 0)):
        raise InputError("tf32=true needs a GPU of compute capability 8.0 or more, which is missing: leave it out.")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted


def check_compiler(accelerator: str, penalties: Iterable[str]) -> None:
    """Check what task.compile=true needs, which torch.compile would miss in the first step only.

    Raises:
        InputError: there is no C++ compiler for a training on a CPU.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if not on_gpu(accelerator) and shutil.which(compiler) is None:
        raise InputError(f"task.compile=true needs a C++ compiler, and {compiler} is missing: install it or set CXX.")
    names = ",".join(penalties)
    if names:
        _log.info("The discriminator's head is not compiled: penalty=%s differentiates it twice.", names)
