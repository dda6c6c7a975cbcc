"""The first lines of a run's page: its verdict in sentences, and the answers to the three questions of a generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medsynth.report.findings import finding_names
from medsynth.report.measures import extractor_of, kind_of
from medsynth.report.run import Run
from medsynth.report.run_files import entry
from medsynth.runs.placement import shown
from medsynth.runs.status import COMPLETED, RUNNING

QUESTIONS = {  # what is asked, so that yes is the good answer, and the command that answers it
    "faithful": ("Faithful: are generated images like real ones?", "evaluate"),
    "useful": ("Useful: do they help to train a network?", "utility"),
    "private": ("Private: do they keep training images to themselves?", "audit"),
}
NOT_ASKED, MEASURED = "not asked", "measured"
_REASONS = 3  # of an answer


def answers(run: Run) -> list[dict[str, Any]]:
    """Return for each question its answer with reasons, and the command that answers it or asks again."""
    of_verdict: Mapping[str, Any] = entry(run.verdict or {}, "answers") or {}
    rows: list[dict[str, Any]] = []
    for name, (question, command) in QUESTIONS.items():
        given = of_verdict.get(name) or run.answers.get(command) or {}
        reasons = given.get("reasons")
        if command == "evaluate" and not given and run.evaluations:  # it measures; the verdict gives the answer
            given, command = {"answer": MEASURED}, "verdict"
        rows.append(
            {
                "name": name,
                "question": question,
                "answer": given.get("answer", NOT_ASKED),
                "reasons": [str(reason) for reason in reasons[:_REASONS]] if isinstance(reasons, list) else [],
                "command": f"medsynth {command} run={shown(run.folder)}",
            }
        )
    return rows


def sentences(run: Run, first: Mapping[str, Any] | None) -> list[str]:
    """Return the verdict: how the run ended, what the doctor found, and how near its images are to real ones.

    Args:
        run: the run.
        first: the row of the headline about its objective, with a baseline at the same number of images; None: none.
    """
    return [*_end(run), *_doctor(run), *_distance(run, first or {})]


def _end(run: Run) -> Iterator[str]:
    if run.status == RUNNING:
        yield "The training is still running."
    elif run.status != COMPLETED:
        reason = f": {run.reason.rstrip('.')}" if run.reason else ""
        yield f"The training did not complete ({run.status}){reason}."
    stopped = run.summary.get("stopped_early")
    if isinstance(stopped, int):
        yield f"The doctor ended the training at {stopped:,} images."


def _doctor(run: Run) -> Iterator[str]:
    names = finding_names(run.summary)
    if names:
        count = "one thing" if len(names) == 1 else f"{len(names)} things"
        yield f"The doctor found {count}: {', '.join(names)}."
    elif run.options.get("doctor.enabled") is False:
        yield "The doctor was off (doctor.enabled=false), so nothing is known of collapse or divergence."
    elif "findings" in run.summary and run.curves:
        yield "The doctor found nothing wrong at the last validation: no collapse, no copies, no divergence."


def _distance(run: Run, first: Mapping[str, Any]) -> Iterator[str]:
    if run.objective is None or run.best is None:
        yield "No validation was reached, so that nothing was measured."
        return
    name = run.objective.removeprefix("val/")
    title, extractor = kind_of(name).title or "the objective", extractor_of(name)
    meaning = f"{title} in the features of {extractor}" if extractor else title
    of_objective = first.get("name", "").removeprefix("val/") == name
    value, baseline = (first.get(key) if of_objective else None for key in ("value", "baseline"))
    said = f"Its best generator has {name} {value or run.best:.4g} ({meaning}; lower is better)"
    copied = run.value(f"val/copy_{name}")
    if copied is not None:
        yield f"{said}; the source copied unchanged has {copied:.4g}."
    elif not value or baseline is None or baseline <= 0:
        yield f"{said}; medsynth evaluate measures what real images have."
    else:
        yield f"{said}. Real images have {baseline:.3g} against other real ones: {_times(value / baseline)}."


def _times(ratio: float) -> str:
    """Say in words how far a distance is from its baseline."""
    if ratio < 1.5:
        return "this is as good as real images by this measure"
    return f"this is {ratio:,.0f} times as far" if ratio >= 10 else f"this is {ratio:.1f} times as far"
