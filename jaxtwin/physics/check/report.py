"""What `check_system` found."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Problem(NamedTuple):
    """Something that will not work, or may not.

    Attributes:
        what: What came, and what was expected.
        remedy: What to do.
    """

    what: str
    remedy: str


@dataclasses.dataclass
class Report:
    """What `check_system` found.

    Attributes:
        system: The system's name.
        problems: What is wrong; empty where nothing is.
        warnings: What may go wrong.
        facts: What else there is to know, by name.
    """

    system: str
    problems: list[Problem] = dataclasses.field(default_factory=list)
    warnings: list[Problem] = dataclasses.field(default_factory=list)
    facts: dict[str, str] = dataclasses.field(default_factory=dict)

    def problem(self, what: str, remedy: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(what, remedy))

    def warn(self, what: str, remedy: str) -> None:
        """Add a warning."""
        self.warnings.append(Problem(what, remedy))

    def __str__(self) -> str:
        """As text for a terminal."""
        title = count(len(self.problems), "problem", "problems")
        if self.warnings:
            title += f", {count(len(self.warnings), 'warning', 'warnings')}"
        lines = [f"{self.system}: {title}"]
        for sign, entries in (("✗", self.problems), ("!", self.warnings)):
            lines += [f"  {sign} {entry.what}\n    → {entry.remedy}" for entry in entries]
        width = max((len(name) for name in self.facts), default=0)
        lines += [f"  {name:{width}}  {fact}" for name, fact in self.facts.items()]
        return "\n".join(lines)


def count(n: int, one: str, many: str) -> str:
    """A number of things, in words: "no problems", "1 problem", "2 problems"."""
    return f"{n or 'no'} {one if n == 1 else many}"


def paths(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree, each with its place in it, such as "heart.V"."""
    return [
        (jax.tree_util.keystr(path).strip("."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def names(tree: Any) -> tuple[str, ...]:
    """The places of a tree's leaves."""
    return tuple(name for name, _ in paths(tree))


def not_finite(tree: Any) -> list[str]:
    """The places of the leaves that are NaN or infinite somewhere."""
    return [name for name, leaf in paths(tree) if not np.isfinite(np.asarray(leaf)).all()]


def compiled(function: Callable[..., Any], *args: Any) -> Any:
    """Compile a function for arguments like these, in a hurry: it is called a few times."""
    # Level 0 is no quicker, and has given NaN for batches of a model with one state.
    hurry: dict[str, Any] = {"xla_backend_optimization_level": 1}
    return jax.jit(function).lower(*args).compile(hurry)
