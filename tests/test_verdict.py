"""The verdict: rules on records of honest generators and of liars, the command, and its place in the report."""

import json
import math
import shutil

import pytest

from medsynth.report.answers import read_verdict, verdict_text
from medsynth.report.page import write_report
from medsynth.verdict.answer import Comparison
from medsynth.verdict.faithful import faithful
from medsynth.verdict.scorecard import MEANING, NOT_MEASURED, scorecard
from medsynth.verdict.verdict import verdict
from tests.command import run
from tests.test_evaluate import a_run

COUNT = 400


def measure(name, value, *, baseline, error=0.01, at_baseline=None):
    ends = {"low": value - 1.96 * error, "high": value + 1.96 * error}
    counted = {"num_real": COUNT, "num_fake": COUNT, "better": "baseline"}
    return {"name": name, "value": value, "baseline": baseline, "at_baseline": at_baseline, **ends, **counted}


def evaluation(**changes):
    """A record of an honest generator, with other values of some measures."""
    honest = {
        "c2st_mini": (0.52, 0.5),
        "c2st_imagenet": (0.49, 0.51),
        "coverage_mini": (0.95, 0.96),
        "label_agreement_mini": (0.9, 0.91),
        "reference_copies_mini": (0.05, 0.05),
    }
    rows = []
    for name, (value, baseline) in honest.items():
        value = changes.get(name, value)
        at_baseline = value if name.startswith("coverage") else None
        rows.append(measure(name, value, baseline=baseline, at_baseline=at_baseline))
    return {"training": 1000, "measures": rows, "notes": []}


def other(answer="yes", **entries):
    return {"format": 1, "answer": answer, "rule": "a rule", "reasons": ["a reason"], **entries}


def test_an_honest_generator_is_faithful():
    found = faithful(evaluation())
    assert found.answer == "yes"
    assert len(found.values) == 5
    assert found.values[0]["control"] == 0.5
    assert found.values[0]["limit"] == 0.6


@pytest.mark.parametrize(
    ("name", "value", "answer", "reason"),
    [
        ("c2st_imagenet", 0.8, "no", "c2st_imagenet 0.8"),
        ("c2st_imagenet", 0.6, "not shown", "not certain: c2st_imagenet"),
        ("coverage_mini", 0.4, "no", "coverage_mini 0.4"),
        ("label_agreement_mini", 0.33, "no", "label_agreement_mini 0.33"),
        ("reference_copies_mini", 0.9, "no", "copy the reference"),
    ],
)
def test_each_measure_can_refuse(name, value, answer, reason):
    found = faithful(evaluation(**{name: value}))
    assert found.answer == answer
    assert reason in found.reasons[0]


def test_a_value_just_beyond_a_limit_is_not_refused_when_five_are_compared():
    # 0.617 is 1.7 standard errors beyond 0.6: p = 0.045 alone, 0.22 after Holm.
    found = faithful(evaluation(c2st_mini=0.617))
    assert found.answer == "not shown"
    assert found.values[0]["p"] == pytest.approx(0.0446, abs=1e-3)
    assert found.values[0]["p_holm"] == pytest.approx(5 * found.values[0]["p"])


def test_real_images_that_differ_from_other_real_ones_are_the_control():
    record = evaluation(c2st_mini=0.75)
    record["measures"][0]["baseline"] = 0.74  # as where the reference is of other patients
    assert faithful(record).answer == "yes"


def test_one_extractor_and_no_training_images_are_not_enough():
    record = evaluation()
    record["measures"] = [row for row in record["measures"] if row["name"] != "c2st_imagenet"]
    assert faithful(record).answer == "not shown"
    without = evaluation() | {"training": 0}
    assert faithful(without).answer == "not shown"
    assert "training=" in faithful(without).reasons[0]


def test_coverage_is_compared_at_the_number_of_its_baseline():
    record = evaluation()
    coverage = record["measures"][2]
    coverage |= {"value": 0.95, "at_baseline": 0.5}  # fewer images, other coverage
    assert faithful(record).answer == "no"


def test_a_comparison_without_an_interval_says_nothing():
    found = Comparison("c2st_mini", 0.9, math.nan, math.nan, 0.5, 0.6, "above", (9, 9))
    assert (found.p, found.within) == (1.0, False)


def test_gains_on_test_images_that_the_generator_has_seen_do_not_count():
    seen = evaluation(reference_copies_mini=0.9)
    assert verdict(seen, other(), other())["useful"].answer == "no"
    assert verdict(evaluation(), other(), other())["useful"].answer == "yes"
    assert verdict(seen, other("not shown"), other())["useful"].answer == "not shown"


