"""YAML, JSON and CSV of strangers are read within limits: a sentence instead of minutes, memory or a traceback."""

import json
import os
import time

import pytest
import yaml

from medsynth.configuration.moved import load_configuration
from medsynth.untrusted_files import (
    DEEPEST,
    MOST_ENTRIES,
    UnreadableFile,
    load_json,
    load_table,
    load_text,
    load_yaml,
    yaml_excess,
)

LEVELS = range(1, 30)
BOMBS = {
    "lists": "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in LEVELS),
    "mappings": "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in LEVELS),
    "keys": "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in LEVELS),
    "wide": f"a: &a [{','.join('x' * 1000)}]\nb: [{','.join(['*a'] * 1000)}]\n",
}
LIMITS = {
    **{name: (text, "expands to more than 50,000 entries") for name, text in BOMBS.items()},
    "itself": ("a: &a [*a]\n", "alias of &a in itself"),
    "missing": ("a: *b\n", "alias of &b"),
    "deep": ("a: " + "[" * 5000 + "]" * 5000 + "\n", "nested deeper than 100 levels"),
    "deep aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 120)),
        "nested deeper than 100 levels",
    ),
    "number": ("a: " + "9" * 5000 + "\n", "a number of more than 20 digits"),
    "sexagesimal": ("a: 1" + ":1" * 100_000 + "\n", "a number of more than 20 digits"),
    "large": ("# " + "x" * 2**20 + "\na: 1\n", "larger than the 1 MiB"),
    "code": ("a: !!python/object/apply:os.system ['touch canary']\n", "is no valid YAML"),
    "tag": ("a: !!timestamp x\n", "is no valid YAML"),
    "documents": ("a: 1\n---\nb: 2\n", "is no valid YAML"),
    "bytes": (b"\xff\xfe\x00", "is no text in UTF-8"),
    "control": ("a: \x00\n", "is no valid YAML"),
}


@pytest.mark.parametrize("load", [load_yaml, load_configuration])
@pytest.mark.parametrize("name", LIMITS)
def test_yaml_beyond_a_limit_is_refused_at_once(name, load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, words = LIMITS[name]
    path = tmp_path / "composition.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.perf_counter()
    with pytest.raises(UnreadableFile) as refusal:
        load(path)
    assert time.perf_counter() - started < 2
    assert words in str(refusal.value) or "is no configuration" in str(refusal.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("load", [load_yaml, load_configuration])
@pytest.mark.parametrize("content", ["a: !!float ''", "a: !!bool x", "{[1]: 2}", "a: !!binary x", "!!int x", "'"])
def test_values_that_do_not_fit_their_tags_are_refused(content, load, tmp_path):
    (tmp_path / "file.yaml").write_text(content)
    with pytest.raises(UnreadableFile, match=r"file\.yaml is no (valid YAML|configuration that can be read)"):
        load(tmp_path / "file.yaml")


@pytest.mark.parametrize("content", ["- 1", "word", "1"])
def test_a_configuration_is_a_mapping(content, tmp_path):
    (tmp_path / "file.yaml").write_text(content)
    with pytest.raises(UnreadableFile):
        load_configuration(tmp_path / "file.yaml")


SMALL = "a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, d: &b 1, e: *b}\n"


@pytest.mark.parametrize("text", [BOMBS["lists"].split("a8")[0], SMALL])
def test_aliases_that_stay_small_are_read_like_their_expansion(text, tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    assert load_yaml(path) == yaml.safe_load(text)
    assert yaml_excess(text) is None


def test_entries_are_counted_as_they_expand():
    """An alias counts as what it repeats, up to the last entry that is allowed."""
    hundred = f"a: &a [{','.join('x' * 99)}]\n"  # 2 scalars, or 100 entries with the list
    room = MOST_ENTRIES - 1 - 1 - 100 - 1 - 1  # the mapping, both keys, the lists
    assert yaml_excess(hundred + f"b: [{','.join(['*a'] * (room // 100))}]\n") is None
    assert yaml_excess(hundred + f"b: [{','.join(['*a'] * (room // 100 + 1))}]\n") is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "nested deeper"),
        (b'{"seconds": 1' + b"0" * 400 + b"}", "more than 20 digits"),
        (b'{"name": "\\ud800"}', "is no JSON"),
        (b"\xff", "is no text in UTF-8"),
        (b"{", "is no JSON"),
    ],
    ids=["far too deep", "too deep", "number", "half of a character", "bytes", "cut"],
)
def test_json_beyond_a_limit_is_refused(content, words, tmp_path):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(UnreadableFile, match=words):
        load_json(tmp_path / "file.json")


def test_json_within_the_limits_is_read(tmp_path):
    path = tmp_path / "file.json"
    content = {"deep": json.loads("[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)), "pair": "\U0001f600", "number": -(2**63)}
    path.write_text(json.dumps(content))
    assert load_json(path) == content
    with pytest.raises(UnreadableFile, match="larger than"):
        load_json(path, largest=10)


def test_pipes_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UnreadableFile, match="no regular file"):
            load_text(tmp_path / name, largest=10)
    with pytest.raises(FileNotFoundError):
        load_text(tmp_path / "missing", largest=10)


def test_a_table_has_only_complete_lines_and_cells_of_a_limited_size(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,loss\n1,\xff\x00\n2,0.")
    assert load_table(path) == [["step", "loss"], ["1", "\N{REPLACEMENT CHARACTER}" * 2]]
    path.write_text(f"step\n{'x' * 200_000}\n")
    with pytest.raises(UnreadableFile, match="field larger"):
        load_table(path)
