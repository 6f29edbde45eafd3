"""Energy counters: read right, or not at all."""

from __future__ import annotations

from pathlib import Path

from peftbench.measure import energy


def test_energy_is_read_from_counters_that_wrap_or_not_at_all(tmp_path: Path) -> None:
    zones = [tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1", tmp_path / "intel-rapl:0:0"]
    for zone, start in zip(zones, (1_000_000, 9_000_000, 5), strict=True):
        zone.mkdir()
        (zone / "energy_uj").write_text(str(start))
        (zone / "max_energy_range_uj").write_text("10000000")
    meter = energy.EnergyMeter("cpu", tmp_path)
    (zones[0] / "energy_uj").write_text("3000000")  # 2 J
    (zones[1] / "energy_uj").write_text("1000000")  # 2 J, over the end of its range
    (zones[2] / "energy_uj").write_text("999999")  # a part of the first, in it already
    with meter.paused():
        (zones[0] / "energy_uj").write_text("8000000")  # somebody else's
    assert meter.used() == energy.Energy("RAPL packages", 4.0)
    assert energy.EnergyMeter("cpu", tmp_path / "nothing").used() == energy.Energy(None, None)
    (zones[0] / "energy_uj").unlink()
    assert energy.EnergyMeter("cpu", tmp_path).used().energy_j is None  # half of a sum is not a sum