def test_what_was_not_measured_or_is_damaged_is_not_shown():
    found = verdict(evaluation(), None, {"answer": "certainly", "reasons": []})
    assert found.sentence == "faithful: yes, useful: not shown, private: not shown"
    assert "medsynth utility run=" in found["useful"].reasons[0]
    assert "damaged" in found["private"].reasons[0]


def test_the_scorecard_has_seven_criteria_and_says_which_are_not_measured():
    card = {"intensity": {"unit": "HU"}, "spacing": None, "modality": "CT", "class_names": ["a"]}
    found = scorecard(evaluation(), None, card)
    assert [*found] == [*MEANING]
    assert len(MEANING) == 7
    assert {name for name, content in found.items() if content["measures"] == NOT_MEASURED} == {
        "compliance",
        "comprehension",
        "consistency",
    }
    assert {row["name"]: row["value"] for row in found["completeness"]["measures"]} == {
        "intensity": True,
        "spacing": False,
        "modality": True,
        "class_names": True,
    }
    by_class = evaluation() | {"classes": {"a": [measure("c2st_mini", 0.7, baseline=0.5)]}}
    assert scorecard(by_class, other(), card)["consistency"]["measures"][0]["class"] == "a"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Return the folder of a run with the records of all three commands."""
    monkeypatch.chdir(tmp_path)
    folder = a_run(tmp_path / "run")
    full = evaluation() | {"real": {"source": "r", "count": 9}, "fake": {"source": "f", "count": 9}}
    for name, record in {"evaluation": full, "utility": other(), "audit": other("not shown")}.items():
        (folder / name).mkdir()
        (folder / name / "generator.json").write_text(json.dumps(record))
    (folder / "summary.json").write_text("{}")
    return folder


def test_the_command_takes_what_is_stored_and_the_report_shows_it(measured, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "run=run", command="verdict")
    assert code == 0, err
    assert "Faithful: yes\n" in out
    assert "Private: not shown\n" in out
    record = json.loads((measured / "verdict" / "verdict.json").read_text())
    assert record["sentence"] == "faithful: yes, useful: yes, private: not shown"
    assert read_verdict(measured) == record
    assert verdict_text(record) in out
    write_report([measured], measured / "report.html")
    page = (measured / "report.html").read_text()
    faithful = page.index(
        '<th scope="row">Faithful: are generated images like real ones?</th><td class="answer yes">yes'
    )
    assert faithful < page.index('<td class="answer not-shown">not shown') < page.index('id="curves"')
    assert run(monkeypatch, capsys, "run=run", "strict=true", command="verdict")[0] == 1
    assert run(monkeypatch, capsys, "run=run", "strict=true", "skip=[private]", command="verdict")[0] == 0


def test_a_no_ends_with_code_1_after_the_verdict_is_written(measured, monkeypatch, capsys):
    (measured / "audit" / "newer.json").write_text(json.dumps(other("no")))
    code, out, _ = run(monkeypatch, capsys, "run=run", f"audit={measured / 'audit' / 'newer.json'}", command="verdict")
    assert code == 1
    assert "Private: no\n" in out
    assert read_verdict(measured)["answers"]["private"]["answer"] == "no"


def test_what_cannot_be_measured_is_said_and_the_other_answers_are_given(measured, monkeypatch, capsys):
    shutil.rmtree(measured / "utility")  # the run has no labels, so that no classifier can be trained
    code, out, _ = run(monkeypatch, capsys, "run=run", command="verdict")
    assert code == 0
    assert "Useful: not shown\n" in out
    assert "could not be measured" in out
    assert "Faithful: yes\n" in out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ((), "run= is needed"),
        (("run=run", "skip=[fair]"), "choose from faithful, useful, private"),
        (("run=run", "margin=1.5"), "margin=1.5 must be between 0 and 1"),
        (("run=run", "audit=run/config.yaml"), "is no record of medsynth audit"),
        (("run=elsewhere",), "elsewhere"),
    ],
)
def test_options_that_cannot_be_used_are_refused(measured, typed, words, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, *typed, command="verdict")
    assert code == 1
    assert words in err
    assert not (measured / "verdict").exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"answers": {"faithful": 3}, "scorecard": {}}', "{"])
def test_damaged_records_of_a_verdict_are_left_out(content, tmp_path):
    (tmp_path / "verdict").mkdir()
    (tmp_path / "verdict" / "verdict.json").write_text(content)
    assert read_verdict(tmp_path) is None
