"""W&B: modes, agents, jobs of a sweep, and failures of its service; read back from what it wrote offline."""

import glob
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import wandb
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from medsynth.contracts import InputError
from medsynth.logger import wandb as logger_wandb
from medsynth.logger.run_ids import load_id, save_id
from medsynth.logger.wandb import build, place_of, reopen
from tests.command import TINY, run
from tests.test_logger import history, of_type, offline_records, rows

ROOT = Path(__file__).parents[1]
DUMMY_KEY = "0" * 40
SECRET = "not-to-be-seen-anywhere"
LOGGED = ("logger=wandb", "logger.wandb.mode=offline", "logger.wandb.patience=1", "trainer.log_every_n_steps=1")
HANGING_TRAINING = [*TINY, *LOGGED, "hydra.run.dir=run"]


def offline_runs(folder):
    return [offline_records(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]


def ended(records):
    """Return (exit code, status) of a run."""
    summary = {name: value for update in of_type(records, "summary") for name, value in update["update"].items()}
    return of_type(records, "exit")[0].get("exit_code", 0), summary.get("status")


def test_each_job_of_a_sweep_is_a_run_with_group_and_name(tmp_path):
    for name, failed in (("loss=hinge", True), ("loss=minimax", False)):
        logger = build(folder=str(tmp_path / name), mode="offline", project="p", name=name, group="sweep 7")
        logger.log_metrics({"a": 1.0}, step=8)
        logger.close(failed=failed)
    runs = {name: offline_runs(tmp_path / name)[0] for name in ("loss=hinge", "loss=minimax")}
    started = [of_type(records, "run")[0] for records in runs.values()]
    assert [(r["display_name"], r["run_group"]) for r in started] == [(name, "sweep 7") for name in runs]
    assert len({r["run_id"] for r in started}) == 2
    assert [ended(records) for records in runs.values()] == [(1, "failed"), (0, "completed")]
    assert wandb.run is None, "the next job would log into a run left open"


def test_a_resumed_run_keeps_its_id_and_a_new_one_does_not(tmp_path):
    identities = []
    for typed in ([], ["resume=run"], ["seed=2"]):
        logger = build(folder=str(tmp_path), mode="offline", project="p", group="g", overrides=typed)
        logger.close(failed=False)
        identities.append(load_id(tmp_path, "wandb")["id"])
    assert identities[0] == identities[1] != identities[2]


def test_values_that_a_resumed_run_repeats_are_not_sent_twice(tmp_path):
    logger = build(folder=str(tmp_path), mode="offline", project="p")
    for step, value in ((8, 1.0), (16, 2.0), (8, 1.0), (16, 2.0), (24, 3.0)):
        logger.log_metrics({"a": value}, step=step)
    logger.close(failed=False)
    (records,) = offline_runs(tmp_path)
    assert [(item["_step"], item["a"]) for item in history(records)] == [(8, 1), (16, 2), (24, 3)]


def test_a_finished_run_is_reopened_for_its_evaluation(tmp_path):
    assert reopen(tmp_path) is None
    build(folder=str(tmp_path), mode="offline", project="p").close(failed=False)
    logger = reopen(tmp_path)
    logger.log_summary({"test/fd_mini": 1.5})
    logger.close(failed=False)
    first, second = offline_runs(tmp_path)
    assert of_type(first, "run")[0]["run_id"] == of_type(second, "run")[0]["run_id"]
    assert {"test/fd_mini": 1.5} in [update["update"] for update in of_type(second, "summary")]
    command, action, pattern = place_of(tmp_path).split()
    assert (command, action) == ("wandb", "sync")
    assert [offline_records(Path(path)) for path in sorted(glob.glob(pattern))] == [first, second]


def test_the_place_of_a_run_is_its_address_or_nothing(tmp_path):
    assert place_of(tmp_path) is None
    save_id(tmp_path, "wandb", id="a", project="p", mode="online", url="https://wandb.ai/me/p/runs/a")
    assert place_of(tmp_path) == "https://wandb.ai/me/p/runs/a"
    save_id(tmp_path, "wandb", id="a", project="p", mode="online")
    assert place_of(tmp_path) is None


def test_disabled_writes_nothing(tmp_path):
    logger = build(folder=str(tmp_path), mode="disabled", project="p")
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"a": 1.0}, step=8)
    logger.log_summary({"b": 1.0})
    assert logger.active
    logger.close(failed=False)
    assert not list(tmp_path.rglob("*.wandb"))
    assert load_id(tmp_path, "wandb") == {}


