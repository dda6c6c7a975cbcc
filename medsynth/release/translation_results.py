"""The errors of a translator as Markdown: against targets, beside the source copied unchanged and other translators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.configuration.objectives import PAIRED_MEASURES
from medsynth.evaluation.translations import KNOWN_IMAGES
from medsynth.release.private_words import PrivateWords, known_unit
from medsynth.release.results import NOT_MEASURED, SPLITS, markdown
from medsynth.report.run_files import finite
from medsynth.report.translation import translation_remarks, translation_tables

TASKS = ("regression", "paired_translation", "unpaired_translation", "cut")


def errors_text(records: Sequence[Mapping[str, Any]], private: PrivateWords) -> str:
    """Return the tables of each record of ``evaluation/`` that has errors against targets."""
    texts = [text for record in records for text in _tables(_public(record), private)]
    return "\n\n".join(texts) if texts else NOT_MEASURED


def compared_tasks(records: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the tasks of the other translators that were measured on the same pairs."""
    return {
        str(other.get("task"))
        for record in records
        for other in _against(record.get("translation"))
        if other.get("task") in TASKS
    }


def paired_values(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, str]]:
    """Yield each measure of errors that has a finite value, the value, and the split it was measured on."""
    for record in records:
        paired, real = record.get("translation"), record.get("real")
        split = real.get("split") if isinstance(real, Mapping) else None
        rows = paired.get("measures") if isinstance(paired, Mapping) else None
        for row in rows if isinstance(rows, list) else ():
            value = finite(row.get("value")) if isinstance(row, Mapping) else None
            if value is not None and row["name"] in PAIRED_MEASURES:
                yield row["name"], value, split if split in SPLITS else "other"


def validation_text(metrics: Mapping[str, float], unit: str) -> str:
    """Return the errors of the last validation that chose the translator, beside those of the source copied."""
    rows = [
        f"| {name} | {metrics[f'val/{name}']:.4g} | {metrics[f'val/copy_{name}']:.4g} | {better} |"
        for name, better in PAIRED_MEASURES.items()
        if {f"val/{name}", f"val/copy_{name}"} <= metrics.keys()
    ]
    if not rows:
        return NOT_MEASURED
    head = ["| measure | translation | source copied | better |", "|---|---|---|---|"]
    remark = f"The translator was selected on these pairs. MAE is in {markdown(unit)}, MSE in its square."
    return "\n".join([*head, *rows, "", remark])


def _tables(record: Mapping[str, Any], private: PrivateWords) -> Iterator[str]:
    split = (record.get("real") or {}).get("split")
    for caption, rows in translation_tables(record):
        shown = [f"| {' | '.join(markdown(cell) for cell in row)} |" for row in rows]
        where = f", {split}" if split in SPLITS else ""
        yield "\n".join([f"{markdown(caption)}{where}:", "", shown[0], "|---" * len(rows[0]) + "|", *shown[1:]])
    remarks = " ".join(translation_remarks(record))
    if remarks:
        yield markdown(private.removed(remarks))


def _public(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record in which other runs are told by their task: the names of their folders may be private."""
    paired = record.get("translation")
    if not isinstance(paired, Mapping):
        return {}
    names = {str(other.get("run")): _name(number, other) for number, other in enumerate(_against(paired), start=1)}
    against = [dict(other) | {"run": names[str(other.get("run"))]} for other in _against(paired)]
    lesions = paired.get("lesions")
    known = {name: name for name in (*KNOWN_IMAGES, "translation")} | names
    rows = [
        dict(row) | {"of": known.get(str(row.get("of")), "another run")}
        for row in (lesions if isinstance(lesions, list) else ())
        if isinstance(row, Mapping)
    ]
    real = record.get("real")
    public = dict(paired) | {"unit": known_unit(paired.get("unit")), "against": against, "lesions": rows}
    return {"translation": public, "real": real if isinstance(real, Mapping) else {}}


def _name(number: int, other: Mapping[str, Any]) -> str:
    return f"run {number} (task={other['task']})" if other.get("task") in TASKS else f"run {number}"


def _against(paired: Any) -> list[Mapping[str, Any]]:
    rows = paired.get("against") if isinstance(paired, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
