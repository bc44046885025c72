"""Report of `check_system`."""

import dataclasses
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

_PACKAGE = Path(__file__).parents[2]
_FOREIGN = (
    str(_PACKAGE / "physics"),
    str(_PACKAGE / "parameters"),
    sysconfig.get_path("stdlib"),
    "<",
)


class Problem(NamedTuple):
    """Problem of a system, or a warning.

    Attributes:
        what: What came, and what was expected.
        remedy: What to do.
    """

    what: str
    remedy: str


@dataclasses.dataclass
class Report:
    """Report of `check_system`.

    Attributes:
        system: Name of the system.
        problems: Problems found; empty if there are none.
        warnings: Possible problems.
        facts: Further information, by name.
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
        """Format the report for a terminal."""
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
    """Format a number of things: "no problems", "1 problem", "2 problems"."""
    return f"{n or 'no'} {one if n == 1 else many}"


def paths(tree: Any) -> list[tuple[str, Any]]:
    """Return the leaves of a tree with their paths, such as "heart.V"."""
    return [
        (jax.tree_util.keystr(path).strip("."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def names(tree: Any) -> tuple[str, ...]:
    """Return the paths of a tree's leaves."""
    return tuple(name for name, _ in paths(tree))


def not_finite(tree: Any) -> list[str]:
    """Return the paths of the leaves with NaN or infinite entries."""
    return [name for name, leaf in paths(tree) if not np.isfinite(np.asarray(leaf)).all()]


def compiled(function: Callable[..., Any], *args: Any) -> Any:
    """Compile a function for arguments like these, with few optimisations, to save time."""
    hurry: dict[str, Any] = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*args).compile(hurry)


def place_of(error: BaseException) -> str:
    """Return the line of the user's code that an error passed last, such as " (my_model.py:12)".

    Solvers and declarations of this package, other packages and Python itself are not the user's.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith(_FOREIGN) and "site-packages" not in frame.filename
    ]
    last = (own or frames)[-1]
    return f" ({Path(last.filename).name}:{last.lineno})"
