"""What is silenced for a block speaks again behind it."""

from __future__ import annotations

import datasets
import pytest
from transformers.utils import logging

from peftbench.data import published
from peftbench.data.hub_data import without_bars
from peftbench.models.quiet import quiet


@pytest.mark.parametrize("had_bars", [True, False])
def test_bars_and_reports_come_back(had_bars: bool) -> None:
    try:
        (logging.enable_progress_bar if had_bars else logging.disable_progress_bar)()  # type: ignore[no-untyped-call]
        (datasets.enable_progress_bars if had_bars else datasets.disable_progress_bars)()
        level = logging.get_verbosity()
        with pytest.raises(ZeroDivisionError), quiet(), without_bars():
            assert not logging.is_progress_bar_enabled() and datasets.are_progress_bars_disabled()
            raise ZeroDivisionError
        assert logging.is_progress_bar_enabled() == had_bars and logging.get_verbosity() == level
        assert datasets.are_progress_bars_disabled() != had_bars
    finally:
        logging.enable_progress_bar()
        datasets.enable_progress_bars()


def test_the_folder_of_data_is_looked_at_for_a_block_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    found = published.Published("")
    assert str(found._home) == str(tmp_path)
    with published.looked_for_in(f"{tmp_path}/absent"):
        assert found._home is None
        with published.looked_for_in(None):
            assert str(found._home) == str(tmp_path)
    assert str(found._home) == str(tmp_path)
