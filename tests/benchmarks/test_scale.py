"""The benchmark of a large trial: killed and resumed, small, and what it calculates on paper."""

import json

import pytest

from benchmarks.scale import AIM, ARMS, Arguments, Machine, Process, main, measured, on_paper


def test_a_cluster_is_as_fast_as_its_writer():
    one = Machine("one", AIM, 1, 1.0, 3.0, 120.0, "an aim, not measured")
    asked = {"patients": 100_000_000, "arms": 6, "bytes_each": 60.0, "write_MB_s": 200.0}
    row = on_paper(one, **asked)
    assert (row["computing_s"], row["writing_s"]) == (120, 180)
    assert row["hours"] == pytest.approx(420 / 3600, rel=1e-2)
    assert row["dollars"] == pytest.approx(3 * 420 / 3600, rel=1e-2)
    assert row["gigabytes"] == 36 and "not measured" in row["basis"]
    many = on_paper(one._replace(devices=64, efficiency=0.9), **asked)
    assert many["computing_s"] == 2 and many["writing_s"] == 180
    assert many["dollars"] > 40 * row["dollars"]


def test_what_a_kill_costs(tmp_path, monkeypatch):
    """A start of 10 s, blocks of 2 s, the first of each process 1 s longer; killed after 1 s."""
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "file").write_bytes(b"12345")
    monkeypatch.setattr("benchmarks.scale.write_rate", lambda trial, block: 100.0)
    first = Process(0.0, [(0, 10.0), (10, 13.0), (20, 15.0), (30, 17.0)], 18.0, 900.0, {})
    second = Process(20.0, [(30, 30.0), (40, 33.0), (50, 35.0), (60, 37.0)], 39.0, 800.0, {})
    row = measured(Arguments(tmp_path, patients=60, block=10), first, second)
    assert row["block_s"] == 2 and row["per_second"] == 10 * len(ARMS) / 2
    assert row["killed_after_patients"] == 30 and row["bytes"] == 5
    assert row["lost_s"] == 1 + 10 + 1  # Half a block, another start, and what it compiles.
    assert row["peak_MB"] == 900


def test_blocks_must_be_several(tmp_path):
    with pytest.raises(SystemExit, match="choose a --block of at most a sixth of the patients"):
        main(Arguments(tmp_path / "new", patients=100, block=50))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="is not empty"):
        main(Arguments(tmp_path))


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # Of its processes, which compile.
    main(Arguments(tmp_path / "large", quick=True, json=tmp_path / "rows.json"))
    content = json.loads((tmp_path / "rows.json").read_text())
    row = content["measured"]
    assert row["patients"] == 2_000 and row["killed_after_patients"] == 1_000
    assert set(row["failed"]) == set(ARMS) and row["lost_s"] > 0
    # Endpoints of 4 bytes, and θ.
    assert 2_000 * 28 < row["bytes"] < 2_000 * 6 * 18 * 4 * 1.5
    assert 0 < row["peak_MB"] < 2_000
    assert [paper["basis"] for paper in content["on_paper"]] == [
        "measured", "an aim, not measured", "an aim, not measured",
    ]  # fmt: skip