def test_the_sweep_file_gives_a_command_that_composes(monkeypatch):
    sweep = yaml.safe_load((ROOT / "scripts" / "wandb_sweep.yaml").read_text())
    given = {}
    for name, choice in sweep["parameters"].items():
        given[name] = {"value": choice["values"][0] if "values" in choice else choice["min"]}
    arguments = create_sweep_command_args({"args": given})["args_no_hyphens"]
    command = [str(part) for part in create_sweep_command(sweep["command"])]
    command[command.index("${args_no_hyphens}") :] = arguments
    assert command[command.index("python") + 1] == "${program}"
    assert (ROOT / sweep["program"]).is_file()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", command[command.index("${program}") + 1 :])
    assert "wandb" in config.logger
    assert config.objective == sweep["metric"]["name"]
    assert config.penalty.r1.gamma == given["penalty.r1.gamma"]["value"]
    assert config.generator_optimizer.lr == given["generator_optimizer.lr"]["value"]


@pytest.mark.parametrize("chosen", ["[wandb,tensorboard]", "[csv,mlflow]", "[mlflow,wandb,tensorboard]", "wandb"])
def test_loggers_compose_and_always_include_csv(chosen):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [f"logger={chosen}"])
    assert set(config.logger) == {"csv", *chosen.strip("[]").split(",")}


def test_mode_auto_is_online_only_with_a_key(monkeypatch, tmp_path):
    chosen = []

    def start(mode, **_):
        chosen.append(mode)
        raise InputError("far enough")

    monkeypatch.setattr(wandb, "init", start)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for key in (None, DUMMY_KEY):
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        with pytest.raises(InputError, match="far enough"):
            build(folder=str(tmp_path), mode="auto", project="p")
    assert chosen == ["offline", "online"]


def test_wrong_options_are_errors(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(InputError, match="choose auto, online, offline, disabled"):
        build(folder=str(tmp_path), mode="on", project="p")
    with pytest.raises(InputError, match="WANDB_API_KEY"):
        build(folder=str(tmp_path), mode="online", project="p")


def test_keys_environment_and_uncommitted_code_are_not_sent(monkeypatch, tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    code = tmp_path / "code.py"
    code.write_text("a = 1\n")
    for arguments in (("init",), ("add", "code.py"), ("commit", "-m", "x")):
        git(*arguments)
    git("remote", "add", "origin", f"https://someone:{SECRET}@localhost/code.git")
    code.write_text(f"a = '{SECRET}'\n")
    monkeypatch.setenv("WANDB_API_KEY", DUMMY_KEY)
    monkeypatch.setenv("OTHER", SECRET)
    monkeypatch.chdir(tmp_path)
    logger = build(folder=str(tmp_path / "run"), mode="offline", project="p")
    logger.log_metrics({"a": 1.0}, step=8)
    logger.close(failed=False)
    content = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert SECRET.encode() not in content
    assert DUMMY_KEY.encode() not in content
    (records,) = offline_runs(tmp_path / "run")
    assert len(of_type(records, "run")[0]["git"]["commit"]) == 40


def python(program, folder, *, code=0, **environment):
    """Run ``program`` in a process of its own, so that no service of W&B is shared; return (stdout, stderr)."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env=known | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_the_environment_of_a_wandb_agent_overrides_the_options(tmp_path):
    environment = {"SWEEP_ID": "sweep123", "RUN_ID": "run456", "PROJECT": "theirs", "RUN_GROUP": "their group"}
    python(
        """
        from medsynth.logger.wandb import build
        build(folder="run", mode="offline", project="ours", name="ours", group="ours").close(failed=False)
        """,
        tmp_path,
        **{f"WANDB_{name}": value for name, value in environment.items()},
    )
    (records,) = offline_runs(tmp_path / "run")
    started = of_type(records, "run")[0]
    assert [started[key] for key in ("sweep_id", "run_id", "project", "run_group")] == list(environment.values())
    assert "display_name" not in started


@pytest.mark.slow
def test_a_service_that_dies_does_not_stop_the_run(tmp_path):
    out, err = python(
        """
        import logging, os, signal, subprocess, time
        from medsynth.logger.wandb import build
        logging.basicConfig(format="%(message)s")
        logger = build(folder="first", mode="offline", project="p", patience=5)
        logger.log_metrics({"a": 1.0}, step=8)
        time.sleep(1)
        ps = ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())]
        children = subprocess.run(ps, capture_output=True, text=True)
        (service,) = [int(line.split()[0]) for line in children.stdout.splitlines() if "wandb-core" in line]
        os.kill(service, signal.SIGKILL)
        time.sleep(0.5)
        start = time.monotonic()
        for step in range(16, 8000, 8):
            logger.log_metrics({"a": 1.0}, step=step)
        logger.close(failed=False)
        print("seconds", time.monotonic() - start)
        second = build(folder="second", mode="offline", project="p")
        second.log_metrics({"a": 2.0}, step=8)
        second.close(failed=False)
        """,
        tmp_path,
    )
    assert err.count("metrics.csv is still written") == 1
    assert "Traceback" not in err
    assert float(out.split()[-1]) < 30
    (records,) = offline_runs(tmp_path / "second")
    assert history(records)[0]["a"] == 2


STOPPED_SERVICE = """
import logging, os, signal, sys, time
import wandb
from medsynth.logger import wandb as module
from wandb.sdk import wandb_setup
logging.basicConfig(format="%(message)s")
initialize = wandb.init
def stop_service(**options):
    wandb.setup()
    os.kill(wandb_setup._singleton._connection._proc._process.pid, signal.SIGSTOP)
    return initialize(**options)
