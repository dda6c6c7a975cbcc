"""The formats in which a training computes: precision, TensorFloat-32, compiled code; what is wrong is refused."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from medsynth.contracts import InputError
from medsynth.lightning.half_precision import HalfPrecision

_log = logging.getLogger(__name__)
_SPELLINGS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # as Lightning reads them
_NOT_THERE = {
    "16-true": "weights in float16 overflow without a gradient scaler",
    "bf16-true": "steps of a training are smaller than what a weight in bfloat16 can tell apart",
}


def settle_formats(config: DictConfig) -> None:
    """Fill in the precision, and set for this process how float32 matrices are multiplied.

    Raises:
        InputError: the device lacks what is asked for, or both players would not train as they should.
    """
    _settle_precision(config)
    _settle_float32(config)
    _check_compiler(config)


def best_precision(accelerator: str) -> str:
    """bf16-mixed where the processor computes in bfloat16 itself, else 32-true.

    That is CUDA from compute capability 8.0 on, and CPUs with AMX or AVX512-BF16; elsewhere it is emulated, and slow.
    scripts/benchmark_step.py formats measures what it brings on a machine.
    """
    return "bf16-mixed" if _computes_in_bfloat16(on_gpu(accelerator)) else "32-true"


def on_gpu(accelerator: str) -> bool:
    """Whether a training with ``trainer.accelerator`` would run on a GPU of CUDA."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def precision_options(config: DictConfig, plugins: Sequence[Any]) -> dict[str, Any]:
    """Of Lightning's Trainer, beside ``plugins``: its own 16-mixed has one gradient scaler for both players."""
    if config.trainer.precision != "16-mixed":
        return {"plugins": list(plugins)}
    device = "cuda" if on_gpu(config.trainer.accelerator) else "cpu"
    return {"precision": None, "plugins": [*plugins, HalfPrecision(device)]}


def _computes_in_bfloat16(is_gpu: bool) -> bool:
    if is_gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _settle_precision(config: DictConfig) -> None:
    """One of those in which both players are known to train as they should, on a device that has it."""
    is_gpu = on_gpu(config.trainer.accelerator)
    asked = _SPELLINGS.get(str(config.trainer.precision), str(config.trainer.precision))
    if asked == "auto":
        asked = best_precision(config.trainer.accelerator)
    elif asked == "bf16-mixed" and not _computes_in_bfloat16(is_gpu):
        if is_gpu:
            raise InputError(
                f"trainer.precision=bf16-mixed needs a GPU of compute capability 8.0 or more, which "
                f"{torch.cuda.get_device_name()} is not: choose 16-mixed or 32-true."
            )
        _log.warning("This CPU only emulates bfloat16: trainer.precision=32-true would be faster than bf16-mixed.")
    if asked not in ("32-true", "bf16-mixed", "16-mixed"):
        reason = f" ({_NOT_THERE[asked]})" if asked in _NOT_THERE else ""
        raise InputError(
            f"trainer.precision={asked} is not there{reason}: choose bf16-mixed, 16-mixed, 32-true or auto."
        )
    config.trainer.precision = asked


def _settle_float32(config: DictConfig) -> None:
    """Float32 means all of its bits, unless TensorFloat-32 is asked for. Jobs share processes: so either is set."""
    wanted = bool(config.get("tf32", False))
    if wanted and not (on_gpu(config.trainer.accelerator) and torch.cuda.get_device_capability() >= (8, 0)):
        raise InputError("tf32=true needs a GPU of compute capability 8.0 or more, and there is none: leave it out.")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted


def _check_compiler(config: DictConfig) -> None:
    """torch.compile would look for it in the first step; and what it leaves alone is said."""
    if not config.task.get("compile"):
        return
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if not on_gpu(config.trainer.accelerator) and shutil.which(compiler) is None:
        raise InputError(f"task.compile=true needs a C++ compiler, and {compiler} is not there: install it or set CXX.")
    if config.penalty:
        _log.info(
            "The discriminator's head is not compiled: penalty=%s differentiates it twice.", ",".join(config.penalty)
        )
