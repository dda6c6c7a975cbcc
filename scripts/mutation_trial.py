"""Plant faults in the source, one at a time, and count those that the default tests notice.

    uv run scripts/mutation_trial.py                        all faults, each against the tests named beside it
    uv run scripts/mutation_trial.py --full                 those that pass there against the whole default suite too
    uv run scripts/mutation_trial.py --area metrics step    the faults of some areas
    uv run scripts/mutation_trial.py --only r1-at-fakes     some faults
    uv run scripts/mutation_trial.py --check                only whether each fault can still be planted

The faults are in scripts/mutation_faults/, a file for each area: a text that has to occur exactly once in a source
file, what it is replaced by, and the narrowest tests that should fail then. They are planted in a copy of the working
tree. Every test that noticed a fault has to pass without it, or the trial says so. Results are kept in
outputs/mutation_trial.json and used again while the fault, its file and its tests are the same; --fresh forgets them.
Exit code 1 where fewer than 95 % are noticed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "scripts" / "mutation_faults"
RESULTS = ROOT / "outputs" / "mutation_trial.json"
WANTED = 0.95
LIMIT = 300  # seconds for the named tests: a fault that makes them hang is noticed too
FULL_LIMIT = 1800
PASSED, FAILED = 0, 1  # pytest's exit codes
LIBRARIES = (  # imported once, for all processes that are forked; nothing of medsynth, whose files change
    *("hydra", "imagehash", "jinja2", "matplotlib.figure", "monai.transforms", "nibabel", "omegaconf", "optuna"),
    *("pandas", "plotly.graph_objects", "pydicom", "pytorch_lightning", "scipy.stats", "skimage.exposure", "timm"),
    *("torch", "torch_fidelity", "torchmetrics.image", "torchvision", "wandb"),
)


class Fault(NamedTuple):
    """A fault that can be planted.

    Attributes:
        name: unique among all faults.
        area: the name of the file that lists it.
        wrong: what is wrong with it, one line.
        file: the source file, relative to the repository.
        old: the text that is replaced; it occurs exactly once.
        new: what replaces it.
        tests: arguments of pytest that choose the tests to run first.
    """

    name: str
    area: str
    wrong: str
    file: str
    old: str
    new: str
    tests: str


class Result(NamedTuple):
    """The tests' verdict on a fault: the first test that failed, None where all passed."""

    noticed_by: str | None
    seconds: float
    full: bool  # the whole default suite was run


# ---- the list --------------------------------------------------------------------------------------------------------


def read_faults() -> list[Fault]:
    """Read all faults and check that each of them can be planted.

    Raises:
        SystemExit: names the faults that cannot, and why.
    """
    listed = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FAULTS.glob("*.yaml"))}
    faults = [Fault(area=area, **entry) for area, entries in listed.items() for entry in entries]
    problems = [f"{fault.area}/{fault.name}: {problem}" for fault in faults for problem in _problems(fault, faults)]
    if problems:
        raise SystemExit("\n".join(["These faults cannot be planted; write them anew:", *problems]))
    return faults


def _problems(fault: Fault, faults: Sequence[Fault]) -> Iterator[str]:
    if sum(other.name == fault.name for other in faults) > 1:
        yield "another fault has the same name"
    path = ROOT / fault.file
    if not path.is_file():
        yield f"there is no file {fault.file}"
        return
    count = path.read_text().count(fault.old)
    if count != 1:
        yield f"its old text occurs {count} times in {fault.file}, and must occur once"
    if fault.new == fault.old:
        yield "its new text is the old one"
    for name in test_files(fault):
        if not (ROOT / name).is_file():
            yield f"there are no tests {name}"
    if count == 1 and path.suffix == ".py":
        try:
            compile(planted(fault, path.read_text()), fault.file, "exec")
        except SyntaxError as error:
            yield f"its new text is not Python: {error}"


def planted(fault: Fault, text: str) -> str:
    """Return the text of the fault's file with the fault."""
    return text.replace(fault.old, fault.new)


def test_files(fault: Fault) -> list[str]:
    """Return the files of the tests named beside the fault."""
    return [word.split("::")[0] for word in shlex.split(fault.tests) if word.startswith("tests/")]


def digest(fault: Fault) -> str:
    """Return a hash of what a result depends on: the fault, its file and its tests."""
    files = [fault.file, *test_files(fault)]
    texts = [*fault, *((ROOT / name).read_text() for name in files)]
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()


# ---- one trial -------------------------------------------------------------------------------------------------------


