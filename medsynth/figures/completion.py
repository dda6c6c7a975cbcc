"""The end of a training: figures of its best generator, and the page that shows them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from medsynth.configuration.combinations import translates
from medsynth.errors import EndCode, sentence_of
from medsynth.report.final_report import is_wanted, record_file, write_final_report
from medsynth.runs.layout import SUMMARY
from medsynth.runs.records import read_json
from medsynth.runs.run_folder import RunResult

_log = logging.getLogger(__name__)


def complete_report(result: RunResult) -> RunResult:
    """Write the figures of a training that has completed, and its page with them; where they fail, it has not.

    The run's own options ``report`` and ``figures`` say whether they are wanted.

    Returns:
        The result with the files that its summary now names.
    """
    config = result.config
    if translates(config) or "copied" in result.summary:
        return result  # the figures are of images made of noise
    in_sweep = config.sweep.folder is not None
    options = (config.report, config.figures)
    if result.code != EndCode.COMPLETED or not result.summary:
        return result
    if not all(is_wanted(option, in_sweep=in_sweep) for option in options):
        return result
    _log.info("Drawing figures of the best generator, a minute at most; figures=false leaves them out ...")
    device = "cpu" if config.trainer.accelerator == "cpu" else "auto"
    try:
        from medsynth.figures.run_figures import write_figures  # here, since its libraries take seconds

        with _quiet_data():
            out = write_figures(result.folder, device=device, trust=True)  # this process has built the same classes
    except Exception as error:
        _log.warning("The figures could not be made: %s", sentence_of(error))
        return result
    if out is None:
        return result
    record_file(result.folder, "figures", out)
    write_final_report(result.folder, True, in_sweep=False)
    return dataclasses.replace(result, summary=read_json(result.folder / SUMMARY))


@contextlib.contextmanager
def _quiet_data() -> Iterator[None]:
    """Keep the data from saying again what it said before the training."""
    logger = logging.getLogger("medsynth.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
