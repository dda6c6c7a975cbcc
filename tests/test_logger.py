"""Loggers: metrics.csv, TensorBoard, MLflow and W&B, read back after a resumed training; and services that fail."""

import csv
import json
import pickle
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from medsynth.errors import InputError
from medsynth.logger import guarded_logger, logging_thread, mlflow, tensorboard
from medsynth.logger.csv import CSVLogger
from medsynth.logger.guarded_logger import GuardedLogger
from medsynth.logger.run_ids import is_resumed, load_id
from medsynth.runs.status import STOPPED
from tests.command import TINY, run

SILENT = types.SimpleNamespace(readouterr=lambda: ("", ""))
VALIDATIONS, STEPS = [32, 64, 96], list(range(8, 97, 8))
OBJECTIVE = "val/fd_mini"


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def offline_records(run_folder):
    """Read what W&B wrote, by its own reader."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run_folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def of_type(records, kind):
    return [record[kind] for record in records if record["type"] == kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a run of 64 images with all loggers, resumed to 96."""
    folder = tmp_path_factory.mktemp("loggers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        logged = ("logger=[wandb,tensorboard,mlflow]", "trainer.log_every_n_steps=1")
        assert run(patch, SILENT, *TINY, *logged, "hydra.run.dir=run")[0] == 0
        assert run(patch, SILENT, "resume=run", "max_images=96")[0] == 0
    return folder


@pytest.fixture(scope="module")
def written(trained):
    """Content of the csv file: column -> {images seen: value}."""
    table = rows(trained / "run" / "metrics.csv")
    return {name: {int(row["step"]): float(row[name]) for row in table if row[name]} for name in table[0]}


@pytest.fixture(scope="module")
def offline(trained):
    """Records of the two folders that W&B wrote, before and after the run was resumed."""
    return [offline_records(path) for path in sorted((trained / "run" / "wandb").glob("offline-run-*"))]


def history(records):
    return [record["item"] for record in of_type(records, "history")]


def test_wandb_steps_are_images_seen(offline, written):
    items = history(offline[0]) + history(offline[1])
    assert [item["trainer/images_seen"] for item in items] == [item["_step"] for item in items] == STEPS
    for name in ("train/generator_loss", "train/discriminator_gradient_norm", "train/real_logits"):
        assert [item[name] for item in items] == pytest.approx(list(written[name].values()))
    for name in (OBJECTIVE, f"{OBJECTIVE}_low", f"{OBJECTIVE}_high"):
        assert {i["_step"]: i[name] for i in items if name in i} == pytest.approx(written[name])
    assert list(written[OBJECTIVE]) == VALIDATIONS
    (axis,) = of_type(offline[0], "metric")
    assert (axis["glob_name"], axis["step_metric"]) == ("*", "trainer/images_seen")


def test_a_resumed_run_is_one_run_in_wandb(offline, trained):
    first, second = (of_type(records, "run")[0] for records in offline)
    assert first["run_id"] == second["run_id"] == load_id(trained / "run", "wandb")["id"]
    assert second["resume"] is True


def test_wandb_configuration_has_options_data_and_device(offline):
    config = {key: value for record in of_type(offline[0], "config") for key, value in record["update"].items()}
    assert config["max_images"] == 64
    assert config["data"]["image_size"] == 16
    run_config = config["run"]
    assert run_config["data"] == "64 procedural head phantoms"
    assert len(run_config["data_fingerprint"]) == 16
    assert (run_config["device"], run_config["num_train"], run_config["num_val"]) == ("cpu", 64, 16)
    assert of_type(offline[0], "stats"), "the machine's load"


def test_wandb_has_pictures_generator_summary_and_exit_code(offline, trained):
    folder = trained / "run" / "wandb"
    for title, count in (("generated", 3), ("real", 3)):
        assert len(list(folder.glob(f"offline-run-*/files/media/images/samples/{title}_*.png"))) == count
    summary = json.loads((trained / "run" / "summary.json").read_text())
    (artifact,) = [artifact for artifact in of_type(offline[0], "artifact") if artifact["type"] == "model"]
    assert sorted(artifact["aliases"]) == ["best", "latest"]
    assert artifact["manifest"]["contents"][0]["path"] == "generator.safetensors"
    assert json.loads(artifact["metadata"])["data"] == "64 procedural head phantoms"
    ends = {
        name: value for records in offline for s in of_type(records, "summary") for name, value in s["update"].items()
    }
    assert ends[f"best/{OBJECTIVE}"] == pytest.approx(summary["best"]["value"])
    assert ends["best/images_seen"] == summary["best"]["images_seen"]
    assert ends["status"] == "completed"
    assert ends["findings"] == ["few_validation_images"]
    assert [alert["title"] for alert in of_type(offline[0], "alert")] == ["few_validation_images"]
    assert [of_type(records, "exit")[0].get("exit_code", 0) for records in offline] == [0, 0]


def test_tensorboard_has_values_pictures_and_configuration(trained, written):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "run" / "tensorboard")).Reload()
    for name in (OBJECTIVE, f"{OBJECTIVE}_low", "train/generator_loss"):
        assert {e.step: e.value for e in events.Scalars(name)} == pytest.approx(written[name])
    for title in ("generated", "real"):
        assert [image.step for image in events.Images(f"samples/{title}")] == VALIDATIONS
    summary = json.loads((trained / "run" / "summary.json").read_text())
    assert events.Scalars(f"summary/best/{OBJECTIVE}")[-1].value == pytest.approx(summary["best"]["value"])
    assert events.Tensors("status/text_summary")[-1].tensor_proto.string_val == [b"completed"]
    table = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"data/image_size" in table
    assert b"run/data_fingerprint" in table


