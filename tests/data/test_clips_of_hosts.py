"""Several hosts decode a share of the clips each, and have the batches of one host."""

import numpy as np
import pytest

from tests.data.echonet_files import write_clips
from tests.processes import hosts, run


@pytest.mark.slow
def test_two_hosts_share_decoding_and_batches(tmp_path):
    write_clips(tmp_path / "data", 24)
    first, second = run("spread_clips", tmp_path, *hosts(2), devices=2)
    # Shards of five clips, by turns.
    assert first[0].tolist() == [*range(5), *range(10, 15), *range(20, 24)]
    assert second[0].tolist() == [*range(5, 10), *range(15, 20)]
    assert first[2].tolist() == [0, 1, 2, 3] and second[2].tolist() == [4, 5, 6, 7]

    # One host then opens what two have written, and reads whole batches.
    ((decoded, batches, rows, read, clips, trained),) = run("spread_clips", tmp_path, [], devices=1)
    assert len(decoded) == 0 and rows.tolist() == list(range(8)) and read >= 20 * 8
    np.testing.assert_array_equal(np.concatenate([first[1], second[1]], axis=1), batches)
    for of_host in (first, second):
        # A few batches are read ahead.
        assert 20 * 4 <= of_host[3] <= 26 * 4
        np.testing.assert_array_equal(of_host[4], clips)
        np.testing.assert_allclose(of_host[5], trained, rtol=1e-5)
