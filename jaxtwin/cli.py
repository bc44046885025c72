"""The command `jaxtwin`: train, build twins, run a trial, check a system, render phantoms.

    jaxtwin COMMAND --help

What a command does is imported when it runs: help answers without JAX.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from jaxtwin.commands.run import mistakes
from jaxtwin.commands.settings import CheckConfig, PhantomConfig

# The exit status where the user has something to mend, as that of an unknown flag.
MISTAKE = 2


def parse(arguments: Sequence[str]) -> CheckConfig | PhantomConfig:
    """The settings that the arguments ask for; their class tells the command."""
    commands = (
        Annotated[CheckConfig, subcommand("check")]
        | Annotated[PhantomConfig, subcommand("phantoms", default=PhantomConfig())]
    )
    return tyro.cli(
        commands,  # type: ignore[reportArgumentType]  # a union made at run time
        prog="jaxtwin",
        description="Digital twins of the heart. Research use only.",
        args=list(arguments),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and exit with a status other than 0 where it has failed."""
    config = parse(sys.argv[1:] if arguments is None else arguments)
    match config:
        case CheckConfig():
            with mistakes(MISTAKE):
                from jaxtwin.commands.check import check

                sys.exit(check(config))
        case PhantomConfig():
            with mistakes(MISTAKE):
                from jaxtwin.commands.phantoms import phantoms

                phantoms(config)


if __name__ == "__main__":
    main()
