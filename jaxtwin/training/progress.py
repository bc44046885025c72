"""Progress bars with the remaining time, quiet where nobody watches."""

import functools
import sys

from tqdm import tqdm

# In a log file every refresh is a line of its own.
progress_bar = functools.partial(
    tqdm, mininterval=0.5 if sys.stderr.isatty() else 10.0, dynamic_ncols=True
)
"""`tqdm.tqdm`, refreshed twice a second in a terminal and every ten seconds in a log."""
