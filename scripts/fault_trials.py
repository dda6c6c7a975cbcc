"""Cause faults in small trainings and count what is lost.

    uv run scripts/fault_trials.py                         all of them, some minutes; Linux
    uv run scripts/fault_trials.py kill cut --trials 10    those named, with fewer trials

Trains TINY phantoms or images on one thread. Each training is a process of its own, forked from this one, which has
imported everything. `disk` needs root, to mount small file systems. "as undisturbed" counts the trials after which
weights of both networks and the EMA, optimizer states, losses and measures are bit for bit those of a run that nothing
happened to, after resume= where the fault ended the run; "said" those that ended in one sentence; "lost" those in which
a checkpoint that had been written could not be resumed from, or anything differed. Exit code 1 where something is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from medsynth.cli import main as medsynth
from medsynth.cli.compose import register_resolvers
from medsynth.configuration.checked_composition import compose_checked
from medsynth.errors import EndCode, InputError
from medsynth.gan import GAN
from medsynth.lightning.checkpoint_io import damage, older
from medsynth.lightning.resume_checkpoint import check_checkpoint

TINY = (
    *("data.image_size=16", "data.batch_size=8", "generator.width=8", "max_images=256", "val_every_images=24"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1", "report=false"),
)
PHANTOM = (*TINY, "data.source.num_images=64", "data.source.num_val=16")
FILES = (*TINY, "data=image_folder", "data.root=images")
CACHE_FILES = {"manifest": "manifest.json", "columns": "columns.npz", "images": "images.npy", "sums": "checksums.json"}
TIMING = {"trainer/images_per_second", "trainer/data_wait"}
Prepare = Callable[[], None]  # what is done in the training's process before it begins


class Count(NamedTuple):
    """Results of the trials of one fault."""

    trials: int
    same: int
    said: int
    lost: int


class Ended(NamedTuple):
    """The end of a training."""

    code: int
    said: str  # what it printed

    @property
    def one_sentence(self) -> bool:
        return self.code == 1 and "Traceback" not in self.said and "medsynth train: error: " in self.said


# ---- trainings -------------------------------------------------------------------------------------------------------


class Training:
    """``medsynth train`` in a process of its own, forked, with ``place`` as its current folder."""

    def __init__(self, place: Path, *arguments: str, prepare: Prepare | None = None):
        self.output = place / f"output-{time.monotonic_ns()}"
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._train(place, arguments, prepare))

    def wait(self) -> Ended:
        _, status = os.waitpid(self.pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), self.output.read_text(errors="replace"))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _train(self, place: Path, arguments: tuple[str, ...], prepare: Prepare | None) -> int:
        code: Any = 1
        os.chdir(place)
        os.environ["XDG_CACHE_HOME"] = str(place / "cache")
        with self.output.open("w", buffering=1) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout, sys.stderr, sys.argv = output, output, ["medsynth", *arguments]
            try:
                (prepare or (lambda: None))()
                medsynth("train")
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            except BaseException as error:
                print(f"Traceback of {type(error).__name__}: {error}")
        return code or 0


def trained(place: Path, *arguments: str, prepare: Prepare | None = None) -> Ended:
    return Training(place, *arguments, prepare=prepare).wait()


def undisturbed(place: Path, options: tuple[str, ...]) -> Path:
    ended = trained(place, *options, "hydra.run.dir=whole")
    if ended.code:
        sys.exit(f"The undisturbed run failed: {ended.said}")
    return place / "whole"


def same(first: Path, second: Path) -> bool:
    """Return whether two runs have the same weights, states and values, bit for bit."""
    with contextlib.suppress(OSError, AssertionError, KeyError):
        one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second))
        for name in ("state_dict", "optimizer_states", "medsynth"):
            torch.testing.assert_close(one[name], two[name], rtol=0, atol=0, equal_nan=True)
        return _rows(first) == _rows(second)
    return False


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMING} for row in csv.DictReader(file)]


def resumed(place: Path, options: tuple[str, ...], run: str = "run") -> Ended:
    """Resume the run, or begin it again where it has no checkpoint yet."""
    if (place / run / "checkpoints" / "last.ckpt").is_file():
        return trained(place, f"resume={run}")
    return trained(place, *options, f"hydra.run.dir={run}")


def at_step(images: int, action: Callable[[], None]) -> Prepare:
    """Do ``action`` before the step that begins with ``images`` seen."""

    def prepare() -> None:
        step = GAN.training_step

        def acting(self: GAN, batch: Any, batch_index: int) -> Any:
            if self.images_seen == images:
                action()
            return step(self, batch, batch_index)

        GAN.training_step = acting

    return prepare


def write_images(folder: Path, count: int = 80) -> None:
    folder.mkdir()
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number:03}.png")


# ---- faults ----------------------------------------------------------------------------------------------------------


def kill(place: Path, trials: int, chance: random.Random) -> Count:
    """Send kill -9 at random moments after the run's folder exists."""
    began = time.monotonic()
    first = Training(place, *PHANTOM, "hydra.run.dir=whole")
    _await(place / "whole" / "config.yaml")
    start = time.monotonic()
    first.wait()
    seconds, tried, good = time.monotonic() - start, 0, 0
    while tried < trials and time.monotonic() - began < 60 * trials:
        shutil.rmtree(place / "run", ignore_errors=True)
        training = Training(place, *PHANTOM, "hydra.run.dir=run")
        _await(place / "run" / "config.yaml")
        time.sleep(chance.uniform(0, seconds))
        training.kill()
        if '"completed"' in (place / "run" / "summary.json").read_text():
            continue  # too late
        tried += 1
        good += resumed(place, PHANTOM).code == 0 and same(place / "run", place / "whole")
    return Count(tried, good, 0, tried - good)


