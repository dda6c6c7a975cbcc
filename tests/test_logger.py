"""Loggers, read back after one training that was resumed: metrics.csv, TensorBoard, MLflow, W&B, and their guard."""

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
from medsynth.logger import courier, guarded, mlflow, tensorboard
from medsynth.logger.csv import CSVLogger
from medsynth.logger.guarded import Guarded
from medsynth.logger.identity import is_resumed, recall
from medsynth.runs.status import STOPPED
from tests.command import TINY, run

SILENT = types.SimpleNamespace(readouterr=lambda: ("", ""))
VALIDATIONS, STEPS = [32, 64, 96], list(range(8, 97, 8))
OBJECTIVE = "val/fd_mini"


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def offline_records(run_folder):
    """What W&B wrote, by its own reader."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run_folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def of_type(records, kind):
    return [record[kind] for record in records if record["type"] == kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of 64 images with all loggers, resumed to 96."""
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
    """What the csv file says: column -> {images seen: value}."""
    table = rows(trained / "run" / "metrics.csv")
    return {name: {int(row["step"]): float(row[name]) for row in table if row[name]} for name in table[0]}


@pytest.fixture(scope="module")
def offline(trained):
    """Records of the two folders that W&B wrote, before and after the run was resumed."""
    return [offline_records(path) for path in sorted((trained / "run" / "wandb").glob("offline-run-*"))]


def history(records):
    return [record["item"] for record in of_type(records, "history")]


def test_wandb_values_stand_at_images_seen(offline, written):
    items = history(offline[0]) + history(offline[1])
    assert [item["trainer/images_seen"] for item in items] == [item["_step"] for item in items] == STEPS
    for name in ("train/generator_loss", "train/discriminator_gradient_norm", "train/real_logits"):
        assert [item[name] for item in items] == pytest.approx(list(written[name].values()))
    for name in (OBJECTIVE, f"{OBJECTIVE}_low", f"{OBJECTIVE}_high"):
        assert {i["_step"]: i[name] for i in items if name in i} == pytest.approx(written[name])
    assert list(written[OBJECTIVE]) == VALIDATIONS
    (axis,) = of_type(offline[0], "metric")
    assert (axis["glob_name"], axis["step_metric"]) == ("*", "trainer/images_seen")


def test_wandb_keeps_a_resumed_run_one_run(offline, trained):
    first, second = (of_type(records, "run")[0] for records in offline)
    assert first["run_id"] == second["run_id"] == recall(trained / "run", "wandb")["id"]
    assert second["resume"] is True


def test_wandb_configuration_says_what_ran_on_what(offline):
    config = {key: value for record in of_type(offline[0], "config") for key, value in record["update"].items()}
    assert config["max_images"] == 64
    assert config["data"]["image_size"] == 16
    run_facts = config["run"]
    assert run_facts["data"] == "64 procedural head phantoms"
    assert len(run_facts["data_fingerprint"]) == 16
    assert (run_facts["device"], run_facts["num_train"], run_facts["num_val"]) == ("cpu", 64, 16)
    assert of_type(offline[0], "stats"), "the machine's load"


def test_wandb_pictures_generator_summary_and_exit(offline, trained):
    folder = trained / "run" / "wandb"
    for title, count in (("generated", 3), ("real", 3)):
        assert len(list(folder.glob(f"offline-run-*/files/media/images/samples/{title}_*.png"))) == count
    summary = json.loads((trained / "run" / "summary.json").read_text())
    artifact = of_type(offline[0], "artifact")[0]
    assert (artifact["type"], sorted(artifact["aliases"])) == ("model", ["best", "latest"])
    assert artifact["manifest"]["contents"][0]["path"] == "generator.safetensors"
    assert json.loads(artifact["metadata"])["data"] == "64 procedural head phantoms"
    ends = {
        name: value for records in offline for s in of_type(records, "summary") for name, value in s["update"].items()
    }
    assert ends[f"best/{OBJECTIVE}"] == pytest.approx(summary["best"]["value"])
    assert ends["best/images_seen"] == summary["best"]["images_seen"]
    assert ends["status"] == "completed"
    assert [of_type(records, "exit")[0].get("exit_code", 0) for records in offline] == [0, 0]


