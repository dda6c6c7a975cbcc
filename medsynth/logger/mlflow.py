"""MLflow, by Lightning's logger: a run of its own per job, in a SQLite file or on a tracking server."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger

from medsynth.errors import InputError
from medsynth.logger.guarded import Guarded
from medsynth.logger.identity import group_of, is_resumed, recall, remember
from medsynth.runs.status import COMPLETED, STOPPED

ENDS = {COMPLETED: "FINISHED", STOPPED: "KILLED"}  # MLflow's words; all others are FAILED
LONGEST = 250  # characters of a parameter, as Lightning cuts it
ATTEMPTS = 5


class Mlflow:
    """One MLflow run."""

    def __init__(self, logger: MLFlowLogger):
        self.logger = logger
        self.client, self.run_id = logger.experiment, logger.run_id
        self.client.update_run(self.run_id, status="RUNNING")  # one that is resumed had ended

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        # MLflow's parameters are final, and a resumed run may have changed some: the new value is a tag.
        given = {key: str(value)[:LONGEST] for key, value in _flat(parameters).items()}
        known = self.client.get_run(self.run_id).data.params
        self.logger.log_hyperparams({key: value for key, value in given.items() if key not in known})
        for key in known.keys() & given.keys():
            if known[key] != given[key]:
                self.client.set_tag(self.run_id, f"resumed.{key}", given[key])

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.logger.log_metrics(values, step=step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        for title, path in pictures.items():
            with Image.open(path) as picture:
                self.client.log_image(self.run_id, picture.convert("RGB"), key=f"{key}/{title}", step=step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        self.client.log_artifact(self.run_id, str(path), "generator")
        self.client.log_dict(self.run_id, dict(card), "generator/card.json")

    def log_summary(self, values: Mapping[str, float]) -> None:
        self.logger.log_metrics({f"summary/{name}": value for name, value in values.items()})

    def close(self, status: str) -> None:
        self.client.set_tag(self.run_id, "status", status)
        self.client.set_terminated(self.run_id, ENDS.get(status, "FAILED"))


def build(
    *,
    folder: str,
    uri: str | None,
    store: str,
    experiment: str,
    name: str | None = None,
    group: str | None = None,
    patience: float = 120,
    overrides: Sequence[str] = (),
) -> Guarded:
    """An MLflow logger that has started its run, or goes on with that of a resumed run.

    Args:
        folder: of the run.
        uri: tracking server or database; None: MLFLOW_TRACKING_URI, else ``mlflow.db`` in ``store``.
        store: folder of that file and of the artifacts that belong to it; runs share it.
        experiment: MLflow experiment.
        name: of the run; None: MLflow's choice.
        group: the sweep or its folder, a tag of the run.
        patience: seconds after which a server or database that does not answer is given up.
        overrides: what was typed; with ``resume=`` among it the run of ``folder`` goes on.

    Raises:
        InputError: the package is missing.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise InputError("logger=mlflow needs the package mlflow-skinny: pip install medsynth[mlflow].") from error
    for library in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):  # they tell of each table they make
        logging.getLogger(library).setLevel(logging.ERROR)
    address, artifacts = uri or os.environ.get("MLFLOW_TRACKING_URI"), None
    if not address:
        place = Path(store).resolve()
        address, artifacts = f"sqlite:///{place}/mlflow.db", (place / "mlflow").as_uri()
    known = recall(Path(folder), "mlflow") if is_resumed(overrides) else {}
    options = {
        "tracking_uri": address,
        "artifact_location": artifacts,
        "experiment_name": experiment,
        "run_name": name,
        "run_id": known.get("id"),
        "tags": {"group": group_of(group)} if group else None,
    }

    def opened() -> Mlflow:
        Path(store).mkdir(parents=True, exist_ok=True)
        with _same_environment("MLFLOW_TRACKING_URI"):
            sink = _patiently(options)
        remember(Path(folder), "mlflow", id=sink.run_id, uri=address)
        return sink

    return Guarded("MLflow", opened, patience=patience)


@contextlib.contextmanager
def _same_environment(name: str) -> Iterator[None]:
    """Lightning sets MLflow's address for the whole process, and with it for the next job in this one."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _patiently(options: Mapping[str, Any]) -> Mlflow:
    """Jobs that start at the same moment get in each other's way where they make the database or the experiment."""
    for attempt in range(1, ATTEMPTS):
        try:
            return Mlflow(MLFlowLogger(**options))
        except Exception:
            time.sleep(attempt)
    return Mlflow(MLFlowLogger(**options))


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined as Lightning joins them, so that known ones are recognized."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        flat |= _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