if WHEN == "start":
    wandb.init = stop_service
    wandb.setup()
    module.MARGIN = 1.0
logger = module.build(folder="run", mode="offline", project="p", patience=1)
logger._patience = 2.0
if WHEN != "start":
    time.sleep(1)
    os.kill(wandb_setup._singleton._connection._proc._process.pid, signal.SIGSTOP)
began, slowest = time.monotonic(), 0.0
for step in range(8, 8 + 8 * STEPS, 8):
    before = time.monotonic()
    logger.log_metrics({"a": 1.0}, step=step)
    slowest = max(slowest, time.monotonic() - before)
    time.sleep(0.05)
print("active", logger.active, "slowest", slowest)
logger.close(failed=False)
print("ended", began, time.monotonic())
sys.exit(CODE)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "steps", "active", "code"),
    [
        ("start", 1, "False", 0),
        ("end", 0, "True", 0),
        ("shortly before", 5, "True", 3),
        ("long before", 60, "False", 0),
    ],
)
def test_a_service_that_hangs_does_not_stop_or_delay_the_run(when, steps, active, code, tmp_path):
    """The service is suspended by SIGSTOP."""
    program = STOPPED_SERVICE.replace("WHEN", repr(when)).replace("STEPS", str(steps)).replace("CODE", str(code))
    out, err = python(program, tmp_path, code=code)
    gone = time.monotonic()  # of the machine, so that it compares with that of the other process
    started, ended = (line.split() for line in out.splitlines())
    assert started[1] == active
    assert float(started[3]) < 0.5
    assert float(ended[2]) - float(ended[1]) < 10
    assert gone - float(ended[2]) < 30, "the exit of the process waited for it"
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("W&B failed and is off for the rest of this run; metrics.csv is still written (it ")


@pytest.mark.slow
def test_a_training_whose_service_hangs_completes(tmp_path):
    python(
        """
        import os, signal, sys
        from wandb.sdk import wandb_setup
        from medsynth.lightning.record import Record
        from medsynth.cli import main

        written = Record.on_train_batch_end

        def stop_service(self, trainer, pl_module, *arguments):
            written(self, trainer, pl_module, *arguments)
            if pl_module.images_seen == 16:
                os.kill(wandb_setup._singleton._connection._proc._process.pid, signal.SIGSTOP)

        Record.on_train_batch_end = stop_service
        sys.argv[1:] = OPTIONS
        main("train")
        """.replace("OPTIONS", repr(HANGING_TRAINING)),
        tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    steps = [int(row["step"]) for row in rows(tmp_path / "run" / "metrics.csv")]
    assert steps == list(range(8, 65, 8))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert (tmp_path / "run" / "generator.safetensors").is_file()
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("W&B failed and is off") == 1


@pytest.mark.slow
def test_a_full_disk_is_reported_once(monkeypatch, tmp_path, caplog):
    from PIL import Image

    Image.new("L", (4, 4)).save(tmp_path / "picture.png")
    logger = build(folder=str(tmp_path), mode="offline", project="p")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb.Image, "bind_to_run", full)
    for step in (8, 16):
        logger.log_pictures("samples", {"real": tmp_path / "picture.png"}, step=step)
    logger.close(failed=False)
    messages = [record.getMessage() for record in caplog.records if "No space left" in record.getMessage()]
    assert len(messages) == 1
    assert "metrics.csv is still written" in messages[0]


