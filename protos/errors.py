"""The root of boardfront's errors.

A message says what was expected, what came, and what to do next, in one line.
"""

from __future__ import annotations


class BoardfrontError(Exception):
    """Something failed that the program foresaw. Commands print it as one line."""

    exit_code = 1


class WrongInputError(BoardfrontError):
    """What the user gave cannot be used: the user has to change it."""

    exit_code = 2


class JobConflictError(WrongInputError):
    """A job id was submitted twice with different content."""


class UnknownJobError(BoardfrontError):
    """The agent knows no job of this id."""


class InvalidRecordError(WrongInputError):
    """A message from the wire holds a value that no record may have."""


class LeaseLostError(BoardfrontError):
    """A job came under a lease that is not, or no longer, the device's."""
