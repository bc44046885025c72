"""The command `jaxtwin phantoms`, which renders clips of simulated patients."""

from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.commands.settings import PhantomConfig
from jaxtwin.data.phantom.cohort import make_phantoms
from jaxtwin.models.left_heart import NINE, LeftHeart


def phantoms(config: PhantomConfig) -> None:
    """Render a cohort into a folder.

    Raises:
        ValueError: If the folder contains a data set, or another incomplete cohort.
    """
    if config.out.exists() and not config.out.is_dir():
        raise ValueError(f"--out {config.out} is a file: choose a folder")
    if (config.out / "FileList.csv").exists():
        raise ValueError(
            f"{config.out} already holds a data set: choose another folder with --out, or delete it"
        )
    make_phantoms(
        config.out,
        LeftHeart(),
        NINE,
        config.clips,
        seed=config.seed,
        population=ECHO_LABORATORY,
    )
    print(
        f"{sum(config.clips)} clips in {config.out}, in EchoNet-Dynamic's layout; the parameters "
        "behind them are in Theta.csv"
    )