def test_mlflow_has_values_pictures_generator_and_status(trained, written):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{trained}/outputs/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("medsynth").experiment_id])
    assert found.info.run_id == load_id(trained / "run", "mlflow")["id"], "a resumed run is the same run"
    assert found.info.status == "FINISHED"
    for name in (OBJECTIVE, f"{OBJECTIVE}_high", "train/generator_loss"):
        values = {metric.step: metric.value for metric in client.get_metric_history(found.info.run_id, name)}
        assert values == pytest.approx(written[name])
    assert found.data.params["data/image_size"] == "16"
    assert found.data.params["max_images"] == "64"
    assert (found.data.tags["resumed.max_images"], found.data.tags["status"]) == ("96", "completed")
    names = [file.path for file in client.list_artifacts(found.info.run_id, "images")]
    assert len([name for name in names if "generated+step+96" in name.replace("%2B", "+")]) > 0
    files = {file.path for file in client.list_artifacts(found.info.run_id, "generator")}
    assert files == {"generator/card.json", "generator/generator.safetensors"}


def test_tensorboard_drops_values_that_a_resumed_run_repeats(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for values in ({8: 1.0, 16: 2.0, 24: 3.0}, {16: 20.0, 24: 30.0}):
        logger = tensorboard.build(folder=str(tmp_path))
        logger.log_hyperparams({"a": 1})
        for step, value in values.items():
            logger.log_metrics({"loss": value}, step=step)
        logger.close(failed=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(8, 1), (16, 20), (24, 30)]


def test_mlflow_has_the_status_of_the_run(tmp_path):
    from mlflow.tracking import MlflowClient

    for ended in ({"failed": True}, {"failed": True, "status": STOPPED}, {"failed": False}):
        options = {"store": str(tmp_path / "store"), "experiment": "e", "name": str(ended), "group": "sweep 1"}
        logger = mlflow.build(folder=str(tmp_path / "run"), uri=None, **options)
        logger.close(**ended)
    client = MlflowClient(f"sqlite:///{tmp_path}/store/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert [run.info.status for run in found] == ["FINISHED", "KILLED", "FAILED"]
    assert {run.data.tags["group"] for run in found} == {"sweep 1"}


@pytest.mark.parametrize(("module", "package"), [(tensorboard, "tensorboard"), (mlflow, "mlflow")])
def test_the_error_for_a_missing_package_names_the_extra(module, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    options = {"uri": None, "store": str(tmp_path), "experiment": "e"} if package == "mlflow" else {}
    with pytest.raises(InputError, match=rf"uv sync --extra {package} or pip install '\.\[{package}\]'"):
        module.build(folder=str(tmp_path), **options)


class Breaking:
    """A sink that takes one value and then breaks."""

    def __init__(self):
        self.taken, self.closed = [], []

    def log_metrics(self, values, step):
        if self.taken:
            raise ConnectionResetError("the service is gone\nand more")
        self.taken.append((dict(values), step))

    def close(self, status):
        self.closed.append(status)
        raise ConnectionResetError("still gone")


def test_a_failure_is_reported_once_and_turns_the_logger_off(caplog):
    sink = Breaking()
    logger = GuardedLogger("Service", lambda: sink)
    for step in (1, 2, 3):
        logger.log_metrics({"a": 0.5}, step=step)
    logger.close(failed=False)
    assert sink.taken == [({"a": 0.5}, 1)]
    assert sink.closed == ["failed"]
    assert not logger.active
    assert [record.getMessage() for record in caplog.records] == [
        "Service failed and is off for the rest of this run; metrics.csv is still written (the service is gone)."
    ]


def test_a_service_that_does_not_start_is_turned_off_but_a_wrong_option_is_an_error(caplog):
    logger = GuardedLogger("Service", lambda: Path("/nowhere/at/all").read_text())
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    assert len(caplog.records) == 1

    def refuse():
        raise InputError("choose another")

    with pytest.raises(InputError, match="choose another"):
        GuardedLogger("Service", refuse)


class Hanging:
    """A sink that records calls in order, but hangs in the method ``hangs_in`` until it is released."""

    def __init__(self, hangs_in=None):
        self.hangs_in, self.released, self.entered = hangs_in, threading.Event(), threading.Event()
        self.taken, self.threads = [], set()

    def log_metrics(self, values, step):
        self._take("log_metrics", values, step)

    def log_hyperparams(self, parameters):
        self._take("log_hyperparams", parameters)

    def close(self, status):
        self._take("close", status)

    def _take(self, *call):
        self.threads.add(threading.current_thread())
        if call[0] == self.hangs_in:
            self.entered.set()
            assert self.released.wait(30)
        self.taken.append(call)


def reasons(caplog):
    return [record.getMessage().partition("still written ")[2] for record in caplog.records]


def seconds(call, *arguments, **options):
    start = time.monotonic()
    call(*arguments, **options)
    return time.monotonic() - start


def test_calls_arrive_in_order_on_one_thread_with_the_values_at_the_time_of_the_call(caplog):
    sink = Hanging()
    logger = GuardedLogger("Service", lambda: sink)
    nested = {"run": {"device": "cpu"}}
    logger.log_hyperparams(nested)
    nested["run"]["device"] = "another"
    values = {}
    for step in range(200):
        values["a"] = step
        logger.log_metrics(values, step=step)
    logger.close(failed=False)
    logger.log_metrics(values, step=200)
    logger.close(failed=True)
    metrics = [("log_metrics", {"a": step}, step) for step in range(200)]
    assert sink.taken == [("log_hyperparams", {"run": {"device": "cpu"}}), *metrics, ("close", "completed")]
    assert len(sink.threads) == 1
    assert threading.current_thread() not in sink.threads
    assert all(thread.daemon for thread in sink.threads), "one that hangs would keep the process from exiting"
    assert not logger.active
    assert not reasons(caplog)


def test_a_call_that_hangs_delays_neither_the_training_nor_its_end(caplog):
    sink, abandoned = Hanging("log_metrics"), []
    logger = GuardedLogger("Service", lambda: sink, patience=0.3, abandon=lambda: abandoned.append(True))
    logger.log_hyperparams({"a": 1})
    assert max(seconds(logger.log_metrics, {"a": 1.0}, step=step) for step in range(100)) < 0.2
    assert logger.active
    assert seconds(logger.close, failed=False) < 1.5
    assert abandoned == [True]
    assert reasons(caplog) == ["(it did not finish within 0.3 seconds)."]
    assert sink.taken == [("log_hyperparams", {"a": 1})]


def test_a_service_that_hangs_during_a_run_is_abandoned_and_closed_if_it_recovers(caplog):
    sink = Hanging("log_metrics")
    logger = GuardedLogger("Service", lambda: sink, patience=0.1)
    logger.log_metrics({"a": 1.0}, step=1)
    assert sink.entered.wait(10)
    time.sleep(0.15)
    assert seconds(logger.log_metrics, {"a": 2.0}, step=2) < 0.1
    assert not logger.active
    assert reasons(caplog) == ["(it has not answered for 0.1 seconds)."]
    sink.released.set()
    logger.close(failed=False)
    assert sink.taken == [("log_metrics", {"a": 1.0}, 1), ("close", "failed")]
    assert len(caplog.records) == 1


def test_a_service_that_falls_behind_is_abandoned(monkeypatch, caplog):
    for module in (logging_thread, guarded_logger):
        monkeypatch.setattr(module, "CAPACITY", 5)
    sink = Hanging("log_metrics")
    logger = GuardedLogger("Service", lambda: sink, patience=30)
    logger.log_metrics({"a": 0.0}, step=0)
    assert sink.entered.wait(10)
    for step in range(1, 6):
        logger.log_metrics({"a": 0.0}, step=step)
    assert logger.active
    assert seconds(logger.log_metrics, {"a": 0.0}, step=6) < 0.2
    assert not logger.active
    assert reasons(caplog) == ["(it is 5 calls behind)."]
    sink.released.set()
    logger.close(failed=False)
    assert sink.taken == [("log_metrics", {"a": 0.0}, 0), ("close", "failed")], "waiting calls are dropped"


@pytest.mark.parametrize("released", [True, False])
def test_a_start_that_hangs_is_abandoned(released, caplog):
    sink, allowed = Hanging(), threading.Event()

    def opening():
        assert allowed.wait(30)
        return sink

    start = time.monotonic()
    logger = GuardedLogger("Service", opening, patience=0.2)
    assert time.monotonic() - start < 1
    assert not logger.active
    logger.log_metrics({"a": 1.0}, step=1)
    if released:
        allowed.set()
    assert seconds(logger.close, failed=False) < 1
    assert reasons(caplog) == ["(it did not start within 0.2 seconds)."]
    assert sink.taken == ([("close", "failed")] if released else []), "a run that starts too late is closed"


def test_an_end_that_hangs_is_abandoned(caplog):
    sink = Hanging("close")
    logger = GuardedLogger("Service", lambda: sink, patience=0.2)
    logger.log_metrics({"a": 1.0}, step=1)
    assert seconds(logger.close, failed=False) < 1
    assert reasons(caplog) == ["(it did not finish within 0.2 seconds)."]
    assert sink.taken == [("log_metrics", {"a": 1.0}, 1)]


def test_a_failure_after_the_service_was_abandoned_is_not_reported(monkeypatch, caplog):
    sink, uncaught = Hanging(), []
    monkeypatch.setattr(threading, "excepthook", uncaught.append)
    released, failed = threading.Event(), threading.Event()

    def fail(status):
        failed.set()
        raise ConnectionResetError("too late")

    sink.log_metrics, sink.close = lambda values, step: released.wait(30) and sys.exit(3), fail
    logger = GuardedLogger("Service", lambda: sink, patience=0.1)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    released.set()
    assert failed.wait(10)
    logger._thread._thread.join(10)
    assert not uncaught
    assert reasons(caplog) == ["(it did not finish within 0.1 seconds)."]


def test_system_exit_on_the_service_thread_turns_the_logger_off(caplog):
    sink = Hanging()
    sink.log_metrics = lambda values, step: sys.exit(3)
    logger = GuardedLogger("Service", lambda: sink)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    assert reasons(caplog) == ["(3)."]
    assert sink.taken == [("close", "failed")]


def test_only_the_first_process_of_a_parallel_training_starts_a_service(monkeypatch):
    monkeypatch.setattr(guarded_logger.rank_zero_only, "rank", 1)
    before = threading.active_count()
    logger = pickle.loads(pickle.dumps(GuardedLogger("Service", Hanging)))
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    assert not logger.active
    assert threading.active_count() == before


def test_is_resumed_reads_the_command_line_options():
    assert is_resumed(["seed=1", "resume=outputs/a"])
    assert not is_resumed(["seed=1", "resume=null"])


def test_csv_has_a_row_for_each_step_and_adds_columns(tmp_path):
    logger = CSVLogger(path=str(tmp_path / "metrics.csv"))
    logger.log_metrics({"a": 1.0}, step=8)
    logger.log_metrics({"a": 2.0}, step=16)
    logger.log_metrics({"b": 0.1}, step=16)
    logger.log_metrics({"a": 1 / 3}, step=24)
    assert rows(tmp_path / "metrics.csv") == [
        {"step": "8", "a": "1.0", "b": ""},
        {"step": "16", "a": "2.0", "b": "0.1"},
        {"step": "24", "a": repr(1 / 3), "b": ""},
    ]


def test_csv_drops_rows_that_a_resumed_run_repeats(tmp_path):
    path = tmp_path / "metrics.csv"
    first = CSVLogger(path=str(path))
    for step in (8, 16, 24):
        first.log_metrics({"a": step}, step=step)
    second = CSVLogger(path=str(path))
    second.log_metrics({"a": 160.0}, step=16)
    second.log_metrics({"a": 240.0}, step=24)
    assert [row["a"] for row in rows(path)] == ["8.0", "160.0", "240.0"]


def test_csv_resumes_after_a_truncated_last_line(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n8,1.0,2.0\n16,3")
    logger = CSVLogger(path=str(path))
    logger.log_metrics({"a": 3.0, "b": 4.0}, step=16)
    assert [(row["step"], row["a"], row["b"]) for row in rows(path)] == [("8", "1.0", "2.0"), ("16", "3.0", "4.0")]
