"""Runs of commands and experiments: presets, the output folder and error reporting."""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jaxtwin.commands.settings import OutputConfig, RunConfig, TrialConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VERSIONS = ("jaxtwin", "jax", "jaxlib", "equinox", "diffrax", "optax", "numpy", "grain")
# The only files of a run that ended before producing any results.
_NOTES = {"config.json", "error.log"}

Config = TypeVar("Config", bound=OutputConfig)
Chosen = TypeVar("Chosen", bound=RunConfig)


class Run:
    """A run's output folder.

    Attributes:
        folder: Folder for all files of the run.
        written: Files to list for the user at the end, in the order written.
        leads: Whether this process is the one that writes.
    """

    def __init__(self, folder: Path, leads: bool = True):
        self.folder = folder
        self.leads = leads
        self.written: list[Path] = []

    def figure(self, name: str, figure: "Figure") -> None:
        """Save a figure as NAME.png."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=150, bbox_inches="tight")
        self.written.append(path)

    def json(self, name: str, content: Any) -> None:
        """Save JSON-serialisable content as NAME.json, atomically."""
        path = self.folder / f"{name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False))
        partial.replace(path)
        self.written.append(path)


def chosen_preset(presets: Mapping[str, Chosen], arguments: list[str]) -> Chosen:
    """Return the preset named by `--preset` in the arguments, the defaults of all other flags."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?", default="default")
    name = first.parse_known_args(arguments)[0].preset
    return presets.get(name, presets["default"])  # tyro reports an unknown name


def origin() -> dict[str, Any]:
    """Return what a result depends on besides its configuration: versions, commit, machine."""
    import jax

    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    }


def _commit() -> str:
    """Return the commit of this file, or "unknown" if git does not track it.

    An installed copy may be inside a clone of another repository.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        tracked = [*git, "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(tracked, capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as a flat dictionary with dotted names."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _made(folder: Path) -> bool:
    """Return whether a run has produced anything in the folder."""
    return folder.exists() and bool({path.name for path in folder.iterdir()} - _NOTES)


def folder_of(name: str, config: OutputConfig) -> Path:
    """Return the folder of a run."""
    preset = f"-{config.preset}" if isinstance(config, RunConfig) else ""
    return config.out or Path("runs") / f"{name}{preset}"


def open_run(name: str, config: OutputConfig) -> Run:
    """Create the run's folder, or check that it holds the run to resume.

    Args:
        name: Name of the command or experiment.
        config: Settings of the run.

    Raises:
        ValueError: If the folder holds something else, there is no run to resume, or an input of
            the run is missing.
    """
    folder = folder_of(name, config)
    note = folder / "config.json"
    # Converted through JSON, so that it compares equal to what is read back.
    settings = {"experiment": name} | json.loads(
        json.dumps(dataclasses.asdict(config), default=str)
    )
    for passing in ("out", "resume", "devices", "distributed"):
        settings.pop(passing, None)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file: choose a folder")
    if _made(folder):
        try:
            kept = _flat(json.loads(note.read_text())["config"])
        except (OSError, ValueError, KeyError):
            raise ValueError(
                f"{folder} holds no run of {name}: choose another folder with --out"
            ) from None
        now = _flat(settings)
        changed = [key for key in {**kept, **now} if kept.get(key) != now.get(key)]
        if changed:
            words = [f"{key}: was {kept.get(key)}, now {now.get(key)}" for key in changed]
            raise ValueError(
                f"{folder} holds a run with other settings: choose another --out "
                f"({'; '.join(words)})"
            )
        if not config.resume:
            raise ValueError(
                f"{folder} is not empty: add --resume to continue the run in it, choose another "
                "folder with --out, or delete it"
            )
    elif config.resume and not note.exists():
        raise ValueError(
            f"--resume: there is no run in {folder}: give the run's folder with --out, or omit "
            "--resume to start a new run"
        )
    config.check_inputs()
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    run.json("config", {"config": settings, **origin()})
    return run


@contextlib.contextmanager
def mistakes(status: int, folder: Callable[[], Path | None] = lambda: None):
    """Turn errors that a user can fix into one line on stderr and an exit.

    Args:
        status: Exit status for such errors.
        folder: Function that returns the run's folder, if it exists yet. The traceback is written
            there.
    """
    try:
        yield
    except KeyboardInterrupt:
        place = folder()
        again = f"; to continue from {place}, repeat the command with --resume" if place else ""
        print(f"\ninterrupted{again}")
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        # An error for a missing extra has no module name; anything else is a broken installation.
        if isinstance(error, ImportError) and error.name is not None:
            raise
        line = "; ".join(part.strip() for part in str(error).splitlines())
        if (place := folder()) is not None:
            try:
                (place / "error.log").write_text(traceback.format_exc())
                line += f" (traceback in {place / 'error.log'}"
                again = "; repeat the command with --resume to keep what was done)"
                line += again if _made(place) else ")"
            except OSError:
                traceback.print_exc()
        print(f"error: {line}", file=sys.stderr)
        sys.exit(status)


def _open_together(name: str, config: OutputConfig) -> Run:
    """Join the other processes; the first of them opens the run's folder."""
    from jaxtwin.devices import join_processes, on_first_host

    join_processes()
    run = on_first_host(lambda: open_run(name, config))
    return run or Run(folder_of(name, config), leads=False)


def execute(
    name: str,
    config: Config,
    work: Callable[[Config, Run], dict[str, Any]],
    *,
    status: int,
) -> None:
    """Do the work of a run in its folder, and list the files written.

    Args:
        name: Name of the run and of its folder.
        config: Settings of the run.
        work: Function from the settings and the run to the content of results.json.
        status: Exit status for errors that the user can fix.
    """
    run: Run | None = None
    with mistakes(status, lambda: None if run is None else run.folder):
        if isinstance(config, TrialConfig) and config.distributed:
            run = _open_together(name, config)
        else:
            run = open_run(name, config)
        results = work(config, run)
        if not run.leads:
            return
        run.json("results", results)
    print("\nwritten:")
    for path in dict.fromkeys(run.written):
        print(f"  {path}")
