"""Programs that run without medsynth: ``torch.export`` and ONNX, compared with the network itself."""

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
from torch import Tensor
from torch.export import Dim, ExportedProgram

from medsynth.errors import InputError, extra_command
from medsynth.release.onnx_operations import onnx_decompositions
from medsynth.release.program import COMPARED, Program

LARGEST_DIFFERENCE = 1e-4  # of an image in [-1, 1] from the network's own
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
METADATA = "medsynth.json"  # the name of the description in a file of torch.export


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


def traced(program: Program) -> ExportedProgram:
    """Return a program as ``torch.export`` has it, for any number of images.

    Raises:
        InputError: its operations cannot be traced.
    """
    batch = Dim("batch", min=1)
    inputs = program.inputs(2)
    try:
        with _quiet():
            exported = torch.export.export(program.module, inputs, dynamic_shapes=({0: batch},) * len(inputs))
    except Exception as error:  # torch has no common class for what it cannot trace
        raise InputError(
            f"{program.network_name} cannot be exported: torch.export says "
            f"{_first_line(error)} Leave torch, onnx and monai out of format=."
        ) from error
    _without_places(exported)
    return exported


def save_program(exported: ExportedProgram, path: Path, program: Program, usage: Mapping[str, Any]) -> float:
    """Write a .pt2 file and return the largest difference of its images from the network's.

    Raises:
        InputError: the difference is too large.
    """
    with _quiet():
        torch.export.save(exported, path, extra_files={METADATA: json.dumps(usage)})
        module = torch.export.load(path).module()
    return _checked("torch", program, lambda *inputs: module(*inputs))


def save_onnx(exported: ExportedProgram, path: Path, program: Program, usage: Mapping[str, Any]) -> float:
    """Write an .onnx file and return the largest difference of ONNX Runtime's images from the network's.

    Raises:
        InputError: packages are missing, an operation has no counterpart, or the difference is too large.
    """
    check_onnx_packages()
    try:
        with _quiet():
            replaced = exported.run_decompositions(onnx_decompositions())
            _without_places(replaced)
            model = torch.onnx.export(
                replaced, dynamo=True, input_names=program.names, output_names=["images"], verbose=False
            )
    except Exception as error:  # of torch.onnx, onnxscript or onnx_ir
        raise InputError(
            f"{program.network_name} cannot be exported to ONNX: {_first_line(error)} Leave onnx out of format=."
        ) from error
    assert model is not None
    _describe(model.model, program.title, usage)
    model.save(path, external_data=False)
    return _checked("onnx", program, _session(path, program.names))


def _session(path: Path, names: tuple[str, ...]) -> Callable[..., Tensor]:
    import onnxruntime  # an optional dependency

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})[0])

    return run


def _describe(model: Any, title: str, usage: Mapping[str, Any]) -> None:
    """Put the description into an ONNX model, and take the places of source files out of it."""
    model.metadata_props.clear()
    model.metadata_props["medsynth"] = json.dumps(usage)
    model.producer_name, model.doc_string = "medsynth", title
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None


def _checked(format_name: str, program: Program, exported: Callable[..., Tensor]) -> float:
    """Return the largest difference over all images, several at a time, and over single ones.

    Raises:
        InputError: it is too large, or not a number.
    """
    inputs = program.inputs(COMPARED)
    starts = range(0, COMPARED, program.together)
    rows = [*(slice(start, start + program.together) for start in starts), *(slice(n, n + 1) for n in range(3))]
    differences: list[Tensor] = []
    for chosen in rows:
        part = tuple(x[chosen] for x in inputs)
        with torch.inference_mode():
            differences.append((exported(*part) - program.module(*part)).abs().max())
    difference = float(torch.stack(differences).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(
            f"format={format_name}: exported images differ from the {program.kind}'s by {difference:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g} of a range from -1 to 1: leave {format_name} out of format=."
        )
    return difference


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
