"""Measure how time and memory grow with the size of the work: each case at two sizes, by processor time.

    uv run scripts/benchmark_scale.py                                    # all cases, about an hour on two cores
    uv run scripts/benchmark_scale.py --case png --sizes 25000,100000    # one case, two sizes of your own
    uv run scripts/benchmark_scale.py --case sweep --sizes 2,4           # to see that it works

Inputs are made in a temporary folder and removed. Each size runs in a process of its own after its imports. Times are
of that process and of all that it starts: processor time (user and system) and wall time. The exponent is
log(t2/t1) / log(n2/n1) of the processor time: 1 is linear, 2 quadratic, 0 independent of the size. Memory is the
highest proportional set size of all these processes together (pages that they share count once), sampled five times a
second from /proc, so that it needs Linux; in brackets what they had before the phase. docs/scale.md has the table.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import gc
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SAMPLED_EVERY = 0.2  # seconds
Phase = tuple[str, Callable[[], dict[str, float] | None]]  # its name; the work, which may return values to print
TINY = (  # the smallest training there is
    "data.image_size=16",
    "data.source.num_images=64",
    "data.source.num_val=16",
    "data.batch_size=8",
    "generator.width=8",
    "max_images=64",
    "val_every_images=32",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        unit: of its sizes.
        sizes: the two sizes by default.
        make: (folder, size): write the inputs, in a process of its own.
        phases: (folder, size) -> the measured phases, in order.
        bound: the reason why memory is bounded, for the table.
    """

    unit: str
    sizes: tuple[int, int]
    make: Callable[[Path, int], None]
    phases: Callable[[Path, int], Iterator[Phase]]
    bound: str


def main() -> None:
    options = _options()
    if options.step:
        _run_step(options.step, CASES[options.case[0]], options.folder, options.sizes[0])
        return
    rows: list[str] = []
    for name in options.case or CASES:
        rows += _measured_case(name, options.sizes or CASES[name].sizes)
    print("\n" + "\n".join([*HEAD, *rows]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=list(CASES), help="some cases; default: all")
    parser.add_argument("--sizes", type=_sizes, help="two sizes, for one case")
    parser.add_argument("--step", choices=("make", "run"), help=argparse.SUPPRESS)  # of the processes of this script
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sizes and len(options.case or ()) != 1:
        parser.error("--sizes belongs to one --case")
    return options


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


# ---- Measuring -------------------------------------------------------------------------------------------------------

HEAD = (
    "| case | size | time by processor, s | wall, s | exponent | memory, MiB | values | memory is bounded by |",
    "|---|---|---|---|---|---|---|---|",
)


def _measured_case(name: str, sizes: tuple[int, ...]) -> list[str]:
    """Measure a case at all sizes and return its rows of the table."""
    measured = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="medsynth-scale-") as folder:
            subprocess.run(_program("make", name, folder, size), check=True, env=_environment(folder))
            measured[size] = _measured(name, Path(folder), size)
            print(json.dumps(measured[size]), file=sys.stderr, flush=True)
    rows = []
    for phase in measured[sizes[0]]:
        results = {size: of_size[phase] for size, of_size in measured.items()}
        first, last = min(sizes), max(sizes)
        growth = math.log(results[last]["cpu"] / results[first]["cpu"]) / math.log(last / first) if first < last else 0
        for size, result in results.items():
            values = ", ".join(f"{key} {value:.4g}" for key, value in result["values"].items())
            rows.append(
                f"| {name}: {phase} | {size:,} {CASES[name].unit} | {result['cpu']:.1f} | {result['wall']:.1f} | "
                f"{f'{growth:.2f}' if size == last else ''} | {result['peak']:.0f} ({result['before']:.0f}) | "
                f"{values} | {CASES[name].bound if size == last else ''} |"
            )
    print("\n".join(rows), flush=True)
    return rows


