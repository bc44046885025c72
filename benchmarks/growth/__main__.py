"""Command line of the benchmark: `python -m benchmarks.growth`."""

import argparse
import json
from pathlib import Path

import jax

from benchmarks import growth
from benchmarks.growth.figure import draw
from benchmarks.growth.measure import STEPS, measure, seconds
from benchmarks.markdown import table
from jaxtwin.commands.run import origin
from jaxtwin.models.left_heart import SEVEN, LeftHeart


def main() -> None:
    """Measure and print the series."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=growth.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few and small sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers to a file")
    parser.add_argument("--figure", type=Path, help="also draw them")
    parser.add_argument("--on", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--patients", type=int, default=4_096, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.on:
        mesh = jax.make_mesh((given.on,), ("batch",)) if given.on > 1 else None
        print(seconds(LeftHeart(), SEVEN, given.patients, STEPS, given.repeats, mesh))
        return
    found = measure(given.quick, given.repeats)
    print(json.dumps(origin()))
    for series in found:
        print("", table(series.rows()), sep="\n")
    if given.json:
        content = {"series": [series._asdict() for series in found], **origin()}
        given.json.write_text(json.dumps(content, indent=1) + "\n")
    if given.figure:
        draw(found).savefig(given.figure, dpi=150)


if __name__ == "__main__":
    main()
