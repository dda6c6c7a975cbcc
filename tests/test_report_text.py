"""Records of audit, utility and verdict as text: tables with direction, numbers, intervals and controls."""

import pytest

from medsynth import terminal
from medsynth.report.answers import verdict_text
from medsynth.report.audit import audit_text
from medsynth.report.utility import utility_text


def measure(name, value, control):
    numbers = {"value": value, "low": value - 0.1, "high": value + 0.1, "control": control}
    limits = {"control_low": control - 0.1, "control_high": control + 0.1, "n": 1000, "n_control": 500}
    return {"name": name, "p": 0.001, "rule": f"Rule of {name}.", **numbers, **limits}


AUDIT = {
    "answer": "no",
    "reasons": ["copies exceed their control"],
    "images": {side: {"count": 1000, "source": side} for side in ("training", "held_out", "fake")},
    "measures": [measure("copies", 0.5, 0.1), measure("attack_auc_mini", 0.5, 0.5)],
    "found": ["copies"],
    "copies": {"flagged": 500, "recall": {"value": 0.9}, "smallest_share": 0.01},
    "untold": {},
    "rule": "a rule",
    "notes": [],
}


def test_an_audit_marks_what_leaks_and_says_which_values_are_better():
    lines = audit_text(AUDIT).splitlines()
    assert lines[0] == "Private: no"
    head, leak, other = next(lines[n : n + 3] for n, line in enumerate(lines) if "95 % of controls" in line)
    assert head.split()[-4:] == ["N", "N", "control", "p"]
    assert leak.split() == [
        "!",
        "copies",
        "0.500",
        "0.400",
        "to",
        "0.600",
        "0.100",
        "0.000",
        "to",
        "0.200",
        "1,000",
        "500",
        "0.001",
    ]
    assert other.startswith("  attack_auc_mini")
    assert any(line.startswith("Lower is better: a value shows a leak where it exceeds its control") for line in lines)


def utility(gain):
    arms = [
        {
            "arm": arm,
            "label": arm,
            "size": 50,
            "count": 50,
            "measures": {"auc": {"value": 0.8, "low": 0.75, "high": 0.85}},
        }
        for arm in ("real", "mixed_1")
    ]
    row = {
        "arm": "mixed_1",
        "control": "real",
        "size": 50,
        "measure": "auc",
        "gain": gain,
        "low": gain - 0.01,
        "high": gain + 0.01,
    }
    return {
        "size": 50,
        "measure": "auc",
        "better": "higher",
        "seeds": 3,
        "fit": {"steps": 10},
        "ratios": [1],
        **{side: {"count": 50, "source": side} for side in ("training", "test", "synthetic")},
        "arms": arms,
        "differences": [row | {"p": 0.01}],
        "answer": "yes",
        "sentence": "They help.",
        "rule": "r",
        "notes": [],
    }


def test_utility_has_intervals_and_the_direction():
    text = utility_text(utility(0.1))
    assert "trained on  images  auc  95 % interval" in text
    assert "real            50  0.8   0.75 to 0.85" in text
    assert "Higher is better; the baseline is the arm of real images alone." in text
    assert "Useful: yes.\nThey help." in text
    assert "\x1b" not in text


def comparison(**changed):
    numbers = {"value": 0.7, "low": 0.6, "high": 0.8, "control": 0.5, "limit": 0.6}
    return {"name": "c2st_mini", "side": "above", "count": [400, 300], **numbers, **changed}


def test_a_verdict_has_a_table_of_values_against_their_limits():
    values = [comparison(), comparison(name="recall_mini", side="below", value=0.9, control=None)]
    answer = {"answer": "no", "rule": "r", "reasons": ["because"], "values": values}
    text = verdict_text({"answers": {"faithful": answer}, "scorecard": {}})
    head, first, second = next(
        text.splitlines()[n : n + 3] for n, line in enumerate(text.splitlines()) if "real images" in line
    )
    assert first.split() == ["c2st_mini", "0.7", "0.6", "to", "0.8", "0.5", "0.6", "lower", "400", "300"]
    assert second.split() == [
        "recall_mini",
        "0.9",
        "0.6",
        "to",
        "0.8",
        "-",
        "0.6",
        "higher",
        "400",
        "300",
    ]
    assert head.split()[-5:] == ["better", "N", "fake", "N", "real"]


@pytest.mark.parametrize(
    "values", [None, "text", [1], [{"name": "a"}], [comparison(count=None)], [comparison(count=["x"])]]
)
def test_values_of_another_kind_are_no_table(values):
    answer = {"answer": "yes", "rule": "r", "reasons": [], "values": values}
    lines = verdict_text({"answers": {"faithful": answer}, "scorecard": {}}).splitlines()
    assert lines[:2] == ["Faithful: yes", "  rule: r"]


def test_answers_leaks_and_gains_have_colors_on_a_terminal(monkeypatch):
    monkeypatch.setattr(terminal, "is_terminal", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("NO_COLOR", raising=False)
    audit = audit_text(AUDIT)
    assert "Private: \x1b[1;31mno\x1b[0m" in audit
    assert "\x1b[1;31m! copies" in audit
    assert "\x1b[32m+0.1000\x1b[0m" in utility_text(utility(0.1))
    assert "\x1b[1;31m-0.1000\x1b[0m" in utility_text(utility(-0.1))
    values = [comparison(), comparison(name="recall_mini", side="below", value=0.9)]
    answer = {"answer": "no", "rule": "r", "reasons": [], "values": values}
    verdict = verdict_text({"answers": {"faithful": answer}, "scorecard": {}})
    assert "\x1b[1;31m  c2st_mini" in verdict
    assert "\x1b[1;31m  recall_mini" not in verdict
    assert "\x1b[32m" not in utility_text(utility(0.005)), "an interval that holds 0"