def test_tensorboard_holds_values_pictures_and_configuration(trained, written):
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


def test_mlflow_holds_values_pictures_generator_and_status(trained, written):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{trained}/outputs/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("medsynth").experiment_id])
    assert found.info.run_id == recall(trained / "run", "mlflow")["id"], "a resumed run is the same run"
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


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for values in ({8: 1.0, 16: 2.0, 24: 3.0}, {16: 20.0, 24: 30.0}):
        logger = tensorboard.build(folder=str(tmp_path))
        logger.log_hyperparams({"a": 1})
        for step, value in values.items():
            logger.log_metrics({"loss": value}, step=step)
        logger.close(failed=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(8, 1), (16, 20), (24, 30)]


def test_mlflow_says_how_a_run_ended(tmp_path):
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
def test_a_missing_package_is_named_with_its_extra(module, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    options = {"uri": None, "store": str(tmp_path), "experiment": "e"} if package == "mlflow" else {}
    with pytest.raises(InputError, match=rf"pip install medsynth\[{package}\]"):
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


def test_a_failure_is_said_once_and_silences_the_logger(caplog):
    sink = Breaking()
    logger = Guarded("Service", lambda: sink)
    for step in (1, 2, 3):
        logger.log_metrics({"a": 0.5}, step=step)
    logger.close(failed=False)
    assert sink.taken == [({"a": 0.5}, 1)]
    assert sink.closed == ["failed"]
    assert not logger.active
    assert [record.getMessage() for record in caplog.records] == [
        "Service failed and is off for the rest of this run; metrics.csv goes on (the service is gone)."
    ]


def test_a_service_that_does_not_start_is_no_obstacle_but_a_mistake_is(caplog):
    logger = Guarded("Service", lambda: Path("/nowhere/at/all").read_text())
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    assert len(caplog.records) == 1

    def refuse():
        raise InputError("choose another")

    with pytest.raises(InputError, match="choose another"):
        Guarded("Service", refuse)


class Hanging:
    """A sink that takes calls in order, but hangs in that of the method named until it is released."""

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


def said(caplog):
    return [record.getMessage().partition("goes on ")[2] for record in caplog.records]


def seconds(call, *arguments, **options):
    start = time.monotonic()
    call(*arguments, **options)
    return time.monotonic() - start


def test_calls_arrive_in_order_on_one_thread_as_they_were_when_handed_over(caplog):
    sink = Hanging()
    logger = Guarded("Service", lambda: sink)
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
    assert all(thread.daemon for thread in sink.threads), "one that hangs would keep the process from ending"
    assert not logger.active
    assert not said(caplog)


def test_a_call_that_hangs_holds_up_neither_the_training_nor_its_end(caplog):
    sink, abandoned = Hanging("log_metrics"), []
    logger = Guarded("Service", lambda: sink, patience=0.3, abandon=lambda: abandoned.append(True))
    logger.log_hyperparams({"a": 1})
    assert max(seconds(logger.log_metrics, {"a": 1.0}, step=step) for step in range(100)) < 0.2
    assert logger.active
    assert seconds(logger.close, failed=False) < 1.5
    assert abandoned == [True]
    assert said(caplog) == ["(it was not done after 0.3 seconds)."]
    assert sink.taken == [("log_hyperparams", {"a": 1})]


def test_a_service_that_hangs_in_the_course_of_a_run_is_given_up_and_ended_if_it_comes_back(caplog):
    sink = Hanging("log_metrics")
    logger = Guarded("Service", lambda: sink, patience=0.1)
    logger.log_metrics({"a": 1.0}, step=1)
    assert sink.entered.wait(10)
    time.sleep(0.15)
    assert seconds(logger.log_metrics, {"a": 2.0}, step=2) < 0.1
    assert not logger.active
    assert said(caplog) == ["(it has not answered for 0.1 seconds)."]
    sink.released.set()
    logger.close(failed=False)
    assert sink.taken == [("log_metrics", {"a": 1.0}, 1), ("close", "failed")]
    assert len(caplog.records) == 1


def test_a_service_that_falls_behind_is_given_up(monkeypatch, caplog):
    for module in (courier, guarded):
        monkeypatch.setattr(module, "CAPACITY", 5)
    sink = Hanging("log_metrics")
    logger = Guarded("Service", lambda: sink, patience=30)
    logger.log_metrics({"a": 0.0}, step=0)
    assert sink.entered.wait(10)
    for step in range(1, 6):
        logger.log_metrics({"a": 0.0}, step=step)
    assert logger.active
    assert seconds(logger.log_metrics, {"a": 0.0}, step=6) < 0.2
    assert not logger.active
    assert said(caplog) == ["(it is 5 calls behind)."]
    sink.released.set()
    logger.close(failed=False)
    assert sink.taken == [("log_metrics", {"a": 0.0}, 0), ("close", "failed")], "what waited is forgotten"


@pytest.mark.parametrize("released", [True, False])
def test_a_start_that_hangs_is_given_up(released, caplog):
    sink, let = Hanging(), threading.Event()

    def opening():
        assert let.wait(30)
        return sink

    start = time.monotonic()
    logger = Guarded("Service", opening, patience=0.2)
    assert time.monotonic() - start < 1
    assert not logger.active
    logger.log_metrics({"a": 1.0}, step=1)
    if released:
        let.set()
    assert seconds(logger.close, failed=False) < 1
    assert said(caplog) == ["(it did not start within 0.2 seconds)."]
    assert sink.taken == ([("close", "failed")] if released else []), "a run that starts too late is ended"


def test_an_end_that_hangs_is_given_up(caplog):
    sink = Hanging("close")
    logger = Guarded("Service", lambda: sink, patience=0.2)
    logger.log_metrics({"a": 1.0}, step=1)
    assert seconds(logger.close, failed=False) < 1
    assert said(caplog) == ["(it was not done after 0.2 seconds)."]
    assert sink.taken == [("log_metrics", {"a": 1.0}, 1)]


def test_what_fails_after_it_was_given_up_is_not_said(monkeypatch, caplog):
    sink, uncaught = Hanging(), []
    monkeypatch.setattr(threading, "excepthook", uncaught.append)
    released, failed = threading.Event(), threading.Event()

    def fail(status):
        failed.set()
        raise ConnectionResetError("too late")

    sink.log_metrics, sink.close = lambda values, step: released.wait(30) and sys.exit(3), fail
    logger = Guarded("Service", lambda: sink, patience=0.1)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    released.set()
    assert failed.wait(10)
    logger._courier._thread.join(10)
    assert not uncaught
    assert said(caplog) == ["(it was not done after 0.1 seconds)."]


def test_even_an_exit_on_the_service_thread_is_a_failure_like_any_other(caplog):
    sink = Hanging()
    sink.log_metrics = lambda values, step: sys.exit(3)
    logger = Guarded("Service", lambda: sink)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    assert said(caplog) == ["(3)."]
    assert sink.taken == [("close", "failed")]


def test_other_processes_of_a_parallel_training_start_nothing(monkeypatch):
    monkeypatch.setattr(guarded.rank_zero_only, "rank", 1)
    before = threading.active_count()
    logger = pickle.loads(pickle.dumps(Guarded("Service", Hanging)))
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close(failed=False)
    assert not logger.active
    assert threading.active_count() == before


def test_resumed_is_what_was_typed():
    assert is_resumed(["seed=1", "resume=outputs/a"])
    assert not is_resumed(["seed=1", "resume=null"])


def test_csv_rows_by_step_with_columns_as_they_come(tmp_path):
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


def test_csv_resumes_and_forgets_what_is_done_again(tmp_path):
    path = tmp_path / "metrics.csv"
    first = CSVLogger(path=str(path))
    for step in (8, 16, 24):
        first.log_metrics({"a": step}, step=step)
    second = CSVLogger(path=str(path))
    second.log_metrics({"a": 160.0}, step=16)
    second.log_metrics({"a": 240.0}, step=24)
    assert [row["a"] for row in rows(path)] == ["8.0", "160.0", "240.0"]


def test_csv_outlives_a_cut_last_line(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n8,1.0,2.0\n16,3")
    logger = CSVLogger(path=str(path))
    logger.log_metrics({"a": 3.0, "b": 4.0}, step=16)
    assert [(row["step"], row["a"], row["b"]) for row in rows(path)] == [("8", "1.0", "2.0"), ("16", "3.0", "4.0")]
