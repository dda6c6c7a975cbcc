"""The options of conf/data and the dataclasses that use them: the same names and the same defaults."""

import dataclasses
import importlib
import inspect

import pytest
from omegaconf import OmegaConf

from medsynth.configuration.compose import conf_folder
from medsynth.data.files import image_files
from medsynth.data.geometry import Geometry, RandomViews
from medsynth.data.intensity import Normalization
from medsynth.data.modes import GaussianGrid, GaussianRing, StackedPhantoms
from medsynth.data.pairs import PairOptions
from medsynth.data.phantom import PhantomPairs, Phantoms
from medsynth.data.preparing import Preparation
from medsynth.data.split import SplitOptions

GROUPS = (Normalization, Geometry, RandomViews, SplitOptions, Preparation)


def yaml(name):
    return OmegaConf.to_container(OmegaConf.load(conf_folder() / "data" / f"{name}.yaml"), resolve=False)


def defaults(group):
    """The fields of a dataclass that have a default, as a yaml would hold them."""
    fields = [field for field in dataclasses.fields(group) if field.default is not dataclasses.MISSING]
    return {field.name: list(field.default) if isinstance(field.default, tuple) else field.default for field in fields}


def readers():
    """The yamls that name a reader, with its class and its options."""
    for path in sorted((conf_folder() / "data").glob("*.yaml")):
        reader = yaml(path.stem).get("reader") or {}
        if "_target_" in reader:
            module, _, name = reader.pop("_target_").rpartition(".")
            yield pytest.param(getattr(importlib.import_module(module), name), reader, id=path.stem)


def test_each_option_of_pairs_is_a_field_with_the_same_default():
    assert yaml("base/pairs") == defaults(PairOptions)


def test_each_option_of_image_files_is_a_field_of_one_dataclass_with_the_same_default():
    options = yaml("base/files")
    del options["_target_"]
    own = {name for name, parameter in inspect.signature(image_files).parameters.items() if name != "options"}
    fields = [defaults(group) for group in GROUPS]
    together = {name: value for group in fields for name, value in group.items()}
    assert len(together) == sum(map(len, fields)), "an option is in two dataclasses"
    assert {name: value for name, value in options.items() if name not in own} == together
    assert own <= set(options)


@pytest.mark.parametrize(("reader", "options"), list(readers()))
def test_each_option_of_a_reader_is_a_field_with_the_same_default(reader, options):
    assert options.pop("_partial_") is True
    assert options == defaults(reader)


@pytest.mark.parametrize(
    ("choice", "source"),
    [
        ("phantom", Phantoms),
        ("phantom_pairs", PhantomPairs),
        ("gaussian_ring", GaussianRing),
        ("gaussian_grid", GaussianGrid),
        ("stacked_phantoms", StackedPhantoms),
    ],
)
def test_each_option_of_a_drawn_source_is_a_field_with_the_same_default(choice, source):
    data = yaml(choice)
    options = data["source"]
    del options["_target_"]
    fields = defaults(source)
    assert set(options) == {field.name for field in dataclasses.fields(source)}
    assert {name: value for name, value in options.items() if not str(value).startswith("${")} == {
        name: value for name, value in fields.items() if name not in ("channels", "image_size")
    }
    assert data["channels"] == fields["channels"]
    assert data["image_size"] == fields.get("image_size", data["image_size"])


def test_every_reader_is_tested():
    assert len(list(readers())) >= 7
