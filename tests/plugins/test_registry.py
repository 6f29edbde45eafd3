"""Names: offered where they are unknown, refused where they are taken."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from peftbench import Claims, Preset, UsageError, method
from peftbench.plugins import registry


@dataclass(frozen=True)
class Twice:
    def inject(self, model: object) -> object: ...


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown method 'lroa'; did you mean 'lora'"):
        registry.get("method", "lroa")


def test_a_name_registered_twice_names_both_places() -> None:
    with pytest.raises(UsageError, match=r"registered twice: .*lora\.py:\d+ and .*test_registry\.py:\d+"):
        method("lora", claims=Claims(), preset=Preset(1.0, source="a test"))(Twice)


def test_a_method_must_be_a_frozen_dataclass_with_inject() -> None:
    with pytest.raises(UsageError, match="frozen=True"):
        method("thawed", claims=Claims(), preset=Preset(1.0, source="a test"))(dataclass(type("T", (), {})))
    with pytest.raises(UsageError, match="has no inject"):
        method("mute", claims=Claims(), preset=Preset(1.0, source="a test"))(
            dataclass(frozen=True)(type("T", (), {}))
        )
