"""The command `jaxtwin check`, which checks a class of the user's, or a model file of others."""

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from jaxtwin.commands.settings import CheckConfig
from jaxtwin.exchange.errors import UnsupportedModelError
from jaxtwin.exchange.load import FORMATS, describe, read_equations
from jaxtwin.physics.base import AbstractSystem
from jaxtwin.physics.check import check_system
from jaxtwin.physics.check.report import place_of


def check(config: CheckConfig) -> int:
    """Print the report and return the exit status: 1 if there are problems.

    Raises:
        ValueError: If there is no such class, or it is not a system; or no such file.
    """
    if Path(config.system).suffix.lower() in FORMATS:
        try:
            print(describe(read_equations(Path(config.system))))
        except UnsupportedModelError as error:
            print(error)
            return 1
        return 0
    system = load_system(config.system)
    try:
        report = check_system(system)
    except Exception as error:  # The user's own code: anything may come out of it.
        raise ValueError(f"{config.system} raised {_told(error)}") from error
    print(report)
    return 1 if report.problems else 0


def load_system(place: str) -> AbstractSystem:
    """Return an instance of the class at MODULE:CLASS, with its default settings.

    Args:
        place: An installed module, or a .py file in the working directory (with or without its
            suffix), followed by a colon and the name of a class or instance in it.

    Raises:
        ValueError: If there is no such class, or it is not a system.
    """
    name, _, kind = place.partition(":")
    if not name or not kind:
        raise ValueError(f"{place!r}: expected MODULE:CLASS, such as my_model:MyModel")
    module = _import(name)
    found = getattr(module, kind, None)
    if isinstance(found, AbstractSystem):
        return found
    if not (isinstance(found, type) and issubclass(found, AbstractSystem)):
        systems = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, AbstractSystem)
            and value.__module__ == module.__name__
        ]
        what = f"no {kind} in {name}" if found is None else f"{kind} of {name} is no system"
        raise ValueError(
            f"{what}: expected a subclass of AbstractSystem, and the module defines "
            f"{', '.join(systems) or 'none'}"
        )
    settings = dataclasses.fields(found)
    without = (dataclasses.MISSING, dataclasses.MISSING)
    if needed := [f.name for f in settings if (f.default, f.default_factory) == without]:
        raise ValueError(
            f"{kind} needs {', '.join(needed)}: give them defaults, or add an instance such as "
            f"`checked = {kind}(...)` to the file and name that"
        )
    try:
        return found()
    except Exception as error:  # The user's own code: anything may come out of it.
        raise ValueError(f"{kind}() raised {_told(error)}") from error


def _import(name: str) -> ModuleType:
    """Import a module, searching the working directory first."""
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"{name}: no such file")
        sys.path.insert(0, str(path.resolve().parent))
        name = path.stem
    else:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            file = "" if "." in error.name else f", or {error.name}.py in the working directory"
            raise ValueError(
                f"no module {error.name!r}: expected an installed one{file}"
            ) from error
        raise ValueError(f"importing {name} raised {_told(error)}") from error
    except Exception as error:  # The user's own code: anything may come out of it.
        raise ValueError(f"importing {name} raised {_told(error)}") from error


def _told(error: Exception) -> str:
    """Describe an exception in one line, with the line of code that raised it."""
    where = "" if isinstance(error, SyntaxError) else place_of(error)
    return f"{type(error).__name__}: {error}{where}"
