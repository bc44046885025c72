"""Script that runs command lines of experiments one after another.

As commands.py starts it: reads a JSON list for each command line, answers with its exit status and
what it said.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback


def ended(name: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output, as those of `python -m experiments.NAME ...`."""
    status, said = 0, io.StringIO()
    sys.argv = [name, *arguments]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
            status = 1
    return status, said.getvalue()


if __name__ == "__main__":
    # Answers alone go to the pipe; what a library prints past Python goes with the errors.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            print(json.dumps(ended(*json.loads(line))), file=answers, flush=True)