def _measured(name: str, folder: Path, size: int) -> dict[str, dict[str, Any]]:
    """Run the phases of one size in a process, and return the time and memory of each."""
    print(f"{name}: {size:,} {CASES[name].unit}", file=sys.stderr, flush=True)
    results: dict[str, dict[str, Any]] = {}
    with (folder / "errors.log").open("w") as errors:  # progress bars too
        process = subprocess.Popen(
            _program("run", name, folder, size),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(folder),
        )
    assert process.stdout
    with _Memory(process.pid) as memory:
        for line in process.stdout:
            if not line.startswith("{"):  # what the program itself prints
                continue
            event = json.loads(line)
            if event["event"] == "begin":
                memory.restart()
            else:
                results[event["phase"]] = {**event, "peak": memory.peak, "before": memory.before}
    if process.wait():
        print((folder / "errors.log").read_text(), file=sys.stderr)
        sys.exit(f"{name} at {size:,} {CASES[name].unit} ended with exit code {process.returncode}.")
    return results


def _program(step: str, name: str, folder: Path | str, size: int) -> list[str]:
    return [sys.executable, __file__, "--step", step, "--case", name, "--folder", str(folder), "--sizes", str(size)]


def _environment(folder: Path | str) -> dict[str, str]:
    """Return an environment in which caches are inside of ``folder``, and a processor runs one thread."""
    root = str(Path(__file__).parents[1])
    return os.environ | {"XDG_CACHE_HOME": f"{folder}/cache", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def _run_step(step: str, case: Case, folder: Path, size: int) -> None:
    if step == "make":
        case.make(folder, size)
        return
    for name, work in case.phases(folder, size):
        gc.collect()
        print("\n" + json.dumps({"event": "begin"}), flush=True)
        time.sleep(3 * SAMPLED_EVERY)  # memory before the phase is sampled
        started, before = time.perf_counter(), _processor_seconds()
        values = work() or {}
        gc.collect()  # processes of loaders end with them
        wall, cpu = time.perf_counter() - started, _processor_seconds() - before
        cpu = values.pop("cpu", cpu)
        print(
            "\n" + json.dumps({"event": "end", "phase": name, "wall": wall, "cpu": cpu, "values": values}), flush=True
        )


def _processor_seconds(*whose: int) -> float:
    used = [resource.getrusage(who) for who in whose or (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


class _Memory:
    """The memory of a process and all that it has started, in MiB, sampled on a thread.

    Attributes:
        before: the first sample since ``restart``.
        peak: the highest sample since then.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._end = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before = self.peak = 0.0

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def restart(self) -> None:
        self.before = self.peak = _proportional_mib(self._pid)

    def _sample(self) -> None:
        while not self._end.wait(SAMPLED_EVERY):
            now = _proportional_mib(self._pid)
            self.peak = max(self.peak, now)


def _proportional_mib(pid: int) -> float:
    """Return the proportional set size of a process and its descendants."""
    return sum(map(_own_proportional_mib, _tree(pid)))


def _own_proportional_mib(pid: int) -> float:
    with contextlib.suppress(OSError):  # it has ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _tree(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _tree(int(child))
    return found


# ---- Images in files ------------------------------------------------------------------------------------------------


def _noise(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ``count`` different images (size, size), uint8: a gradient under noise."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 160, size)[:, None] + np.zeros(size)
    for _ in range(count):
        yield (ramp + random.integers(0, 64, (size, size))).astype(np.uint8)


def _make_png(folder: Path, size: int) -> None:
    from PIL import Image

    for number, image in enumerate(_noise(size, 32, seed=0)):
        path = folder / "images" / f"class {number % 4}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def _make_nifti(folder: Path, size: int, *, compressed: bool = False) -> None:
    """Write one volume of ``size`` MiB, int16, 512 x 512 voxels in a slice."""
    import gzip

    from nibabel.nifti1 import Nifti1Header

    slices = size * 2  # of half a MiB each
    header = Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, slices))
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (folder / "images").mkdir()
    path = folder / "images" / ("volume.nii.gz" if compressed else "volume.nii")
    with gzip.open(path, "wb", compresslevel=1) if compressed else path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for image in _noise(slices, 512, seed=0):
            file.write((image.astype(np.int16) * 8 - 1000).tobytes())


def _make_nifti_gz(folder: Path, size: int) -> None:
    _make_nifti(folder, size, compressed=True)


def _make_dicom(folder: Path, size: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    study, series = generate_uid(), generate_uid()
    (folder / "images").mkdir()
    for number, image in enumerate(_noise(size, 256, seed=0)):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID = study, series, "one"
        dataset.Modality, dataset.InstanceNumber = "CT", number + 1
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number]
        dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [0.7, 0.7], 1, -1024
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.set_pixel_data(image.astype(np.uint16) * 8, "MONOCHROME2", 12)
        dataset.save_as(folder / "images" / f"{number:05}", enforce_file_format=True)


def _data_phases(choice: str, *overrides: str) -> Callable[[Path, int], Iterator[Phase]]:
    """Return the phases of a data set: prepared from its files, opened again, and read for one epoch."""

    def phases(folder: Path, size: int) -> Iterator[Phase]:
        from hydra.utils import instantiate

        from medsynth.configuration.checked_composition import compose_checked

        typed = [f"data={choice}", f"data.root={folder}/images", "data.image_size=32", "data.channels=1", *overrides]
        config = compose_checked("train", [*typed, "data.prepare_workers=2"])
        instantiate({"_target_": config.data._target_, "_partial_": True})  # imports

        def prepare() -> None:
            instantiate(config.data, _convert_="all").prepare()

        def epoch() -> dict[str, float]:
            data = instantiate(config.data, _convert_="all")
            data.prepare()
            return {"images": sum(len(batch["image"]) for batch in data.train_dataloader())}

        yield "preparing", prepare
        yield "one epoch", epoch

    return phases


CACHED = "names and columns, 6 to 7 KB an image in all processes; pixels are on disk"

# ---- Sweeps and reports ---------------------------------------------------------------------------------------------


def _nothing(folder: Path, size: int) -> None:
    """Make no inputs."""


def _command(*arguments: str) -> None:
    """Run ``medsynth <arguments>`` in this process."""
    from hydra.core.global_hydra import GlobalHydra

    from medsynth.cli import main as medsynth

    GlobalHydra.instance().clear()
    sys.argv[:] = ["medsynth", *arguments]
    with contextlib.suppress(SystemExit):
        medsynth()


# In place of a training: it leaves the files of one that was trained before, so that the sweep's own work is measured.
STUB = """
import json, os, pathlib, shutil, sys
shutil.copytree(sys.argv[1], sys.argv[-1].partition("=")[2].strip("'"), dirs_exist_ok=True)
pathlib.Path(os.environ["MEDSYNTH_RUN_END"]).write_text(json.dumps({"status": "completed", "code": "completed"}))
"""


def _make_run(folder: Path, size: int) -> None:
    _command("train", *TINY, f"hydra.run.dir={folder}/one")


def _sweep_phases(folder: Path, size: int) -> Iterator[Phase]:
    import medsynth.report.page
    import medsynth.sweep.process
    import medsynth.training

    sweep = folder / "sweep"
    medsynth.sweep.process.PROGRAM = (sys.executable, "-S", "-c", STUB, f"{folder}/one")  # pyright: ignore[reportAttributeAccessIssue]

    def swept() -> dict[str, float]:
        """Return the processor time of the sweep's own process, and the size of its report."""
        before = _processor_seconds(resource.RUSAGE_SELF)
        _command("train", "-m", *TINY, f"seed=range({size})", "sweep.threads=1", f"hydra.sweep.dir={sweep}")
        own = _processor_seconds(resource.RUSAGE_SELF) - before
        statuses = [json.loads(path.read_text())["status"] for path in sweep.glob("*/job.json")]
        assert statuses == ["completed"] * size, statuses
        return {"cpu": own, "s each": own / size, "report, MB": (sweep / "report.html").stat().st_size / 1e6}

    yield "all but the trainings", swept


def _record_phases(folder: Path, size: int) -> Iterator[Phase]:
    from medsynth.errors import EndCode
    from medsynth.runs.run_end import RunEnd
    from medsynth.sweep.job import Job, run_job
    from medsynth.sweep.keep import discard_checkpoints
    from medsynth.sweep.plan import new_plan, write_plan
    from medsynth.sweep.progress import progress_line, read_rows

    folder = folder / "sweep"
    folder.mkdir()
    names = [f"seed={number}" for number in range(size)]
    hashes = [f"{number:032x}" for number in range(size)]
    write_plan(folder, new_plan(["seed=..."], [[name] for name in names], hashes, ["seed"]))

    def end(place: Path, number: int) -> None:
        record = RunEnd(EndCode.COMPLETED).record() | {"best": {"value": float(number)}}
        (place / "summary.json").write_text(json.dumps(record))

    def work() -> None:
        for number, (name, composition) in enumerate(zip(names, hashes, strict=True)):
            place = folder / str(number)
            job = Job(number, place, name, (name,), (name,), composition)
            run_job(job, train=lambda place=place, number=number: end(place, number))
            discard_checkpoints(folder, 3)
            assert progress_line(read_rows(folder), number, size, "val/fd_mini", 1)

    yield "records of jobs without a training", work


def _make_report(folder: Path, size: int) -> None:
    """Write a sweep of ``size`` jobs, copies of one: 40 pictures and 2,000 lines of metrics each."""
    _make_run(folder, size)
    one, sweep = folder / "one", folder / "sweep"
    with (one / "metrics.csv").open() as file:
        head, *lines = list(csv.reader(file))
    picture = next((one / "samples").glob("0*.png"))
    random = np.random.default_rng(0)
    for number in range(size):
        job = sweep / str(number)
        shutil.copytree(one, job, ignore=shutil.ignore_patterns("checkpoints", "*.safetensors"))
        config = (job / "config.yaml").read_text().replace("\nseed: 0\n", f"\nseed: {number}\n")
        (job / "config.yaml").write_text(config)
        for step in range(40):
            shutil.copy(picture, job / "samples" / f"{(step + 1) * 25_000:09}.png")
        with (job / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            for step in range(2000):
                cells = [
                    float(cell) * random.uniform(0.9, 1.1) if cell else "" for cell in lines[step % len(lines)][1:]
                ]
                writer.writerow([(step + 1) * 500, *cells])
        record = {"number": number, "name": f"seed={number}", "overrides": [f"seed={number}"], "status": "completed"}
        (job / "job.json").write_text(json.dumps({**record, "seconds": 60.0}))
    jobs = [[f"seed={number}"] for number in range(size)]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs, "swept": ["seed"], "objective": "val/fd_mini"}))


def _report_phases(folder: Path, size: int) -> Iterator[Phase]:
    from medsynth.report.page import write_report

    page = folder / "report.html"

    def write() -> dict[str, float]:
        return {"report, MB": write_report([folder / "sweep"], page).stat().st_size / 1e6}

    yield "written", write
    yield "drawn by chromium", lambda: _opened(page)


def _opened(page: Path) -> dict[str, float]:
    """Open a report in headless chromium, filter its table and scroll to its end; return the seconds of each."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1600, "height": 900})
        started = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_function("[...document.querySelectorAll('.plot')].some((plot) => plot.querySelector('svg'))")
        opened = time.perf_counter()
        tab.locator("#filter-text").fill("seed=1")
        tab.wait_for_function("document.querySelectorAll('#jobs-table tbody tr[hidden]').length > 0")
        filtered = time.perf_counter()
        tab.get_by_label("none of job").first.click()
        tab.wait_for_function("document.querySelector('#curves-seen').textContent.startsWith('0 ')")
        hidden = time.perf_counter()
        browser.close()
    return {"opened, s": opened - started, "filtered, s": filtered - opened, "curves hidden, s": hidden - filtered}


# ---- Generated images and their measures ----------------------------------------------------------------------------


def _make_generator(folder: Path, size: int) -> None:
    import torch

    from medsynth.generator.dcgan import DCGANGenerator
    from medsynth.generator.export import save_generator

    torch.manual_seed(0)
    options: dict[str, Any] = {"image_size": 64, "channels": 1, "num_classes": 0}
    config = {"_target_": "medsynth.generator.dcgan.DCGANGenerator", **options, "width": 32, "latent_dim": 64}
    generator = DCGANGenerator(**{key: value for key, value in config.items() if key != "_target_"})
    card = {"class_names": [], "intensity": {"low": 0.0, "high": 255.0, "unit": "stored value"}}
    save_generator(folder / "generator.safetensors", generator, config=config, card=card)


def _generate_phases(folder: Path, size: int) -> Iterator[Phase]:
    import medsynth.cli.generate  # noqa: F401

    def written(file_format: str) -> Callable[[], None]:
        out = folder / file_format
        options = (f"run={folder}/generator.safetensors", f"out={out}", f"num_samples={size}", f"format={file_format}")

        def work() -> None:
            _command("generate", *options)
            assert (out / "generate.json").is_file()

        return work

    for file_format in ("png8", "dicom", "npy"):
        yield file_format, written(file_format)


def _make_features(folder: Path, size: int) -> None:
    """Write features of ``size`` real, generated and training images, as ``medsynth evaluate`` stores them."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((64, 64)) / 8
    for name, shift in (("real", 0.0), ("fake", 0.1), ("training", 0.0)):
        values = (random.standard_normal((size, 64)) + shift) @ mixing
        np.save(folder / f"{name}.npy", values.astype(np.float32))


def _evaluate_phases(folder: Path, size: int) -> Iterator[Phase]:
    from medsynth.metrics.baseline import Sides
    from medsynth.metrics.measures import of_features

    class Extractor:
        name, num_features = "features", 64

    def work() -> dict[str, float]:
        sides = Sides(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("real", "fake", "training")))
        return {"measures": len(of_features(Extractor(), sides, seed=0))}  # pyright: ignore[reportArgumentType]

    yield "measures of one extractor, 64 features", work


