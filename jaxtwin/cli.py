"""The command `jaxtwin`: train, build twins, run a trial, check a system, render phantoms.

    jaxtwin COMMAND --help

Each command is imported when it runs, so that `--help` does not import JAX.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from jaxtwin.commands.run import Run, chosen_preset, execute, mistakes
from jaxtwin.commands.settings import (
    PSSL_PRESETS,
    CheckConfig,
    PhantomConfig,
    PSSLConfig,
    TrialFileConfig,
    TwinConfig,
)

# Exit status for errors that the user can fix, the same as for an unknown flag.
MISTAKE = 2

Settings = PSSLConfig | TwinConfig | TrialFileConfig | CheckConfig | PhantomConfig


def parse(arguments: Sequence[str]) -> Settings:
    """Parse the arguments to settings, whose class determines the command."""
    preset = chosen_preset(PSSL_PRESETS, list(arguments))
    commands = (
        Annotated[PSSLConfig, subcommand("train", default=preset)]
        | Annotated[TwinConfig, subcommand("twin", default=TwinConfig())]
        | Annotated[TrialFileConfig, subcommand("trial")]
        | Annotated[CheckConfig, subcommand("check")]
        | Annotated[PhantomConfig, subcommand("phantoms", default=PhantomConfig())]
    )
    return tyro.cli(
        commands,  # type: ignore[reportArgumentType]  # a union made at run time
        prog="jaxtwin",
        description="Digital twins of the heart. Research use only.",
        args=list(arguments),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with a nonzero status if it fails."""
    with mistakes(MISTAKE):
        config = parse(sys.argv[1:] if arguments is None else arguments)
    match config:
        case PSSLConfig():
            execute("pssl", config, _train, status=MISTAKE)
        case TwinConfig():
            execute("twin", config, _twin, status=MISTAKE)
        case TrialFileConfig():
            execute("trial", config, _trial, status=MISTAKE)
        case CheckConfig():
            with mistakes(MISTAKE):
                from jaxtwin.commands.check import check

                sys.exit(check(config))
        case PhantomConfig():
            with mistakes(MISTAKE):
                from jaxtwin.commands.phantoms import phantoms

                phantoms(config)


def _train(config: PSSLConfig, run: Run):
    from jaxtwin.commands.train import train

    return train(config, run)


def _twin(config: TwinConfig, run: Run):
    from jaxtwin.commands.twin import twins

    return twins(config, run)


def _trial(config: TrialFileConfig, run: Run):
    from jaxtwin.commands.trial import trial

    return trial(config.file, config, run)


if __name__ == "__main__":
    main()
