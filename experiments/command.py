"""The one face of all experiments: flags, a run's folder, and how a run ends."""

import argparse
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
from typing import Any, Literal, TypeVar

import jax
import tyro
from matplotlib.figure import Figure

Preset = Literal["tiny", "default", "full"]

_VERSIONS = ("jaxtwin", "jax", "jaxlib", "equinox", "diffrax", "optax", "numpy", "grain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every experiment can be told.

    Attributes:
        preset: Where all other values start from.
        out: The folder that gets everything the run writes; runs/NAME-PRESET by default.
        seed: Of everything random.
        resume: Go on with a run that was cut short: repeat its flags and add this one.
    """

    preset: Preset = "default"
    out: Path | None = None
    seed: int = 0
    resume: bool = False

    def __post_init__(self):
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed {self.seed}: expected 0 to {2**31 - 1}")


Config = TypeVar("Config", bound=RunConfig)


class Run:
    """A run's folder.

    Attributes:
        folder: Where everything goes.
        written: The files that a reader will want, in the order they were written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.written: list[Path] = []

    def figure(self, name: str, figure: Figure) -> None:
        """Save a figure as NAME.png."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=150, bbox_inches="tight")
        self.written.append(path)

    def json(self, name: str, content: Any) -> None:
        """Save what JSON allows as NAME.json, whole or not at all."""
        path = self.folder / f"{name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False))
        partial.replace(path)
        self.written.append(path)


def parse(
    experiment: str,
    presets: Mapping[str, Config],
    description: str | None,
    arguments: list[str],
) -> Config:
    """The configuration that the flags ask for, starting from the preset they name."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="default")
    name = first.parse_known_args(arguments)[0].preset
    default = presets.get(name, presets["default"])  # tyro says what is wrong with the name
    return tyro.cli(
        type(default),
        prog=f"python -m experiments.{experiment}",
        default=default,
        description=description,
        args=arguments,
    )


def origin() -> dict[str, Any]:
    """What a result depends on besides its configuration: versions, commit, machine."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "commit": commit,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    }


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by the names of their flags."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def open_run(name: str, config: RunConfig) -> Run:
    """Make the run's folder, or check that it holds the run to go on with.

    Raises:
        ValueError: If the folder holds something else.
    """
    folder = config.out or Path("runs") / f"{name}-{config.preset}"
    note = folder / "config.json"
    # As JSON allows it, so that it equals what is read back.
    settings = {"experiment": name} | json.loads(
        json.dumps(dataclasses.asdict(config), default=str)
    )
    for passing in ("out", "resume"):
        del settings[passing]
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file: choose a folder")
    # A run that ended before it made anything leaves nothing worth keeping.
    if folder.exists() and {path.name for path in folder.iterdir()} - {"config.json", "error.log"}:
        try:
            kept = _flat(json.loads(note.read_text())["config"])
        except (OSError, ValueError, KeyError):
            raise ValueError(
                f"{folder} holds no run of {name}: choose another folder with --out"
            ) from None
        now = _flat(settings)
        changed = [key for key in {**kept, **now} if kept.get(key) != now.get(key)]
        lines = [f"  {key}: was {kept.get(key)}, now {now.get(key)}" for key in changed]
        if changed:
            raise ValueError(
                "\n".join(
                    [f"{folder} holds a run with other settings: choose another --out", *lines]
                )
            )
        if not config.resume:
            raise ValueError(
                f"{folder} is not empty: add --resume to go on with the run in it, choose "
                "another folder with --out, or delete it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    run.json("config", {"config": settings, **origin()})
    return run


def main(
    name: str,
    presets: Mapping[str, Config],
    experiment: Callable[[Config, Run], dict[str, Any]],
    description: str | None,
) -> None:
    """Run an experiment from the command line, and end with where its results are.

    Args:
        name: Of the experiment, and of its folder.
        presets: "tiny", "default" and "full".
        experiment: Takes the configuration and the run's folder, gives the results.
        description: For --help.
    """
    folder = None
    try:
        config = parse(name, presets, description, sys.argv[1:])
        run = open_run(name, config)
        folder = run.folder
        run.json("results", experiment(config, run))
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command with --resume goes on from {folder}")
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        # What a user can mend gets one message; a developer finds the traceback beside it.
        where = ""
        if folder is not None:
            try:
                (folder / "error.log").write_text(traceback.format_exc())
                where = f"\n(traceback in {folder / 'error.log'}"
                kept = {path.name for path in folder.iterdir()} - {"config.json", "error.log"}
                where += "; the same flags with --resume keep what was done)" if kept else ")"
            except OSError:
                traceback.print_exc()
        sys.exit(f"error: {error}{where}")
    print("\nwritten:")
    for path in dict.fromkeys(run.written):
        print(f"  {path}")
