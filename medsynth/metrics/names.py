"""The names of the measures on an extractor's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from medsynth.configuration.targets import target_class

if TYPE_CHECKING:
    from medsynth.contracts import FeatureExtractor


class Names(NamedTuple):
    """The names of three measures: ``fd_<extractor>`` ..., or ``fid`` ... for the Inception network that defines FID.

    An extractor whose attribute ``canonical`` is true is that network with its published weights.
    """

    frechet: str
    inception_score: str
    kernel: str

    @classmethod
    def of(cls, extractor: FeatureExtractor) -> Names:
        """Return the names for an extractor."""
        return cls._made(extractor.name, canonical=bool(getattr(extractor, "canonical", False)))

    @classmethod
    def declared(cls, extractor: Mapping[str, Any]) -> Names | None:
        """Return the names for an extractor's configuration, without building it.

        The name is that of the configuration (``name: mini``) or the class's attribute ``name``; None without both.
        """
        found = target_class(extractor)
        name = extractor.get("name") or getattr(found, "name", None)
        if not isinstance(name, str):
            return None
        return cls._made(name, canonical=bool(getattr(found, "canonical", False)))

    @classmethod
    def _made(cls, name: str, *, canonical: bool) -> Names:
        if canonical:
            return cls("fid", "is", "kid")
        return cls(f"fd_{name}", f"is_{name}", f"kd_{name}")