CASES = {
    "generate": Case("images", (2_500, 10_000), _make_generator, _generate_phases, "one batch"),
    "records": Case("jobs", (250, 1_000), _nothing, _record_phases, "the records of all jobs (3 KB each)"),
    "dicom": Case(
        "slices",
        (1_250, 5_000),
        _make_dicom,
        _data_phases("dicom", "data.window=lung"),
        f"headers; {CACHED}",
    ),
    "png": Case("files", (25_000, 100_000), _make_png, _data_phases("image_folder"), CACHED),
    "nifti": Case(
        "MiB",
        (256, 1_024),
        _make_nifti,
        _data_phases("nifti", "data.normalize=min_max"),
        "one volume as stored in each process that prepares",
    ),
    "nifti_gz": Case(
        "MiB",
        (256, 1_024),
        _make_nifti_gz,
        _data_phases("nifti", "data.normalize=min_max"),
        "one volume as stored, and its compressed file",
    ),
    "report": Case(
        "jobs", (60, 240), _make_report, _report_phases, "the page (20 MB at most) and the metrics of all jobs"
    ),
    "sweep": Case("jobs", (15, 60), _make_run, _sweep_phases, "the compositions and records of all jobs"),
    "evaluate": Case("features", (12_500, 50_000), _make_features, _evaluate_phases, "blocks of 1,024 x 1,024 pairs"),
}


if __name__ == "__main__":
    main()