SERVER = """
import http.server, json, threading
class Server(http.server.BaseHTTPRequestHandler):
    # Answers as W&B's server does for a new run.
    def log_message(self, *arguments):
        pass
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        bucket = {"id": "b", "name": "r", "displayName": "r", "config": "{}", "historyLineCount": 0, "project": project}
        data = {"model": None, "project": None, "upsertBucket": {"bucket": bucket, "inserted": True}}
        reply = json.dumps({"data": data} if self.path == "/graphql" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
    do_GET = do_PUT = do_POST
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""

LOST = """
import logging, os, time
from medsynth.logger.wandb import build
logging.basicConfig(format="%(message)s")
os.environ["WANDB_BASE_URL"] = ADDRESS
logger = build(folder="run", mode="online", project="p", patience=5)
logger.log_metrics({"a": 1.0}, step=8)
time.sleep(1)
LOSE
start = time.monotonic()
logger.log_metrics({"a": 2.0}, step=16)
logger.close(failed=False)
print("seconds", time.monotonic() - start)
"""


@pytest.mark.slow
def test_a_lost_connection_costs_no_more_than_patience(tmp_path):
    lost = LOST.replace("ADDRESS", 'f"http://127.0.0.1:{server.server_port}"')
    out, err = python(
        SERVER + lost.replace("LOSE", "server.shutdown(); server.server_close()"), tmp_path, WANDB_API_KEY=DUMMY_KEY
    )
    assert "Traceback" not in err
    assert float(out.split()[-1]) < 15
    (folder,) = (tmp_path / "run" / "wandb").glob("run-*")
    assert [(item["_step"], item["a"]) for item in history(offline_records(folder))] == [(8, 1), (16, 2)]
    assert load_id(tmp_path / "run", "wandb")["mode"] == "online"


@pytest.mark.slow
def test_without_a_server_the_run_is_kept_offline(tmp_path):
    out, err = python(
        LOST.replace("ADDRESS", '"http://127.0.0.1:9"').replace("LOSE", ""), tmp_path, WANDB_API_KEY=DUMMY_KEY
    )
    assert err.count("this run is kept offline") == 1
    assert float(out.split()[-1]) < 5
    (records,) = offline_runs(tmp_path / "run")
    assert [item["_step"] for item in history(records)] == [8, 16]


@pytest.mark.slow
def test_each_job_of_a_multirun_in_one_process_has_its_run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    inside = ["sweep.processes=false"] if "processes:" in (ROOT / "conf" / "train.yaml").read_text() else []
    swept = ("generator_optimizer.lr=1e30,1e-4", "task.ema_half_life=1000", "logger=wandb", "hydra.sweep.dir=sweep")
    code, _, err = run(monkeypatch, capsys, "-m", *TINY, "trainer.log_every_n_steps=1", *swept, *inside)
    assert code == 1
    assert "generator" in err
    jobs = [offline_runs(tmp_path / "sweep" / number)[0] for number in "01"]
    assert [ended(records)[0] for records in jobs] == [1, 0]
    started = [of_type(records, "run")[0] for records in jobs]
    assert len({each["run_id"] for each in started}) == 2
    assert [each["display_name"] for each in started] == [
        "generator_optimizer.lr=1e+30",
        "generator_optimizer.lr=0.0001",
    ]
    assert {each["run_group"] for each in started} == {f"{tmp_path.name}/sweep"}
    written = rows(tmp_path / "sweep" / "1" / "metrics.csv")
    assert [item["_step"] for item in history(jobs[1])] == [int(row["step"]) for row in written]
    assert logger_wandb.IMAGES_SEEN in written[0]
    assert wandb.run is None
    assert json.loads((tmp_path / "sweep" / "1" / "summary.json").read_text())["status"] == "completed"
