"""Kinds of pages of several runs, and all options in which the runs differ."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat

from medsynth.configuration.private_paths import HIDDEN
from medsynth.report.factors import Factor
from medsynth.report.findings import finding_record_names
from medsynth.report.run import Run
from medsynth.report.search_plots import search_folder

SWEEP, SEARCH, COMPARISON = "sweep", "search", "comparison"
NOUNS = {SWEEP: "job", SEARCH: "trial", COMPARISON: "run"}
_GRAY = 0.4  # of the contrast of real samples: below, hardly anything is to be seen
_MOST_LOOKED_AT = 200  # runs whose samples are opened
_MOST = 80  # options in the table of differences
FAILED_IMAGES = (  # findings of the doctor after which the images themselves are no good
    *("mode_collapse", "texture", "not_learning", "divergence", "vanishing_gradient"),
    *("discriminator_too_strong", "discriminator_too_weak"),
)


def kind_of(runs: Sequence[Run]) -> str:
    """Return SEARCH for the trials of a search, SWEEP for the jobs of one sweep, else COMPARISON."""
    if search_folder(runs) is not None:
        return SEARCH
    one = len({run.folder.parent for run in runs}) == 1
    return SWEEP if one and all(run.number is not None for run in runs) else COMPARISON


def title_of(runs: Sequence[Run], varied: Sequence[Factor]) -> str:
    """Return the title of the page, which names the options that differ."""
    kind, labels = kind_of(runs), [factor.label for factor in varied]
    if kind == COMPARISON:
        named = [name for factor in varied for name in (factor.key, *factor.together)]
        return f"Comparison of {len(runs)} runs" + (f" that differ in {_listed(named)}" if named else "")
    if not varied:
        return "Runs of one configuration"
    return f"{kind.capitalize()} over {_listed(labels)}"


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the options in which the configurations differ, each with its values; copies below ``task.`` are left out.

    The most are ``_MOST``; where a component differs, so do its options.
    """
    known = [run for run in runs if run.options]
    rows = []
    for key in dict.fromkeys(key for run in known for key in run.options):
        values = [run.options.get(key, "") for run in runs]
        of_known = {str(run.options.get(key, "")) for run in known}
        if len(of_known) > 1 and not key.startswith("task."):
            rows.append({"key": key, "values": ["null" if value is None else str(value) for value in values]})
    return rows[:_MOST]


def command_of(run: Run) -> str:
    """Return the command that trains ``run`` again, with ... for paths that are not shown."""
    shown = {key: "..." if HIDDEN in value else value for key, value in run.choices.items() if value != "left out"}
    typed = [f"{key}={value}" for key, value in shown.items()]
    return shlex.join(["python", "train.py", *typed])


def collapse_warning(runs: Sequence[Run], noun: str) -> str:
    """Return a sentence where the images of every run with a value fail, by the doctor or their contrast; else ""."""
    return _found_by_doctor(runs, noun) or _without_contrast(runs, noun)


def _without_contrast(runs: Sequence[Run], noun: str) -> str:
    shares = []
    for run in [run for run in runs if run.best is not None and run.samples and run.real_samples][:_MOST_LOOKED_AT]:
        of_real, of_fake = (_contrast(path) for path in (run.real_samples, run.samples[max(run.samples)]))
        if of_real and of_fake is not None:
            shares.append(of_fake / of_real)
    if not shares or max(shares) > _GRAY:
        return ""
    return (
        f"The samples of all {len(shares)} {noun}s are gray: their contrast is at most {max(shares):.0%} of that of "
        "real images, so that the best of them is no good generator. Train longer or otherwise first."
    )


def _contrast(path: Path | None) -> float | None:
    """Return the standard deviation of a picture's intensities; None where it cannot be read."""
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            return ImageStat.Stat(picture.convert("L")).stddev[0]
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None


def _found_by_doctor(runs: Sequence[Run], noun: str) -> str:
    measured = [run for run in runs if run.best is not None and "findings" in run.summary]
    found = [set(finding_record_names(run.summary)) & set(FAILED_IMAGES) for run in measured]
    if not measured or not all(found):
        return ""
    names = ", ".join(sorted(name.replace("_", " ") for name in set().union(*found)))
    which = f"All {len(measured)} {noun}s" if len(measured) > 1 else f"The one {noun}"
    return (
        f"{which} with a value failed by the doctor's findings ({names}): the best of them is the least bad, and what "
        "follows compares failures. Look at the samples, and train longer or otherwise first."
    )


def label_of(run: Run, label: str, noun: str) -> str:
    """Return a run's name beside its number in the table: "job 3: loss=hinge,seed=1"."""
    return f"{noun} {label}: {run.name}" if run.name != label else f"{noun} {label}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
