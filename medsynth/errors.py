"""The one error that is the user's. It stands apart so that the command line knows it before torch is imported."""

from __future__ import annotations


class InputError(ValueError):
    """The user asked for something that cannot be done.

    The message is one sentence for a person: it names the option or the file and says what would be right.
    The command line prints it alone, without a traceback, and exits with a code other than 0.
    """
