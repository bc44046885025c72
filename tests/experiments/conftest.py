"""One process for all command lines of a test that need none of their own."""

import pytest

from tests.experiments.commands import one_interpreter


@pytest.fixture
def run_in_one():
    with one_interpreter() as run:
        yield run
