"""Records of ``medsynth audit``, shown as text in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from medsynth.terminal import answer, finding, line_width, painted, table

HEADER = ("", "value", "95 % interval", "control", "95 % of controls", "N", "N control", "p")
_QUESTIONS = {
    "copies": "Copies",
    "attack_distance": "Membership by distances",
    "attack_discriminator": "Membership by the discriminator",
    "linkage": "Patients linked by generated images",
}


def audit_text(record: Mapping[str, Any]) -> str:
    """Format a record as lines: the answer, what was compared, the measures with their controls, notes."""
    images = record["images"]
    lines = [
        f"Private: {painted(answer(record['answer']))}",
        *(f"  {line}" for reason in record["reasons"] for line in _wrapped(reason)),
    ]
    lines += ["", *(f"{names} {side['count']:,} images of {side['source']}" for names, side in _sides(images))]
    found = set(record["found"])
    lines += ["", *table(HEADER, [_row(measure, measure["name"] in found) for measure in record["measures"]])]
    lines += ["Lower is better: a value shows a leak where it exceeds its control, in which nothing can leak."]
    lines += ["", *_of_copies(record)]
    for question, reason in record["untold"].items():
        lines += _wrapped(f"{_QUESTIONS.get(question, question)} cannot be told: {reason}.")
    lines += ["", *_wrapped(f"Rule: {record['rule']}.")]
    lines += [line for rule in dict.fromkeys(row["rule"] for row in record["measures"]) for line in _wrapped(rule)]
    return "\n".join([*lines, *(f"note: {note}" for note in record["notes"])])


def _sides(images: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, words in (("training", "trained on"), ("held_out", "held out"), ("fake", "generated")):
        yield f"{words + ':':12}", images[name]


def _of_copies(record: Mapping[str, Any]) -> Iterator[str]:
    copies = record["copies"]
    recall, share = copies["recall"], copies["smallest_share"]
    found = "no share of copies" if share is None else f"a share of copies of {share:.1%}"
    yield from _wrapped(
        f"{copies['flagged']:,} generated images are flagged. Of planted copies of training images, with noise, flips, "
        f"shifts, rotations and changes of contrast all together, {recall['value']:.1%} are; in this number of images "
        f"{found} would have been found with a probability of 0.8."
    )


def _row(measure: Mapping[str, Any], exceeds: bool) -> tuple[str, ...]:
    return (
        finding(f"! {measure['name']}") if exceeds else f"  {measure['name']}",
        finding(_number(measure["value"])) if exceeds else _number(measure["value"]),
        f"{_number(measure['low'])} to {_number(measure['high'])}",
        _number(measure["control"]),
        f"{_number(measure['control_low'])} to {_number(measure['control_high'])}",
        f"{measure['n']:,}",
        f"{measure['n_control']:,}",
        "-" if measure["p"] is None else f"{measure['p']:.1g}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, line_width(100))
