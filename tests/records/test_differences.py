"""What is another in a second place, in words."""

from __future__ import annotations

from peftbench.records.differences import differing, differing_software

THEN = {"threads": 2, "gpu": None, "libraries": {"torch": "1", "peft": "3"}, "git_commit": "a" * 40}
NOW = {"threads": 2, "gpu": "H100", "libraries": {"torch": "2"}, "git_commit": None}


def test_places_and_software_are_told_with_both_values() -> None:
    sides = ("then", "now")
    assert differing(THEN, NOW, ("threads", "gpu"), sides) == ["gpu none then, H100 now"]
    assert differing_software(THEN, NOW, sides) == [
        "peft 3 then, none now",
        "torch 1 then, 2 now",
        f"this program at {'a' * 12} then, none now",
    ]
    assert differing_software(THEN, THEN, sides) == [] and differing_software({}, {}, sides) == []
