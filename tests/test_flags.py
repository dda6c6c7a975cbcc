"""Flags of the command line: they may stand anywhere, and each mistake is answered in one sentence."""

import itertools

import pytest
from hydra._internal.utils import get_args_parser

from medsynth.configuration.flags import FLAGS, flags_last
from medsynth.errors import InputError
from tests.command import run


def test_the_flags_are_those_of_hydra():
    theirs = {action.option_strings[0]: action for action in get_args_parser()._actions if action.option_strings}
    assert {flag.name for flag in FLAGS} == set(theirs)
    for flag in FLAGS:
        action = theirs[flag.name]
        assert [flag.name, *([flag.short] if flag.short else [])] == list(action.option_strings)
        assert flag.choices == tuple(action.choices or ())
        assert bool(flag.example) == (action.nargs != 0), flag
        assert bool(flag.otherwise) == (action.nargs == "?"), flag


@pytest.mark.parametrize("words", list(itertools.permutations((("a=1",), ("b=2",), ("-cd", "."), ("-m",)))), ids=str)
def test_flags_may_stand_anywhere(words):
    arranged = flags_last([word for group in words for word in group])
    assert sorted(arranged[:2]) == ["a=1", "b=2"]
    assert sorted(arranged[2:]) == ["--config-dir=.", "--multirun"]


@pytest.mark.parametrize(
    ("typed", "arranged"),
    [
        ("--cfg job a=1 --resolve b=2", "a=1 b=2 --cfg=job --resolve"),
        ("--cfg=job -p data a=1", "a=1 --cfg=job --package=data"),
        ("-sc query=bash", "query=bash --shell-completion"),
        ("--info a=1", "a=1 --info=all"),
        ("--info plugins a=1", "a=1 --info=plugins"),
        ("--mult a=1,2", "a=1,2 --multirun"),
        ("-- a=1", "a=1"),
        ("- a=1", "- a=1"),
        ("--seed 3 -m", "--seed 3 --multirun"),
        ("-h", "--help"),
    ],
)
def test_flags_are_read_as_hydra_reads_them(typed, arranged):
    assert flags_last(typed.split()) == arranged.split()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("a=1 --config-dir", "--config-dir needs a value: type --config-dir my/conf."),
        ("--config-dir -m a=1", "--config-dir needs a value, and -m is another flag: type --config-dir my/conf."),
        ("--config-dir a=1", "--config-dir a=1: there is no such folder; give one"),
        ("--cfg a=1", "--cfg takes job, hydra, all, and not a=1: type --cfg job."),
        ("--cfg= a=1", "--cfg= needs a value: type --cfg job."),
        ("--info=nothing", "--info takes all, config"),
        ("--multirun=true", "--multirun=true: --multirun takes no value: type --multirun alone."),
        (
            "-mseed=1,2",
            "-mseed=1,2 is no flag: options are typed as key=value, without dashes: mseed=1,2, or -m seed=1,2.",
        ),
        ("-x a=1", "-x is no flag: options are typed as key=value, without dashes, and flags are --help,"),
        ("-seed=3", "-seed=3 is no flag: options are typed as key=value, without dashes: seed=3."),
        ("-config-dir .", "-config-dir has one dash too few: type --config-dir."),
        ("--con . a=1", "--con may be --config-path or --config-name or --config-dir: type one of them."),
        ("-m --cfg job", "--multirun and --cfg do not go together: type one of them."),
        ("a=1 --resolve", "--resolve goes with --cfg or --help: type --cfg job --resolve."),
    ],
)
def test_each_mistake_is_answered_in_one_sentence(typed, says):
    with pytest.raises(InputError) as refusal:
        flags_last(typed.split())
    assert str(refusal.value).startswith(says)


def test_options_around_a_flag_reach_the_command(monkeypatch, capsys, tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: mine.Loss\nsharpness: 2.0\n")
    typed = ("loss=mine", "--config-dir", str(tmp_path), "loss.sharpness=3", "--cfg", "job", "seed=7")
    code, out, _ = run(monkeypatch, capsys, *typed)
    assert code == 0
    assert "sharpness: 3" in out
    assert "seed: 7" in out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (("seed=1", "--config-dir"), "medsynth train: error: --config-dir needs a value: type --config-dir my/conf.\n"),
        (
            ("--config-name", "mine"),
            "medsynth train: error: --config-name=mine: neither conf/ nor --config-dir has mine.yaml",
        ),
    ],
)
def test_a_wrong_flag_ends_a_command_in_one_line(monkeypatch, capsys, typed, says):
    code, _, err = run(monkeypatch, capsys, *typed)
    assert code == 1
    assert err.startswith(says)
    assert err.count("\n") == 1
