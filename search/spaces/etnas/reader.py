"""Reading an encoding character by character, so that errors name the position."""

from __future__ import annotations

from boardfront.search.space import InvalidEncodingError


class Reader:
    """A place in an encoding, which moves on as characters are taken.

    Args:
        encoding: As a person wrote it.
    """

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.position = 0

    @property
    def here(self) -> str:
        """The next character; empty at the end."""
        return self.encoding[self.position : self.position + 1]

    def take(self, allowed: str, what: str) -> str:
        """Take the next character.

        Raises:
            InvalidEncodingError: It is none of `allowed`; `what` says what was expected.
        """
        if not self.here or self.here not in allowed:
            raise self.error(f"expected {what}, got {self.got}")
        self.position += 1
        return self.encoding[self.position - 1]

    def expect(self, character: str, where: str) -> None:
        """Take this character; `where` says where it belongs.

        Raises:
            InvalidEncodingError: Another one comes.
        """
        self.take(character, f"{character!r} {where}")

    @property
    def got(self) -> str:
        """The next character as messages write it."""
        return repr(self.here) if self.here else "the end"

    def error(self, rule: str, *, at: int | None = None) -> InvalidEncodingError:
        """Return the error that a rule is broken here, or at another position."""
        return InvalidEncodingError(self.encoding, self.position if at is None else at, rule)