def _await(path: Path) -> None:
    while not path.is_file():
        time.sleep(0.005)


def cut(place: Path, trials: int, chance: random.Random) -> Count:
    """Cut the last checkpoint at a random place, every fifth time the older one too; resume from one of them."""
    whole = undisturbed(place, PHANTOM)
    trained(place, *PHANTOM, "hydra.run.dir=run", prepare=at_step(160, lambda: os._exit(9)))
    last, older_one = (older(place / "run" / "checkpoints" / "last.ckpt", number) for number in (0, 1))
    contents = last.read_bytes(), older_one.read_bytes()
    taken = said = 0
    for trial in range(trials):
        last.write_bytes(contents[0][: chance.randrange(len(contents[0]))])
        both = trial % 5 == 4
        if both:
            older_one.write_bytes(contents[1][: chance.randrange(len(contents[1]) - 100)])
        model = argparse.Namespace(images_seen=0, max_images=256, on_load_checkpoint=lambda checkpoint: None)
        try:
            found = check_checkpoint(place / "run", model)
            taken += not both and found in (older_one, last) and damage(found) is None
        except InputError as error:
            said += both and error.code is EndCode.CHECKPOINT_DAMAGED and "\n" not in str(error)
        older_one.write_bytes(contents[1])
    last.write_bytes(contents[0][: len(contents[0]) // 2])
    resumes = trained(place, "resume=run").code == 0 and same(place / "run", whole)
    return Count(trials, taken if resumes else 0, said, trials - taken - said + (not resumes))


def disk(place: Path, trials: int, chance: random.Random) -> Count:
    """Fill the disk of the run and of W&B's files after a random number of bytes; then enlarge it."""
    options = (*PHANTOM, "logger=wandb", "logger.wandb.mode=offline")
    whole = undisturbed(place, options)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    good = said = 0
    for trial in range(trials):
        folder = place / f"disk-{trial}"
        folder.mkdir()
        with mounted(folder, chance.randrange(200_000, size)):
            ended = trained(place, *options, f"hydra.run.dir={folder / 'run'}")
            said += ended.one_sentence
            subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
            if ended.code:
                ended = resumed(place, options, f"disk-{trial}/run")
            good += ended.code == 0 and same(folder / "run", whole)
    return Count(trials, good, said, trials - good)


def cache_disk(place: Path, trials: int, chance: random.Random) -> Count:
    """Fill the disk of the cache while images are prepared; then enlarge it."""
    write_images(place / "images")
    whole = undisturbed(place, FILES)
    good = said = 0
    for trial in range(trials):
        folder, run = place / f"cache-{trial}", f"hydra.run.dir=run-{trial}"
        folder.mkdir()
        with mounted(folder, 4096 * chance.randrange(1, 6)):
            ended = trained(place, *FILES, run, f"data.cache_dir={folder}")
            said += ended.one_sentence
            subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
            if ended.code:
                ended = trained(place, *FILES, run, f"data.cache_dir={folder}")
            good += ended.code == 0 and same(place / f"run-{trial}", whole)
    return Count(trials, good, said, trials - good)


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def files(place: Path, trials: int, chance: random.Random) -> Count:
    """Remove or change an image file between two steps: the run has its own copy and ends as undisturbed."""
    good = 0
    for trial in range(trials):
        here = place / str(trial)
        here.mkdir()
        write_images(here / "images")
        whole = undisturbed(here, FILES)
        victim = here / "images" / f"{chance.randrange(80):03}.png"
        fault = victim.unlink if trial % 2 else lambda victim=victim: victim.write_bytes(b"no image")
        ended = trained(here, *FILES, "hydra.run.dir=run", prepare=at_step(8 * chance.randrange(1, 30), fault))
        good += ended.code == 0 and same(here / "run", whole)
    return Count(trials, good, 0, trials - good)


def worker(place: Path, trials: int, chance: random.Random) -> Count:
    """Send kill -9 to a process that loads images."""
    write_images(place / "images")
    options = (*FILES, "data.num_workers=2", "data.flip=horizontal")

    def fault() -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        loaders = [int(pid) for pid in children if b"spawn" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(chance.choice(loaders), signal.SIGKILL)

    return _after(place, options, trials, chance, fault)


def memory(place: Path, trials: int, chance: random.Random) -> Count:
    """Raise PyTorch's out-of-memory error in a step."""

    def fault() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    return _after(place, PHANTOM, trials, chance, fault)


def clock(place: Path, trials: int, chance: random.Random) -> Count:
    """Set the clock back by a day between two steps."""
    now = time.time

    def fault() -> None:
        time.time = lambda: now() - 86400

    return _after(place, PHANTOM, trials, chance, fault)


def _after(place: Path, options: tuple[str, ...], trials: int, chance: random.Random, fault: Prepare) -> Count:
    whole, good, said = undisturbed(place, options), 0, 0
    for _ in range(trials):
        shutil.rmtree(place / "run", ignore_errors=True)
        images = 8 * chance.randrange(1, 32)
        ended = trained(place, *options, "hydra.run.dir=run", prepare=at_step(images, fault))
        said += ended.one_sentence
        if ended.code:
            ended = resumed(place, options)
        good += ended.code == 0 and same(place / "run", whole)
    return Count(trials, good, said, trials - good)


def second(place: Path, trials: int, chance: random.Random) -> Count:
    """Start two runs in one second: each has a folder of its own."""
    whole, good = undisturbed(place, PHANTOM), 0
    for _ in range(trials):
        shutil.rmtree(place / "outputs", ignore_errors=True)
        both = [Training(place, *PHANTOM), Training(place, *PHANTOM)]
        codes = [training.wait().code for training in both]
        runs = [path.parent for path in (place / "outputs").glob("*/*/summary.json")]
        good += codes == [0, 0] and len(runs) == 2 and all(same(run, whole) for run in runs)
    return Count(trials, good, 0, trials - good)


def cache(place: Path, trials: int, chance: random.Random) -> Count:
    """Prepare the same images into one cache by two runs at once."""
    write_images(place / "images")
    whole, good = undisturbed(place, FILES), 0
    for trial in range(trials):
        shutil.rmtree(place / "cache")
        names = [f"{trial}-{number}" for number in range(2)]
        both = [Training(place, *FILES, f"hydra.run.dir={name}") for name in names]
        codes = [training.wait().code for training in both]
        good += codes == [0, 0] and all(same(place / name, whole) for name in names)
    return Count(trials, good, 0, trials - good)


def prepare(place: Path, trials: int, chance: random.Random) -> Count:
    """Send SIGTERM at random moments while two processes prepare images: status, processes, folders; then train."""
    write_images(place / "images", 400)
    options = (*FILES, "data.prepare_workers=2")
    whole, good, said, tried = undisturbed(place, options), 0, 0, 0
    while tried < trials:
        for name in ("run", "cache"):
            shutil.rmtree(place / name, ignore_errors=True)
        training = Training(place, *options, "hydra.run.dir=run", prepare=os.setsid)
        _await(place / "run" / "summary.json")
        time.sleep(chance.uniform(0, 1))
        os.kill(training.pid, signal.SIGTERM)
        ended = training.wait()
        if ended.code != 128 + signal.SIGTERM:
            continue  # it trains already, and stops with a checkpoint
        tried += 1
        said += "Traceback" not in ended.said and "stopped by SIGTERM" in ended.said
        stopped = '"stopped"' in (place / "run" / "summary.json").read_text()
        left = [path for path in (place / "cache").rglob(".*") if path.is_dir()]
        again = trained(place, *options, "hydra.run.dir=again")
        good += (
            stopped and not left and not _group_lives(training.pid) and again.code == 0 and same(place / "again", whole)
        )
        shutil.rmtree(place / "again", ignore_errors=True)
    return Count(tried, good, said, tried - good)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def damaged_cache(file: str) -> Callable[[Path, int, random.Random], Count]:
    """Return trials that cut, remove or change a file of a cache entry: it is said and prepared again, unchanged."""

    def fault(place: Path, trials: int, chance: random.Random) -> Count:
        write_images(place / "images")
        typed = (*FILES[:-1], f"data.root={place / 'images'}", f"data.cache_dir={place / 'cache'}")
        register_resolvers()
        config = compose_checked("train", list(typed)).data
        expected, good, said = _content(config), 0, 0
        for trial in range(trials):
            (path,) = (place / "cache").glob(f"[!.]*/{file}")
            damage_file(path, trial % 3, chance)
            with _warnings() as warnings:
                good += _content(config) == expected
            said += any("are damaged" in text and "prepared again" in text for text in warnings)
        return Count(trials, good, said, trials - min(good, said))

    return fault


def damage_file(path: Path, kind: int, chance: random.Random) -> None:
    """Cut the file at a random place (kind 0), remove it (1), or change 1 to 100 of its bytes (2)."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if kind == 0:
        path.write_bytes(content[: chance.randrange(len(content))])
    elif kind == 2:
        for position in chance.sample(range(len(content)), min(len(content), chance.randint(1, 100))):
            content[position] ^= chance.randint(1, 255)
        path.write_bytes(content)


def _content(config: DictConfig) -> str:
    """Return a digest of all images and columns of a data set."""
    data = instantiate(config, _convert_="all")
    data.prepare()
    store = data.source.store
    content = hashlib.sha256(store.read(np.arange(len(store))).numpy().tobytes())
    content.update(json.dumps([dict(store.columns), store.manifest], sort_keys=True).encode())
    return content.hexdigest()


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    log, texts = logging.getLogger("medsynth.data.cache"), list[str]()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield texts
    finally:
        log.removeHandler(handler)
        log.propagate = True


def folder(place: Path, trials: int, chance: random.Random) -> Count:
    """Start two runs in one folder at once, then resume it twice at once: one proceeds, the other says why not."""
    whole, good, said = undisturbed(place, PHANTOM), 0, 0
    for trial in range(trials):
        name = f"run-{trial}"
        both = [Training(place, *PHANTOM, f"hydra.run.dir={name}") for _ in range(2)]
        ends = [training.wait() for training in both]
        started = sorted(end.code for end in ends) == [0, 1] and any(end.one_sentence for end in ends)
        first = same(place / name, whole)
        both = [Training(place, f"resume={name}", "max_images=512") for _ in range(2)]
        ends = [training.wait() for training in both]
        resumed_once = sorted(end.code for end in ends) == [0, 1] and any(end.one_sentence for end in ends)
        left = list((place / name).rglob("*.tmp"))
        said += started + resumed_once
        good += started and first and resumed_once and not left
    return Count(trials, good, said, trials - good)


def address_space(place: Path, trials: int, chance: random.Random) -> Count:
    """Leave a process too little memory to load the libraries: 32 MiB to 3 GiB of addresses."""
    said = 0
    for trial in range(trials):
        limit = round(32 * 2**20 * 96 ** (trial / max(1, trials - 1)))
        ended = subprocess.run(
            [sys.executable, "-m", "medsynth", "train", *PHANTOM],
            capture_output=True,
            text=True,
            cwd=place,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        said += ended.returncode == 1 and ended.stderr.count("\n") == 1 and ": error: " in ended.stderr
    return Count(trials, 0, said, trials - said)


def damaged(place: Path, trials: int, chance: random.Random) -> Count:
    """Damage a file of a run, a sweep or a search, and run a command that reads it: see damage_trials.py."""
    from damage_trials import attempt as damage_files  # here, since it imports all commands

    counts = damage_files(place, trials, chance)
    used, said, lost = (sum(n for (_, k), n in counts.items() if k == kind) for kind in ("used", "said", "lost"))
    return Count(trials, used, said, lost)


FAULTS = {
    **{"kill": (kill, 30), "cut": (cut, 50), "disk": (disk, 8), "cache_disk": (cache_disk, 4), "files": (files, 4)},
    **{"worker": (worker, 4), "memory": (memory, 4), "clock": (clock, 4), "second": (second, 5), "cache": (cache, 5)},
    **{name: (damaged_cache(file), 150) for name, file in CACHE_FILES.items()},
    **{
        "prepare": (prepare, 10),
        "folder": (folder, 5),
        "address_space": (address_space, 10),
        "damaged": (damaged, 300),
    },
}


def main() -> None:
    """Try the faults that were named and print what was counted."""
    logging.getLogger("medsynth").setLevel(logging.ERROR)  # that an older checkpoint was taken is what is counted
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help=f"some of {', '.join(FAULTS)} (all)")
    parser.add_argument("--trials", type=int, help="at most, of each fault")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and places (0)")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}: choose of {', '.join(FAULTS)}.")
    torch.set_num_threads(1)
    print(f"{'fault':12} {'trials':>7} {'as undisturbed':>15} {'said':>6} {'lost':>6}", flush=True)
    lost = 0
    for name in arguments.faults or FAULTS:
        count = attempt(name, arguments.trials, arguments.seed)
        lost += count.lost
        print(f"{name:12} {count.trials:7} {count.same:15} {count.said:6} {count.lost:6}", flush=True)
    sys.exit(1 if lost else 0)


def attempt(name: str, trials: int | None = None, seed: int = 0) -> Count:
    """Try one fault in a temporary folder."""
    fault, most = FAULTS[name]
    with tempfile.TemporaryDirectory(prefix="medsynth-faults-") as place:
        return fault(Path(place), min(trials or most, most), random.Random(seed))


if __name__ == "__main__":
    main()