def copy_tree(folder: Path) -> Path:
    """Copy the working tree, without what git ignores, into ``folder``."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)  # some tests ask git
    return folder


def try_fault(tree: Path, fault: Fault, *, full: bool) -> Result:
    """Plant ``fault`` in the copy ``tree``, run its tests, and take it out again."""
    started = time.monotonic()
    path = tree / fault.file
    before = path.read_text()
    try:
        path.write_text(planted(fault, before))
        noticed_by = first_failure(tree, ["-n", "0", *shlex.split(fault.tests)], limit=LIMIT)
        whole = full and noticed_by is None
        if whole:
            noticed_by = first_failure(tree, [], limit=FULL_LIMIT)
    finally:
        path.write_text(before)
    return Result(noticed_by, time.monotonic() - started, whole)


def first_failure(tree: Path, selection: Sequence[str], *, limit: float) -> str | None:
    """Run pytest in the copy ``tree`` until a test fails; return that test, or None where all pass.

    Raises:
        SystemExit: pytest could not run them, as where an import fails or no test is selected.
    """
    report, printed = tree / "junit.xml", tree / "printed.txt"
    report.unlink(missing_ok=True)
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={report}"]
    process = os.fork()
    if process == 0:
        _become_pytest(tree, [*options, *selection], printed)
    end = time.monotonic() + limit
    try:
        while (ended := os.waitpid(process, os.WNOHANG)) == (0, 0):
            if time.monotonic() > end:
                return f"no end within {limit:.0f} s"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(ended[1])
    if code not in (PASSED, FAILED):
        raise SystemExit(f"pytest {shlex.join(selection)} ends with code {code}:\n{printed.read_text()[-2000:]}")
    return None if code == PASSED else failed_tests(report)[0]


def _become_pytest(tree: Path, arguments: Sequence[str], printed: Path) -> NoReturn:
    """Run pytest in this process, which was forked and has the libraries but nothing of medsynth."""
    code = 3
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = sys.path[0] = str(tree)
        # No bytecode: a fault of the same length, planted within the same second, would not be seen.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        code = int(pytest.main(list(arguments)))
    finally:
        os._exit(code)


def failed_tests(report: Path) -> list[str]:
    """Return the tests that failed, as pytest takes them on its command line."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return [_node(case.attrib) for case in failed]


def _node(case: Mapping[str, str]) -> str:
    """Return pytest's name of a test: its file, its class if it has one, and its own name."""
    file = case["file"]
    of_class = case["classname"].removeprefix(file.removesuffix(".py").replace("/", ".")).replace(".", "::")
    return f"{file}{of_class}::{case['name']}"


def check_without_faults(tree: Path, results: dict[str, Result]) -> None:
    """Run the tests that noticed a fault without any.

    Raises:
        SystemExit: one of them fails there too, so that it has noticed nothing.
    """
    tests = sorted(
        {result.noticed_by for result in results.values() if result.noticed_by and "::" in result.noticed_by}
    )
    failure = first_failure(tree, ["-n", "0", *tests], limit=FULL_LIMIT) if tests else None
    if failure is not None:
        raise SystemExit(f"{failure} fails without a fault too: mend it, and try again with --fresh.")


# ---- all trials ------------------------------------------------------------------------------------------------------


def try_faults(faults: Sequence[Fault], *, full: bool, known: dict[str, Any]) -> dict[str, Result]:
    """Try all faults that ``known`` has no result of, and write each result at once."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no pytest is left behind
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the processes of tests
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    digests = {fault.name: digest(fault) for fault in faults}  # before the tree is copied, which may change later
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="medsynth-mutation-") as folder:
        tree = copy_tree(Path(folder))
        for fault in faults:
            result = _known(known.get(fault.name), digests[fault.name], full=full)
            if result is None:
                result = try_fault(tree, fault, full=full)
                known[fault.name] = {"digest": digests[fault.name], **result._asdict()}
                write_json(RESULTS, known)
            results[fault.name] = result
            print(line(fault, result), flush=True)
        check_without_faults(tree, results)
    return results


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` under a temporary name and rename it, so that an interrupted trial leaves a whole file."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def _known(entry: dict[str, Any] | None, digest: str, *, full: bool) -> Result | None:
    if entry is None or entry["digest"] != digest:
        return None
    result = Result(entry["noticed_by"], entry["seconds"], entry["full"])
    return None if full and result.noticed_by is None and not result.full else result


def line(fault: Fault, result: Result) -> str:
    """Return a line of the table."""
    noticed_by = result.noticed_by or f"NOT NOTICED: {fault.wrong}"
    return f"{fault.area:<14} {fault.name:<44} {result.seconds:5.0f} s  {noticed_by}"


def print_shares(faults: Sequence[Fault], results: dict[str, Result]) -> float:
    """Print the share of faults that were noticed, for each area and for all; return the last."""
    print(f"\n{'area':<14} faults  noticed")
    areas = [(area, [f for f in faults if f.area == area]) for area in dict.fromkeys(f.area for f in faults)]
    share = 0.0
    for area, of_area in [*areas, ("all", list(faults))]:
        noticed = sum(results[fault.name].noticed_by is not None for fault in of_area)
        share = noticed / len(of_area)
        print(f"{area:<14} {len(of_area):6}  {noticed:7}  {share:.0%}")
    return share


def main() -> None:
    """Read the command line and run the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--area", nargs="+", help="areas, the names of the files")
    parser.add_argument("--only", nargs="+", help="names of faults")
    parser.add_argument("--full", action="store_true", help="run the whole default suite where the named tests pass")
    parser.add_argument("--fresh", action="store_true", help="try again what has a result")
    parser.add_argument("--check", action="store_true", help="only check that each fault can be planted")
    options = parser.parse_args()
    faults = read_faults()
    for chosen, key in ((options.area, "area"), (options.only, "name")):
        there = {getattr(fault, key) for fault in faults}
        if chosen and not set(chosen) <= there:
            raise SystemExit(
                f"There is no {key} {', '.join(set(chosen) - there)}: choose of {', '.join(sorted(there))}."
            )
        faults = [fault for fault in faults if not chosen or getattr(fault, key) in chosen]
    if options.check:
        print(f"All {len(faults)} faults can be planted.")
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.fresh:
        known = {name: entry for name, entry in known.items() if name not in {fault.name for fault in faults}}
    results = try_faults(faults, full=options.full, known=known)
    if print_shares(faults, results) < WANTED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
