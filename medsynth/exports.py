"""Classes of a package by name, without a list of its files: ``from medsynth.loss import Hinge``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable


def lazy_classes(package: str) -> Callable[[str], type]:
    """Return the ``__getattr__`` of ``package``: its modules are imported when a class is first asked for.

    A new file in the package needs no line elsewhere.
    """

    def class_of(name: str) -> type:
        found = classes(package) if name[:1].isupper() else {}  # submodules have lower-case names
        if name not in found:
            raise AttributeError(f"module {package!r} has no class {name!r}")
        return found[name]

    return class_of


def classes(package: str) -> dict[str, type]:
    """Map the names of the public classes that the modules of ``package`` define to the classes."""
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_"):
                found[name] = value
    return found
