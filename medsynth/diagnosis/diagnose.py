"""Findings of a run by the rows of its validations, with what to try."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsynth.diagnosis.advice import SENTENCES, InUse, advice
from medsynth.diagnosis.finding import Finding
from medsynth.diagnosis.rules import RULES, Row, Rule

_FITTED = Path(__file__).parent / "thresholds.json"


def diagnose(
    rows: Sequence[Row], fitted: Mapping[str, Any] | None = None, in_use: InUse | None = None
) -> list[Finding]:
    """Return the faults that the last validations show, one finding for each.

    Args:
        rows: of all validations so far, ``{"images_seen": ..., "signals": {...}}``.
        fitted: thresholds, and what was measured of faults and overrides; None: those that medsynth has.
        in_use: the choices of the run, which are not advised again.
    """
    fitted = fitted_values() if fitted is None else fitted
    shown: dict[str, tuple[int, Rule]] = {}
    for rule in RULES:
        first = rule.first(rows, fitted["thresholds"])
        if first is not None and (rule.name not in shown or first < shown[rule.name][0]):
            shown[rule.name] = first, rule
    return [_finding(rule, rows, first, fitted, in_use or InUse()) for first, rule in shown.values()]


def all_findings(rows: Sequence[Row], fitted: Mapping[str, Any] | None = None) -> dict[str, Finding]:
    """Return by name the first finding of each fault that any part of the run shows, in order."""
    found: dict[str, Finding] = {}
    for count in range(1, len(rows) + 1):
        for finding in diagnose(rows[:count], fitted):
            found.setdefault(finding.name, finding)
    return found


@functools.cache
def fitted_values() -> dict[str, Any]:
    """Return the content of ``thresholds.json``: ``thresholds``, ``confidence`` and ``measured``."""
    return json.loads(_FITTED.read_text(encoding="utf-8"))


def _finding(rule: Rule, rows: Sequence[Row], first: int, fitted: Mapping[str, Any], in_use: InUse) -> Finding:
    signals, overrides = rows[-1]["signals"], advice(rule.name, in_use)
    return Finding(
        name=rule.name,
        sentence=SENTENCES[rule.name],
        evidence={c.signal: signals[c.signal] for c in rule.conditions},
        onset=rows[first]["images_seen"],
        last=rows[-1]["images_seen"],
        confidence=fitted["confidence"].get(rule.name),
        advice=overrides,
        measured=fitted["measured"].get(rule.name, {}).get(next(iter(overrides), ""), ""),
    )
