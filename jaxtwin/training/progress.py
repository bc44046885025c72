"""Progress bars with the remaining time, quiet where nobody watches."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from tqdm import tqdm

ProgressBar: TypeAlias = Callable[..., Any]
"""What makes a progress bar, with the arguments of `tqdm.tqdm`."""

# In a log file every refresh is a line of its own.
progress_bar = functools.partial(
    tqdm, mininterval=0.5 if sys.stderr.isatty() else 10.0, dynamic_ncols=True
)
"""`tqdm.tqdm`, refreshed twice a second in a terminal and every ten seconds in a log."""

silent = functools.partial(tqdm, disable=True)
"""No progress bar."""
