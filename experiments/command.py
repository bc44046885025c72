"""Command line common to all experiments."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tyro

from jaxtwin.commands.run import Run as Run
from jaxtwin.commands.run import chosen_preset, execute, mistakes
from jaxtwin.commands.settings import RunConfig as RunConfig

Config = TypeVar("Config", bound=RunConfig)


def parse(
    experiment: str,
    presets: Mapping[str, Config],
    description: str | None,
    arguments: list[str],
) -> Config:
    """Parse the flags to a configuration, with the named preset as defaults."""
    default = chosen_preset(presets, arguments)
    return tyro.cli(
        type(default),
        prog=f"python -m experiments.{experiment}",
        default=default,
        description=description,
        args=arguments,
    )


def main(
    name: str,
    presets: Mapping[str, Config],
    experiment: Callable[[Config, Run], dict[str, Any]],
    description: str | None,
) -> None:
    """Run an experiment from the command line and list the files written.

    Args:
        name: Name of the experiment and of its folder.
        presets: Configurations "tiny", "default" and "full".
        experiment: Function from the configuration and the run to the results.
        description: Description for --help.
    """
    with mistakes(1):
        config = parse(name, presets, description, sys.argv[1:])
    execute(name, config, experiment, status=1)
