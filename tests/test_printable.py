"""What a terminal would obey is written as Python escapes it."""

from __future__ import annotations

from peftbench.printable import printable


def test_control_characters_are_written_and_not_sent() -> None:
    assert printable("a\x1b[31mred\x07\r\x9b1m\u202eback\x7f") == (r"a\x1b[31mred\x07\r\x9b1m\u202eback\x7f")


def test_text_stays_as_it_is() -> None:
    assert printable("| ±1.2 ≈\tä 漢\n") == "| ±1.2 ≈\tä 漢\n"
    assert printable("half \udcff") == "half ?"
