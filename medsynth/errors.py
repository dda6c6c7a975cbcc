"""The one error that is the user's. It stands apart so that the command line knows it before torch is imported."""

from __future__ import annotations

from collections.abc import Iterator


class InputError(ValueError):
    """The user asked for something that cannot be done.

    The message is one sentence for a person: it names the option or the file and says what would be right.
    The command line prints it alone, without a traceback, and exits with a code other than 0.
    """


def sentence_of(error: BaseException) -> str:
    """One line for any error, also for a fault of the program."""
    if isinstance(error, InputError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
