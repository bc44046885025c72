"""What is wrong with a model file, or not supported in it."""

from collections.abc import Sequence
from typing import NamedTuple


class Declined(NamedTuple):
    """A construct of a model file that cannot be read.

    Attributes:
        construct: What it is, such as "algebraic rule".
        where: Its id in the file; "" if it has none.
        reason: Why it is declined, in words.
    """

    construct: str
    where: str
    reason: str

    def __str__(self) -> str:
        of = f" {self.where}" if self.where else ""
        return f"{self.construct}{of}: {self.reason}"


class ModelFileError(ValueError):
    """A model file is damaged, too large, or not of a known format."""


class UnsupportedModelError(ValueError):
    """A model file uses constructs that are not supported; none of them is left out in silence.

    Attributes:
        declined: All of them.
    """

    def __init__(self, name: str, declined: Sequence[Declined]):
        self.declined = tuple(declined)
        lines = "".join(f"\n  {one}" for one in self.declined)
        super().__init__(f"{name} cannot be read:{lines}")
