"""Removal of the named components that are set to null: ``callbacks.progress=null`` trains without the progress bar."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

GROUPS = (
    "callbacks",
    "logger",
    "penalty",
    "generator_penalty",
    "reconstruction",
    "augment",
    "metrics.parts",
    "extractor",
)  # of components by name


def remove_null_components(config: DictConfig) -> None:
    """Remove the entries of ``GROUPS`` that are null from ``config``, since no class is built from them."""
    for group in GROUPS:
        node = OmegaConf.select(config, group)
        if isinstance(node, DictConfig):
            with open_dict(node):
                for name in [name for name, value in node.items_ex(resolve=False) if value is None]:
                    del node[name]
