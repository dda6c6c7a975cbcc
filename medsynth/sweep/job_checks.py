"""The check of a sweep's jobs before the first one starts: what each would be refused for by itself."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medsynth.configuration.composition_errors import composition_error
from medsynth.configuration.objectives import check_objectives
from medsynth.configuration.option_types import with_option_types
from medsynth.configuration.plain_names import check_names
from medsynth.configuration.secrets import check_secrets
from medsynth.errors import EndCode, InputError, causes
from medsynth.first_checks import FirstChecks
from medsynth.sweep.job_composition import JobComposer
from medsynth.sweep.plan import SWEEP_OPTIONS

MANY = 200  # jobs: of more, those in which one option differs from the first job are checked first
_SILENT = 20  # jobs that are checked without a word: it takes a second or two
_Position = int  # of a job in Hydra's order


@dataclass
class _Fault:
    """A fault of some jobs; ``error`` is that of the first of them."""

    error: Exception
    jobs: list[_Position] = field(default_factory=list)


class JobChecks:
    """Composes and checks jobs, and refuses the sweep by one sentence for each fault.

    Args:
        composer: of the jobs.
        jobs: their overrides, each in the same order of options.
        here: the jobs run on this machine.

    Attributes:
        composed: configurations of the jobs by their positions, as far as they compose.
    """

    def __init__(self, composer: JobComposer, jobs: Sequence[Sequence[str]], *, here: bool = True):
        self.composed: dict[_Position, DictConfig] = {}
        self._composer, self._jobs = composer, jobs
        self._first_checks = FirstChecks(here=here)
        self._faults: dict[str, _Fault] = {}

    def compose(self, *, checked: bool) -> None:
        """Compose all jobs, and check them.

        Args:
            checked: also check that each can be trained; else ``check`` is called later.

        Raises:
            InputError: a job does not compose, or cannot be trained.
        """
        if len(self._jobs) > _SILENT:
            print(f"Checking {len(self._jobs)} jobs before the first one starts ...", file=sys.stderr, flush=True)
        everything = range(len(self._jobs))
        first = [position for position in everything if self._differences(position) < 2]
        if len(self._jobs) > MANY:
            for position in first:
                self._try(position, checked)
            self._refuse(len(first))
        for position in everything:
            if position not in self.composed:
                self._try(position, checked)
        self._refuse(len(self._jobs))

    def check(self, positions: Iterable[_Position]) -> None:
        """Check that composed jobs can be trained.

        Raises:
            InputError: one of them cannot.
        """
        for position in positions:
            self._try(position, True)
        self._refuse(len(self._jobs))

    def _differences(self, position: _Position) -> int:
        return sum(own != first for own, first in zip(self._jobs[position], self._jobs[0], strict=True))

    def _try(self, position: _Position, checked: bool) -> None:
        try:
            if position not in self.composed:
                self.composed[position] = self._composer.compose(self._jobs[position])
            if checked:
                self._check(self.composed[position], self._jobs[position])
        except (InputError, HydraException, OmegaConfBaseException) as error:
            self._faults.setdefault(_origin(error), _Fault(error)).jobs.append(position)

    def _check(self, composed: DictConfig, overrides: Sequence[str]) -> None:
        check_secrets(composed)
        check_names(composed)
        own = [item for item in overrides if not item.startswith(SWEEP_OPTIONS)]  # the others are not a job's
        config = with_option_types(composed, "train", own, compose=self._composer.compose)
        config = copy.deepcopy(config) if config is composed else config
        OmegaConf.update(config, "sweep.folder", "")  # as in each job, whose folder is not made yet
        self._first_checks(config, own)
        check_objectives(config, overrides=own)

    def _refuse(self, looked_at: int) -> None:
        """Raise the faults that were found in ``looked_at`` jobs, as one error."""
        faults = [(self._explained(fault), fault.jobs) for fault in self._faults.values()]
        if not faults:
            return
        impossible = {position for _, positions in faults for position in positions}
        of_all = f"{len(impossible)} of {looked_at} jobs" + " looked at so far" * (looked_at < len(self._jobs))
        if len(faults) == 1:
            error, positions = faults[0]
            if len(positions) == looked_at:
                raise error
            sentence = f"{error} No job was started: this concerns {of_all}{self._shared(positions)}."
            raise InputError(sentence, code=error.code, hint=error.hint) from error
        lines = [f"  {error}  ({_counted(positions)}{self._shared(positions)})" for error, positions in faults]
        sentence = f"No job was started, since {of_all} cannot be trained, for {len(faults)} reasons:"
        raise InputError(sentence, hint="\n".join(lines))

    def _explained(self, fault: _Fault) -> InputError:
        found = next((cause for cause in causes(fault.error) if isinstance(cause, InputError)), None)
        if found is not None:
            return found
        sentence = composition_error(fault.error, "train", self._jobs[fault.jobs[0]])
        if sentence is None:
            raise fault.error
        return InputError(sentence, code=EndCode.BAD_OPTION)

    def _shared(self, positions: Sequence[_Position]) -> str:
        """Name the options that these jobs share and not all jobs have."""
        columns = list(zip(*self._jobs, strict=True))
        shared = [
            column[positions[0]]
            for column in columns
            if len({column[position] for position in positions}) == 1 and len(set(column)) > 1
        ]
        return f", with {' '.join(shared)}" if shared else ""


def _origin(error: Exception) -> str:
    """Return what is the same in all jobs of a fault: Hydra's own sentences repeat the value that was typed."""
    *_, first = [cause for cause in causes(error) if isinstance(cause, InputError)] or causes(error)
    return f"{type(first).__name__}: {first}"


def _counted(positions: Sequence[_Position]) -> str:
    return "1 job" if len(positions) == 1 else f"{len(positions)} jobs"
