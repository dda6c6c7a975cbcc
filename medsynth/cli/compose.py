"""Entry point of all commands: composes the configuration and turns any error into one sentence."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from medsynth.cli.early_checks import check_early
from medsynth.cli.reader_by_content import with_reader
from medsynth.cli.user_errors import explain
from medsynth.configuration.compose import conf_folder, folders_of
from medsynth.configuration.composition_errors import check_dashes
from medsynth.configuration.option_help import choice_help, option_help
from medsynth.configuration.option_types import with_option_types
from medsynth.configuration.plain_names import check_names
from medsynth.configuration.plain_values import with_quoted_values
from medsynth.configuration.secrets import check_secrets
from medsynth.errors import MEMORY_TO_START, EndCode, InputError, Refused, causes, extra_command, is_lack_of_memory
from medsynth.first_checks import require_weights
from medsynth.runs.layout import COMPOSITION
from medsynth.runs.parent_process import end_with_parent
from medsynth.runs.placement import choose_folder, remove_unused
from medsynth.runs.run_end import RunEnd, end_of, report_run_end
from medsynth.runs.stop_request import NUMBERS, StopRequested, stop_requests
from medsynth.search.arguments import fold
from medsynth.sweep.plan import job_number, refuse_earlier_presets, sweep_folder

DEBUG = "HYDRA_FULL_ERROR"  # Hydra's own switch: where the user has set it, tracebacks are shown

BUILT = {  # the parts of its configuration in which a command builds networks
    "train": ("discriminator", "metrics"),
    "plan": ("discriminator", "metrics"),
    "pretrain": ("backbone",),
    "evaluate": ("extractor",),
    "audit": ("extractor",),
    "utility": ("network",),
}

LOADING = {  # the first line of a command that loads PyTorch
    **dict.fromkeys(("start", "data", "train", "plan", "pretrain"), "Reading data"),
    **dict.fromkeys(("generate", "export", "translate"), "Loading the generator"),
    **dict.fromkeys(("evaluate", "audit", "utility", "verdict"), "Reading images and loading networks"),
}


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[None]:
    """Delay Ctrl-C and requests to stop until the end of the block: importing PyTorch does not survive them."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *NUMBERS)}
    replaced = [number for number, handler in before.items() if callable(handler)]
    for number in replaced:
        signal.signal(number, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])
    if asked:
        raise KeyboardInterrupt if asked[0] == signal.SIGINT else StopRequested(asked[0])


