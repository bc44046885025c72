"""Reading of EchoNet's tables, whole and damaged."""

import csv
import re
from contextlib import nullcontext

import numpy as np
import pytest

from jaxtwin.data.echonet import read_echonet, read_theta
from jaxtwin.data.vitals import VITAL_COLUMNS

ROW = {
    "FileName": "A",
    "EF": "60",
    "ESV": "40",
    "EDV": "100",
    "FrameHeight": "112",
    "FrameWidth": "112",
    "FPS": "50",
    "NumberOfFrames": "20",
    "Split": "TRAIN",
}


def write_table(folder, *changes, columns=tuple(ROW)):
    (folder / "Videos").mkdir(exist_ok=True)
    with (folder / "FileList.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows({**ROW, **change} for change in changes)


def test_the_table_is_read_with_and_without_suffixes_and_extra_columns(tmp_path):
    write_table(
        tmp_path,
        {"FileName": "A", "Site": "1"},
        {"FileName": "B.avi", "Split": "val", "EF": "59.6"},
        {"FileName": "C", "Split": "Test"},
        columns=(*ROW, "Site"),
    )
    table = tmp_path / "FileList.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets save it
    data = read_echonet(tmp_path)
    assert [record.name for record in data.records] == ["A", "B", "C"]
    assert data.records[1].path == tmp_path / "Videos" / "B.avi"
    assert data.records[1].ef == 59.6 and data.records[1].frames == 20
    assert [len(data.split(name)) for name in ("TRAIN", "val", "TEST")] == [1, 1, 1]
    assert data.skipped == ()
    with pytest.raises(ValueError, match="'HOLDOUT': choose one of TRAIN, VAL, TEST"):
        data.split("HOLDOUT")


def test_vitals_are_read_where_somebody_measured(tmp_path):
    change = {"HeartPeriod": "0.9", "SystolicPressure": "NA", "DiastolicPressure": "70"}
    write_table(tmp_path, change, {"FileName": "B"}, columns=(*ROW, *VITAL_COLUMNS.values()))
    first, second = read_echonet(tmp_path).records
    assert first.vitals[::2] == (0.9, 70.0) and np.isnan(first.vitals.systolic)
    assert np.isnan(second.vitals).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"EDV": "nan"}, "EDV is 'nan'"),
        ({"EDV": "", "EF": ""}, "EDV is ''"),
        ({"ESV": "100", "EDV": "40"}, "0 < ESV < EDV"),
        ({"ESV": "-5"}, "0 < ESV < EDV"),
        ({"ESV": "0.04", "EDV": "0.1"}, "EDV 0.1 mL: expected 5 to 1000"),
        ({"ESV": "40000", "EDV": "100000"}, r"EDV 1e[+]05 mL: expected 5 to 1000; .*mistyped"),
        ({"ESV": "0.5", "EDV": "6", "EF": "92"}, "ESV 0.5 mL: expected 1 to 900"),
        ({"ESV": "950", "EDV": "990", "EF": "4"}, "ESV 950 mL: expected 1 to 900"),
        ({"EF": "30"}, "contradicts"),
        ({"FPS": "0"}, "FPS 0"),
        ({"FPS": "1e6"}, "FPS 1e[+]06"),
        ({"NumberOfFrames": "1"}, "still"),
        ({"Split": "HOLDOUT"}, "HOLDOUT"),
        ({"FileName": "good"}, "listed before"),
        ({"FileName": ""}, "no FileName"),
        ({"HeartPeriod": "60"}, "HeartPeriod 60: expected 0.2 to 3, or an empty entry"),
        ({"SystolicPressure": "high"}, "SystolicPressure is 'high'"),
        ({"SystolicPressure": "80", "DiastolicPressure": "120"}, "80/120 mmHg"),
    ],
)
def test_an_impossible_row_is_skipped_with_its_reason(tmp_path, change, words):
    columns = (*ROW, *VITAL_COLUMNS.values())
    write_table(tmp_path, {"FileName": "good"}, change, {"FileName": "last"}, columns=columns)
    data = read_echonet(tmp_path)
    assert [record.name for record in data.records] == ["good", "last"]
    (skipped,) = data.skipped
    assert re.search(words, skipped.reason)


@pytest.mark.parametrize(
    ("scale", "unit"), [(0.1, "centilitres"), (4.0, "pixels or another unit"), (0.3, None)]
)
def test_a_cohort_in_another_unit_is_read_with_a_warning(tmp_path, scale, unit):
    volumes = [{"ESV": scale * 0.4 * edv, "EDV": scale * edv} for edv in (90, 120, 200)]
    rows = [{"FileName": f"c{k}", **row} for k, row in enumerate(volumes)]
    write_table(tmp_path, *rows)
    words = rf"FileList.csv: the median EDV is {scale * 120:g}: .*likely in {unit}, so convert"
    with pytest.warns(UserWarning, match=words) if unit else nullcontext():
        assert len(read_echonet(tmp_path).records) == 3


@pytest.mark.parametrize(
    ("scale", "unit"), [(1e-3, "litres"), (1e-2, "decilitres"), (1e3, "microlitres")]
)
def test_a_cohort_without_plausible_volumes_is_refused_with_its_unit(tmp_path, scale, unit):
    write_table(tmp_path, {"EDV": 100 * scale, "ESV": 40 * scale})
    with pytest.raises(ValueError, match=rf"no usable clip.*The median EDV .* likely in {unit}"):
        read_echonet(tmp_path)


def test_one_mistyped_volume_is_not_a_cohort_in_another_unit(tmp_path):
    write_table(tmp_path, *({"FileName": f"c{k}"} for k in range(3)), {"EDV": "1e5"})
    assert [skipped.name for skipped in read_echonet(tmp_path).skipped] == ["A"]


def test_a_short_row_is_skipped(tmp_path):
    write_table(tmp_path, {})
    with (tmp_path / "FileList.csv").open("a") as file:
        file.write("B,60,40\n")
    assert [skipped.name for skipped in read_echonet(tmp_path).skipped] == ["B"]


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_echonet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"FileList\.csv is missing"):
        read_echonet(tmp_path)
    write_table(tmp_path, {}, columns=tuple(name for name in ROW if name != "EDV"))
    with pytest.raises(ValueError, match=r"lacks the column EDV.*found FileName"):
        read_echonet(tmp_path)
    write_table(tmp_path, {"EF": "x"})
    with pytest.raises(ValueError, match=r"no usable clip.*EF is 'x'"):
        read_echonet(tmp_path)
    (tmp_path / "Videos").rmdir()
    with pytest.raises(FileNotFoundError, match="Videos is missing"):
        read_echonet(tmp_path)
    (tmp_path / "FileList.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="not a comma-separated text table"):
        read_echonet(tmp_path)


@pytest.mark.parametrize("name", ["../../secret", "/etc/secret", "link/secret"])
def test_a_name_that_leads_outside_the_folder_is_refused(tmp_path, name):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    write_table(data, {}, {"FileName": name})
    (data / "Videos" / "link").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=f"'{name}', which leads outside"):
        read_echonet(data)


def test_theta_is_read_by_clip(tmp_path):
    (tmp_path / "Theta.csv").write_text("FileName,T_c,E_max\nA,0.8,2.5\nB.avi,1.1,1\n")
    assert read_theta(tmp_path) == {
        "A": {"T_c": 0.8, "E_max": 2.5},
        "B": {"T_c": 1.1, "E_max": 1.0},
    }
    (tmp_path / "Theta.csv").write_text("FileName,T_c\nA,fast\n")
    with pytest.raises(ValueError, match="A has a parameter that is no number"):
        read_theta(tmp_path)
