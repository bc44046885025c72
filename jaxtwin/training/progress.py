"""Progress bars with the remaining time, refreshed less often when not in a terminal."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from tqdm import tqdm

ProgressBar: TypeAlias = Callable[..., Any]
"""Function that creates a progress bar, with the arguments of `tqdm.tqdm`."""

# In a log file every refresh adds a line.
progress_bar = functools.partial(
    tqdm, mininterval=0.5 if sys.stderr.isatty() else 10.0, dynamic_ncols=True
)
"""`tqdm.tqdm`, refreshed twice a second in a terminal and every ten seconds in a log."""

silent = functools.partial(tqdm, disable=True)
"""A progress bar that prints nothing."""