def register_resolvers() -> None:
    """Register what conf/ may write as ``${name:...}`` beyond OmegaConf's own."""
    OmegaConf.register_new_resolver("run_folder", choose_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_number", job_number, replace=True)
    OmegaConf.register_new_resolver("option_help", _for_help(option_help), replace=True)
    OmegaConf.register_new_resolver("choice_help", _for_help(choice_help), replace=True)


def _for_help(describe: Callable[..., str]) -> Callable[..., str]:
    """Return a resolver that describes options only where help is asked for.

    Composing ``plan`` and ``search``, whose help replaces that of ``train``, resolves the latter several times.
    """
    return lambda *arguments: describe(*arguments) if "--help" in sys.argv else ""


register_resolvers()  # on import: a launcher's processes import this with the task


def start(command: str) -> None:
    """Compose conf/<command>.yaml with the process's arguments and hand it to medsynth.cli.<command>.run(config).

    Exit code 0 on success, 1 after an error, 130 after Ctrl-C, 143 after SIGTERM; SIGTERM and SIGHUP end a command as
    Ctrl-C does. Errors that are the user's appear as one line on stderr. A process that waits for this one is told the
    end as a record (``runs.run_end``).
    """
    with stop_requests(), folders_of(sys.argv[1:]):
        end_with_parent()
        refusals = _Refusals(command)
        _start(command, refusals)
        report_run_end(refusals.end or RunEnd(EndCode.COMPLETED))
        if refusals.end:
            sys.exit(1)


class _Refusals:
    """Errors of a command, said in a sentence where the user can correct them.

    Args:
        command: its name.

    Attributes:
        end: of the command, by the first of these errors; None: there was none.
    """

    def __init__(self, command: str) -> None:
        self.end: RunEnd | None = None
        self._command = command
        self._show_traceback = os.environ.get(DEBUG, "0") != "0"
        os.environ[DEBUG] = "1"  # so that Hydra hands errors to us instead of printing them

    def refuse(self, error: BaseException) -> None:
        """Say in one sentence what the user can correct; raise what is a fault of the program."""
        end = None if self._show_traceback else _missing_launcher(sys.argv) or explain(error, self._command)
        if end is None:
            report_run_end(end_of(error))
            raise error
        print(f"medsynth {self._command}: error: {end.message}", file=sys.stderr, flush=True)
        hints = [cause.hint for cause in causes(error) if isinstance(cause, InputError) and cause.hint]
        print(*hints[:1], sep="", end="\n" * bool(hints), file=sys.stderr, flush=True)
        self.end = self.end or end


def _start(command: str, refusals: _Refusals) -> None:
    """Run a command whose errors are refused; where it is interrupted, or nobody reads on, the process ends here."""
    try:
        sys.argv[1:] = _arguments(command, sys.argv[1:])
        _job(command, refusals)()
    except BrokenPipeError:  # `--help | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as stop:
        message = str(stop) or "interrupted"
        print(f"medsynth {command}: {message}", file=sys.stderr, flush=True)
        report_run_end(RunEnd(EndCode.INTERRUPTED, message))
        sys.exit(stop.exit_code if isinstance(stop, StopRequested) else 130)
    except Refused as refused:
        refusals.refuse(refused.__cause__ or refused)
    except Exception as error:
        if refusals.end is None:  # else a launcher raises again what a job has said
            refusals.refuse(error)
    finally:
        remove_unused()


def _arguments(command: str, arguments: Sequence[str]) -> list[str]:
    """Return arguments as Hydra reads them.

    Raises:
        InputError: an option is typed as in other programs or earlier versions, or there is nothing to read.
    """
    check_dashes(arguments, command)
    searches = command == "search"
    read = with_quoted_values(arguments, several=searches or _asks_for_sweep(arguments))
    read = fold(read) if searches else read
    refuse_earlier_presets(read)
    return with_reader(command, read)


def _job(command: str, refusals: _Refusals) -> Callable[[], Any]:
    """Return the function that lets Hydra compose a command and run it, once or in each job of a sweep."""

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=command)
    def job(config: DictConfig) -> Any:
        try:
            return _run(command, config)
        except Exception as error:
            refusals.refuse(error)
            if _in_sweep():
                raise  # a launcher has to know that this job failed

    return job


def _run(command: str, config: DictConfig) -> Any:
    """Run a composed command, or a job of a sweep in the place of a training."""
    check_secrets(config)
    check_names(config)
    if command == "train" and _in_sweep():
        return importlib.import_module("medsynth.sweep.hydra_job").run(config)
    config = with_option_types(config, command, HydraConfig.get().overrides.task)
    resumed = bool(config.get("resume")) or (Path(HydraConfig.get().runtime.output_dir) / COMPOSITION).exists()
    check_early(command, config, resumed=resumed)
    if not resumed:
        require_weights(config, BUILT.get(command, ()))
    _announce(command)
    with _deferred_interrupt():
        try:
            program = importlib.import_module(f"medsynth.cli.{command}")
        except Exception as error:
            # Libraries turn a lack of memory into errors of their own.
            if not any(is_lack_of_memory(cause) for cause in causes(error)):
                raise
            raise InputError(f"{MEMORY_TO_START}.", code=EndCode.OUT_OF_MEMORY) from error
    return program.run(config)


def _announce(command: str) -> None:
    """Say what happens while PyTorch is loaded, which takes seconds; errors that need it not were raised before."""
    if command in LOADING and "torch" not in sys.modules:
        print(f"{LOADING[command]} ...", file=sys.stderr, flush=True)


def _in_sweep() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _asks_for_sweep(arguments: Sequence[str]) -> bool:
    return "--multirun" in arguments  # as configuration.flags writes it


def _missing_launcher(arguments: Sequence[str]) -> RunEnd | None:
    """Return the end of a command that asks for a launcher whose package is not installed; None: it asks for none."""
    asked = any(argument.startswith("hydra/launcher=submitit_") for argument in arguments)
    if not asked or importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is not None:
        return None
    sentence = f"hydra/launcher=submitit_... needs a package that is not installed: type {extra_command('slurm')}."
    return RunEnd(EndCode.BAD_OPTION, sentence)
