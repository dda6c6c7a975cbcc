"""Check that a long training stays flat: memory, file handles, threads and step time, sampled while it runs. Linux.

    uv run scripts/soak.py --minutes 60                    # on a machine with nothing else to do
    uv run scripts/soak.py --minutes 60 --shared           # beside other work: images per second are shown, not checked

Trains the default composition, made small (phantoms of 32 px), in a process of its own, with validations, sample grids
and checkpoints. Reads /proc every --every seconds and metrics.csv at the end; writes samples.csv, output.txt and the
run's folder to --out. The first tenth is warm-up. Flat is: resident memory grows by less than 1 % per hour (least
squares); no more file handles and threads in the last tenth than in the second (medians); no more than 5 % more
processor time per image in the last tenth than in the second, and no more than 5 % fewer images per second (medians,
which leave out validations). Exit code 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MEMORY, STEP = 0.01, 0.05  # growth per hour, change over the run
COLUMNS = ("seconds", "memory_mib", "handles", "threads", "processor_seconds", "images_seen")


def main() -> None:
    """Train, take samples, and check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of training (60)")
    parser.add_argument("--out", type=Path, default=Path("outputs/soak"), help="a new folder (outputs/soak)")
    parser.add_argument("--every", type=float, default=15, help="seconds between samples (15)")
    parser.add_argument("--threads", type=int, default=1, help="of the training (1)")
    parser.add_argument("--shared", action="store_true", help="other work runs: do not check images per second")
    parser.add_argument("options", nargs="*", help="more options of medsynth train, such as val_every_images=20000")
    arguments = parser.parse_args()
    if (arguments.out / "run").exists():
        parser.error(f"{arguments.out} holds a soak already: name another folder by --out.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    run = arguments.out / "run"
    process = _training(run, arguments)
    try:
        samples = _sampled(process, run / "metrics.csv", arguments.every, arguments.out / "samples.csv")
    finally:
        if process.poll() is None:
            process.terminate()
    if process.returncode != 0:
        sys.exit(f"The training ended with exit code {process.returncode}: see {arguments.out / 'output.txt'}.")
    sys.exit(0 if check(samples, _column(run / "metrics.csv", "trainer/images_per_second"), arguments.shared) else 1)


def _training(run: Path, arguments: argparse.Namespace) -> subprocess.Popen:
    seconds = round(60 * arguments.minutes)
    limit = f"{seconds // 86400:02}:{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    options = ["data.image_size=32", "data.source.num_images=2000", "data.source.num_val=500", "val_every_images=40000"]
    options += ["max_images=1000000000", f"trainer.max_time={limit}", "trainer.accelerator=cpu"]
    threads = {name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with (arguments.out / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "medsynth", "train", *options, f"hydra.run.dir={run}", *arguments.options],
            env=os.environ | threads,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _sampled(process: subprocess.Popen, metrics: Path, every: float, path: Path) -> list[dict[str, float]]:
    """Take samples from the first row of ``metrics`` to the end of ``process``, and write each to ``path`` at once."""
    samples: list[dict[str, float]] = []
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        while process.poll() is None:
            began = time.monotonic()
            images = _images_seen(metrics)
            if images and (sample := _sample(process.pid, images)) is not None:
                samples.append(sample)
                writer.writerow(sample)
                file.flush()
            while process.poll() is None and time.monotonic() - began < every:
                time.sleep(0.2)
    return samples


def _sample(pid: int, images: float) -> dict[str, float] | None:
    """Take a sample of the process and all that it started; None where it has just ended."""
    sample = dict.fromkeys(COLUMNS, 0.0) | {"seconds": time.monotonic(), "images_seen": images}
    try:
        for member in _tree(pid):
            fields = (member / "stat").read_text().rpartition(")")[2].split()  # the name before may hold blanks
            sample["processor_seconds"] += (int(fields[11]) + int(fields[12])) / TICKS
            sample["threads"] += int(fields[17])
            sample["memory_mib"] += int(fields[21]) * PAGE / 2**20
            sample["handles"] += len(list((member / "fd").iterdir()))
    except (OSError, IndexError):
        return None
    return sample


def _tree(pid: int) -> Iterator[Path]:
    folder = Path(f"/proc/{pid}")
    yield folder
    for task in (folder / "task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _images_seen(metrics: Path) -> float:
    try:
        return max(_column(metrics, "trainer/images_seen"), default=0.0)
    except OSError:
        return 0.0


def _column(metrics: Path, name: str) -> list[float]:
    """Return the values of a column in their order; the last row may be half written."""
    with metrics.open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def check(samples: Sequence[dict[str, float]], speeds: Sequence[float], shared: bool) -> bool:
    """Print the table and the verdicts; return True where everything that is checked is flat."""
    if len(samples) < 11 or len(speeds) < 10:
        sys.exit(f"{len(samples)} samples and {len(speeds)} speeds are too few to check: train longer.")
    series = {name: [sample[name] for sample in samples] for name in ("memory_mib", "handles", "threads")}
    series |= {"processor ms per image": _costs(samples), "images per second": list(speeds)}
    hours = (samples[-1]["seconds"] - samples[0]["seconds"]) / 3600
    print(f"{len(samples)} samples over {60 * hours:.1f} minutes, {samples[-1]['images_seen']:,.0f} images")
    if hours < 0.5:
        print("Under 30 minutes a growth per hour says little.")
    print("| | first tenth | second tenth | middle | last tenth | growth per hour | verdict |")
    print("|---|---|---|---|---|---|---|")
    verdicts = []
    for name, values in series.items():
        tenths = [statistics.median(_tenth(values, begin)) for begin in (0.0, 0.1, 0.45, 0.9)]
        growth = _growth(values, hours) / tenths[1]
        checked = not (shared and name == "images per second")
        flat = _flat(name, tenths, growth)
        verdicts.append(flat or not checked)
        cells = [f"{value:,.5g}" for value in tenths] + [f"{100 * growth:+.2f} %"]
        print(f"| {name} | {' | '.join(cells)} | {('flat' if flat else 'NOT FLAT') if checked else 'not checked'} |")
    return all(verdicts)


def _costs(samples: Sequence[dict[str, float]]) -> list[float]:
    """Return the milliseconds of processor time per image between samples."""
    costs = []
    for before, after in itertools.pairwise(samples):
        if after["images_seen"] > before["images_seen"]:
            spent = after["processor_seconds"] - before["processor_seconds"]
            costs.append(1000 * spent / (after["images_seen"] - before["images_seen"]))
    return costs


def _tenth(values: Sequence[float], begin: float) -> Sequence[float]:
    """Return a tenth of ``values``, from the fraction ``begin`` of them on."""
    start = round(begin * len(values))
    return values[start : start + max(1, len(values) // 10)]


def _growth(values: Sequence[float], hours: float) -> float:
    """Return the slope per hour by least squares, without the first tenth; the values are taken as evenly spaced."""
    steady = values[len(values) // 10 :]
    times = [hours * (0.1 + 0.9 * number / (len(steady) - 1)) for number in range(len(steady))]
    return statistics.linear_regression(times, steady).slope


def _flat(name: str, tenths: Sequence[float], growth: float) -> bool:
    _, before, _, after = tenths
    if name == "memory_mib":
        return growth < MEMORY
    if name in ("handles", "threads"):
        return after <= before
    return (before / after if name == "images per second" else after / before) < 1 + STEP


if __name__ == "__main__":
    main()
