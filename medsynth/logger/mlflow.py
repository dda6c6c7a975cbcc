"""MLflow logger, built on Lightning's: one MLflow run for each run, in a SQLite file or on a tracking server."""

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

from medsynth.errors import InputError, extra_command
from medsynth.logger.guarded_logger import GuardedLogger
from medsynth.logger.run_ids import group_of, is_resumed, load_id, save_id
from medsynth.runs.status import COMPLETED, STOPPED

END_STATUS = {COMPLETED: "FINISHED", STOPPED: "KILLED"}  # names of MLflow; all others are FAILED
MAX_LENGTH = 250  # characters of a parameter, as Lightning cuts it
ATTEMPTS = 5


class Mlflow:
    """One MLflow run.

    Args:
        logger: Lightning's logger, whose MLflow run has been created or found.
    """

    def __init__(self, logger: MLFlowLogger):
        self.logger = logger
        self.client, self.run_id = logger.experiment, logger.run_id
        self.client.update_run(self.run_id, status="RUNNING")  # a resumed one had ended

    def log_hyperparams(self, parameters: Mapping[str, Any]) -> None:
        """Add ``parameters`` to the description of the run."""
        # MLflow's parameters are final, and a resumed run may have changed some: the new value is a tag.
        given = {key: str(value)[:MAX_LENGTH] for key, value in _flat(parameters).items()}
        known = self.client.get_run(self.run_id).data.params
        self.logger.log_hyperparams({key: value for key, value in given.items() if key not in known})
        for key in known.keys() & given.keys():
            if known[key] != given[key]:
                self.client.set_tag(self.run_id, f"resumed.{key}", given[key])

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log ``values`` at ``step`` real images seen."""
        self.logger.log_metrics(values, step=step)

    def log_pictures(self, key: str, pictures: Mapping[str, Path], step: int) -> None:
        """Log image files by title, as ``key/title``."""
        for title, path in pictures.items():
            with Image.open(path) as picture:
                self.client.log_image(self.run_id, picture.convert("RGB"), key=f"{key}/{title}", step=step)

    def log_generator(self, path: Path, card: Mapping[str, Any]) -> None:
        """Log the exported generator with its model card."""
        self.client.log_artifact(self.run_id, str(path), "generator")
        self.client.log_dict(self.run_id, dict(card), "generator/card.json")

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Log values of the run as a whole."""
        self.logger.log_metrics({f"summary/{name}": value for name, value in values.items()})

    def log_finding(self, finding: Mapping[str, Any], text: str) -> None:
        """Add a finding of the doctor as a tag."""
        self.client.set_tag(self.run_id, f"finding.{finding['name']}", text[:MAX_LENGTH])

    def close(self, status: str) -> None:
        """End the run with ``status``."""
        self.client.set_tag(self.run_id, "status", status)
        self.client.set_terminated(self.run_id, END_STATUS.get(status, "FAILED"))


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
) -> GuardedLogger:
    """Start an MLflow run, or continue that of a resumed run, and return its logger.

    Args:
        folder: folder of the run.
        uri: tracking server or database; None: MLFLOW_TRACKING_URI, else ``mlflow.db`` in ``store``.
        store: folder of mlflow.db and of the artifacts that belong to it; runs share it.
        experiment: MLflow experiment.
        name: name of the run; None: MLflow's choice.
        group: the sweep or its folder, which becomes a tag of the run.
        patience: seconds after which a server or database that does not answer is abandoned.
        overrides: options on the command line; with ``resume=`` among them the MLflow run of ``folder`` is continued.

    Raises:
        InputError: the package mlflow is not installed.
    """
    _prepare_library()
    address, artifacts = uri or os.environ.get("MLFLOW_TRACKING_URI"), None
    if not address:
        place = Path(store).resolve()
        address, artifacts = f"sqlite:///{place}/mlflow.db", (place / "mlflow").as_uri()
    known = load_id(Path(folder), "mlflow") if is_resumed(overrides) else {}
    options = {
        "tracking_uri": address,
        "artifact_location": artifacts,
        "experiment_name": experiment,
        "run_name": name,
        "run_id": known.get("id"),
        "tags": {"group": group_of(group)} if group else None,
    }

    def open_sink() -> Mlflow:
        Path(store).mkdir(parents=True, exist_ok=True)
        with _restored("MLFLOW_TRACKING_URI"):
            sink = _open(options)
        save_id(Path(folder), "mlflow", id=sink.run_id, uri=address)
        return sink

    return GuardedLogger("MLflow", open_sink, patience=patience)


def _prepare_library() -> None:
    """Import MLflow without its telemetry and its remarks.

    Raises:
        InputError: the package is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise InputError(f"logger=mlflow needs the package mlflow-skinny: type {extra_command('mlflow')}.") from error
    for library in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):  # they log each table that they create
        logging.getLogger(library).setLevel(logging.ERROR)


@contextlib.contextmanager
def _restored(name: str) -> Iterator[None]:
    """Restore an environment variable: Lightning sets MLflow's address for later jobs of the same process, too."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _open(options: Mapping[str, Any]) -> Mlflow:
    """Open the run, repeatedly: jobs that start at the same time collide as they create database and experiment."""
    for attempt in range(1, ATTEMPTS):
        try:
            return Mlflow(MLFlowLogger(**options))
        except Exception:
            time.sleep(attempt)
    return Mlflow(MLFlowLogger(**options))


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join nested keys by ``/`` as Lightning does, so that parameters that MLflow has are recognized."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        flat |= _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
