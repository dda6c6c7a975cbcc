"""Generators as programs that run without medsynth: ``torch.export`` and ONNX, compared with the network itself."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medsynth.contracts import counter_seed, noise
from medsynth.errors import InputError, extra_command
from medsynth.generator.trained import TrainedGenerator
from medsynth.release.onnx_operations import onnx_decompositions

LARGEST_DIFFERENCE = 1e-4  # of an image in [-1, 1] from the network's own
CHECKED = 64  # images that are compared
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
METADATA = "medsynth.json"  # the name of the description in a file of torch.export
_NAMES = ("noise", "labels")


class _Sampler(nn.Module):
    """``(noise, labels) -> images``, as ``TrainedGenerator.batches`` returns them."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.network(noise, labels).float().clamp(-1, 1)


def check_onnx_packages() -> None:
    """Check that the packages of the extra ``onnx`` are installed.

    Raises:
        InputError: says what to install.
    """
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"format=onnx needs packages that are not installed ({', '.join(missing)}): type "
            f"{extra_command('export')}, or leave onnx out of format=."
        )


def traced(generator: TrainedGenerator) -> ExportedProgram:
    """Return the program of a generator, for any number of images.

    Raises:
        InputError: its operations cannot be traced.
    """
    sampler = _Sampler(_module(generator)).eval().requires_grad_(False)
    batch = Dim("batch", min=1)
    inputs = _inputs(generator, 2)
    try:
        with _quiet():
            program = torch.export.export(sampler, inputs, dynamic_shapes=({0: batch},) * len(inputs))
    except Exception as error:  # torch has no common class for what it cannot trace
        raise InputError(
            f"{type(generator.network).__name__} cannot be exported: torch.export says "
            f"{_first_line(error)} Leave torch, onnx and monai out of format=."
        ) from error
    _without_places(program)
    return program


def save_program(program: ExportedProgram, path: Path, generator: TrainedGenerator, usage: Mapping[str, Any]) -> float:
    """Write a .pt2 file and return the largest difference of its images from the network's.

    Raises:
        InputError: the difference is too large.
    """
    with _quiet():
        torch.export.save(program, path, extra_files={METADATA: json.dumps(usage)})
        module = torch.export.load(path).module()
    return _checked("torch", generator, lambda *inputs: module(*inputs))


def save_onnx(program: ExportedProgram, path: Path, generator: TrainedGenerator, usage: Mapping[str, Any]) -> float:
    """Write an .onnx file and return the largest difference of ONNX Runtime's images from the network's.

    Raises:
        InputError: packages are missing, an operation has no counterpart, or the difference is too large.
    """
    check_onnx_packages()
    names = _NAMES[: len(_inputs(generator, 1))]
    try:
        with _quiet():
            replaced = program.run_decompositions(onnx_decompositions())
            _without_places(replaced)
            exported = torch.onnx.export(
                replaced, dynamo=True, input_names=names, output_names=["images"], verbose=False
            )
    except Exception as error:  # of torch.onnx, onnxscript or onnx_ir
        raise InputError(
            f"{type(generator.network).__name__} cannot be exported to ONNX: {_first_line(error)} "
            "Leave onnx out of format=."
        ) from error
    assert exported is not None
    _describe(exported.model, usage)
    exported.save(path, external_data=False)
    return _checked("onnx", generator, _session(path, names))


def _session(path: Path, names: tuple[str, ...]) -> Callable[..., Tensor]:
    import onnxruntime  # an optional dependency

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})[0])

    return run


def _describe(model: Any, usage: Mapping[str, Any]) -> None:
    """Put the description into an ONNX model, and take the places of source files out of it."""
    model.metadata_props.clear()
    model.metadata_props["medsynth"] = json.dumps(usage)
    model.producer_name, model.doc_string = "medsynth", "Generator of synthetic images"
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None


def _checked(format_name: str, generator: TrainedGenerator, program: Callable[..., Tensor]) -> float:
    """Return the largest difference, over one batch and over single images.

    Raises:
        InputError: it is too large, or not a number.
    """
    inputs = _inputs(generator, CHECKED)
    with torch.inference_mode():
        expected = _Sampler(_module(generator))(*inputs)
    differences = [(program(*inputs) - expected).abs().max()]
    differences += [(program(*(x[n : n + 1] for x in inputs)) - expected[n]).abs().max() for n in range(3)]
    difference = float(torch.stack(differences).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(
            f"format={format_name}: exported images differ from the generator's by {difference:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g} of a range from -1 to 1: leave {format_name} out of format=."
        )
    return difference


def _inputs(generator: TrainedGenerator, count: int) -> tuple[Tensor, ...]:
    z = noise(count, generator.network.latent_dim, seed=counter_seed("generate", 0))
    labels = generator.labels(None, count)
    return (z,) if labels is None else (z, labels)


def _module(generator: TrainedGenerator) -> nn.Module:
    assert isinstance(generator.network, nn.Module)
    return generator.network


def _without_places(program: ExportedProgram) -> None:
    """Delete the places of source files, which name folders of the user's, from a program."""
    for module in program.graph_module.modules():
        graph = getattr(module, "graph", None)
        for node in graph.nodes if graph is not None else ():
            for name in ("stack_trace", "source_fn_stack", "from_node"):
                node.meta.pop(name, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the remarks of torch's exporters from the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{line.rstrip('.')}."
