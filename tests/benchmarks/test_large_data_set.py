"""The benchmark of a data set of clips: its command, and how it counts."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from benchmarks.clips import HEADER, REAL, splits
from tests.data.echonet_files import write_clips


def test_splits_are_the_real_ones():
    assert Counter(splits(sum(REAL))) == dict(zip(("TRAIN", "VAL", "TEST"), REAL, strict=True))
    assert Counter(splits(8)) == {"TRAIN": 6, "VAL": 1, "TEST": 1}


def test_a_second_start_opens_no_video(tmp_path):
    write_clips(tmp_path / "data", 3)
    command = [sys.executable, "-m", "benchmarks.clips", "--folder", str(tmp_path), "--clips", "3"]
    found = []
    for part in ("cache", "start"):
        done = subprocess.run(
            [*command, "--part", part, "--cache", str(tmp_path / "cache")],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found += json.loads(done.stdout.splitlines()[-1])
    assert [row["opened"] for row in found] == [3, 0]
    assert all(set(HEADER) <= set(row) and row["peak_MB"] > 50 for row in found)


@pytest.mark.slow
def test_the_command_and_its_table(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.clips", "--folder", str(tmp_path)),
            *("--clips", "40", "--json", str(tmp_path / "rows.json")),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=1800,
    )
    rows = {row["part"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert all(f"| {part} |" in done.stdout for part in rows)
    assert rows["cache"]["opened"] == 40 and rows["start"]["opened"] == 0
    assert rows["first epoch"]["clips"] == rows["epoch"]["clips"] == 16
    assert rows["host 0, cache"]["opened"] + rows["host 1, cache"]["opened"] == 40
    assert rows["host 0, epoch"]["MB"] == rows["host 1, epoch"]["MB"] == rows["epoch"]["MB"] / 2
    # The caches are removed, the phantoms stay.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "rows.json"]
