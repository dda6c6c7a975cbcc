"""Paths and patterns are read as they are typed, although Hydra's grammar has meanings for their characters."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.plain_values import with_quoted_values
from medsynth.errors import InputError
from medsynth.runs.resume import read_composition, save_configuration

PATHS = (
    "~/scans",
    "/data/a(1)",
    "/data/a,b",
    "/data/a=b",
    "/data/[old] scans",
    "[old]",
    "/data/100%",
    "%/x",
    "/data/it's",
    '/data/"x"',
    "/data/{a}",
    "/data/größe",
    "/data/日本",
    "/data/a;b#c&d!e|f<g>^h`i",
    "123",
    "1e3",
    "true",
    "2026-01-31",
    "C:\\scans\\new",
    "range(1,3)",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["data.root", "data.reader.table", "+data.root"])
def test_a_path_is_read_as_it_is_typed(key, path):
    (typed,) = with_quoted_values([f"{key}={path}"])
    parsed = OverridesParser.create().parse_override(typed)
    assert not parsed.is_sweep_override()
    assert str(parsed.value()) == path
    assert isinstance(parsed.value(), str)
    assert with_quoted_values([typed]) == [typed]


@pytest.mark.parametrize("pattern", [r"^(?!x)(\d+)_", r"(P\d+)_", r"[A-Z]+", r"^[^_]{2,4}", r"a|b", r"(a,b)"])
def test_a_pattern_is_read_as_it_is_typed(pattern):
    config = compose_checked("data", ["data=image_folder", f"data.patient_pattern={pattern}"])
    assert config.data.patient_pattern == pattern


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    typed = ["run=~/a", "out='~/a(1)'", "hydra.run.dir=~/b", "resume=auto", "data.root=~/c"]
    meant = ["run='/home/me/a'", "out='/home/me/a(1)'", "hydra.run.dir='/home/me/b'", "resume=auto", "data.root='~/c'"]
    assert with_quoted_values(typed) == meant


def test_what_the_grammar_reads_stays():
    typed = ["loss=hinge,minimax", "penalty=[r1,lecam]", "data.root=null", "data.root='/a(1)'", "seed=range(1,3)"]
    typed += ["--config-dir", "my/conf(1)", "~penalty.r1", "+x={a: 1}", "data.root=${oc.env:HOME}/x", "data.root="]
    assert with_quoted_values(typed) == typed


def test_in_a_sweep_a_comma_separates_values():
    typed = ["data.root=~/a,~/b", "data.root=/a,/b", "data.root=/a(1),/b"]
    assert with_quoted_values(typed, several=True) == [
        "data.root='~/a','~/b'",
        "data.root=/a,/b",
        "data.root='/a(1),/b'",
    ]


def test_a_resumed_run_reads_a_path_as_a_new_one_does(tmp_path):
    register_resolvers()
    config = compose_checked("train", ["data=image_folder", "data.root=old"])
    config.run_dir = str(tmp_path)
    save_configuration(config, tmp_path)
    for path in PATHS:
        typed = with_quoted_values([f"data.root={path}", "max_images=9"])
        resumed = read_composition(tmp_path, typed)
        assert (resumed.data.root, resumed.max_images) == (path, 9)


@pytest.mark.parametrize("override", ["penalty=[r1", "imgs", "loss='hinge"])
def test_what_cannot_be_read_is_explained(override):
    with pytest.raises(InputError, match=r"key=value|closed") as raised:
        compose_checked("train", [override])
    assert "Lexer" not in str(raised.value)
