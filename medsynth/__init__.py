"""medsynth: config-driven training of GANs that synthesize medical images.

From Python:

    import medsynth

    result = medsynth.train("data=image_folder", "data.root=my/images", max_images=20_000)
    generator = medsynth.load_generator(result.folder)
    images = generator.sample(16, seed=0)  # (16, C, H, W) in [-1, 1]
    evaluation = medsynth.evaluate(real="my/images", fake=images)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsynth.errors import InputError as InputError
    from medsynth.evaluation.evaluate import EvaluationResult as EvaluationResult
    from medsynth.evaluation.evaluate import evaluate as evaluate
    from medsynth.generator.trained import TrainedGenerator as TrainedGenerator
    from medsynth.generator.trained import load_generator as load_generator
    from medsynth.python_api import train as train
    from medsynth.release.hub import HubGenerator as HubGenerator
    from medsynth.runs.run_folder import RunResult as RunResult

__version__ = "0.2.0"
__all__ = [
    "EvaluationResult",
    "HubGenerator",
    "InputError",
    "RunResult",
    "TrainedGenerator",
    "evaluate",
    "load_generator",
    "train",
]
_HOMES = {
    "EvaluationResult": "medsynth.evaluation.evaluate",
    "HubGenerator": "medsynth.release.hub",
    "InputError": "medsynth.errors",
    "RunResult": "medsynth.runs.run_folder",
    "TrainedGenerator": "medsynth.generator.trained",
    "evaluate": "medsynth.evaluation.evaluate",
    "load_generator": "medsynth.generator.trained",
    "train": "medsynth.python_api",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: PyTorch takes seconds, which the command line does not wait for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
