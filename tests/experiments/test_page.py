"""The LoRA paper's experiments: verdicts that can come out each way, pages, and the counts of its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from peftbench.reports.paper import _measured, claims

from peftbench.cli.app import main
from peftbench.experiments.html import page_html
from peftbench.experiments.markdown import page_markdown
from peftbench.experiments.page import (
    CONFIRMED,
    CONTRADICTED,
    NOT_TESTABLE,
    UNDECIDED,
    Page,
    PageTable,
    Statement,
    above,
    exactly,
    inside,
    verdicts_of,
)
from peftbench.render.columns import Cell
from peftbench.stats.estimate import Estimate, Part


def statement(p_true: float | None, p_false: float | None) -> Statement:
    return Statement("it is so", "if it is", "seen", p_true, p_false)


def verdict(sides: tuple[float | None, float | None]) -> str:
    return verdicts_of([statement(*sides)])[0]


def test_a_mean_above_a_limit_comes_out_each_way() -> None:
    """A mean with a standard error of .1 and 4 degrees of freedom: 2.78 errors are a two-sided 5 %."""
    for value, said in ((1.3, CONFIRMED), (1.27, UNDECIDED), (0.73, UNDECIDED), (0.7, CONTRADICTED)):
        assert verdict(above(Estimate(value, (Part(0.01, 4.0),), 5), 1.0)) == said
    assert verdict(above(Estimate(5.0, None, 1), 1.0)) == NOT_TESTABLE


def test_a_mean_inside_a_margin_comes_out_each_way() -> None:
    for value, said in (
        (0.0, CONFIRMED),
        (0.9, UNDECIDED),
        (-0.9, UNDECIDED),
        (1.5, CONTRADICTED),
        (-1.5, CONTRADICTED),
    ):
        assert verdict(inside(Estimate(value, (Part(0.01, 4.0),), 5), 1.0)) == said
    assert verdict(inside(Estimate(0.0, (Part(4.0, 4.0),), 5), 1.0)) == UNDECIDED  # nothing is known
    # 2.13 errors are a two-sided 10 %, the interval of equivalence: .787 + .213 touches the margin.
    assert [verdict(inside(Estimate(v, (Part(0.01, 4.0),), 5), 1.0)) for v in (0.78, 0.79)] == [
        CONFIRMED,
        UNDECIDED,
    ]
    assert verdict(inside(Estimate(0.0, None, 1), 1.0)) == NOT_TESTABLE


def test_the_correction_is_over_all_statements_of_a_page() -> None:
    alone, others = statement(0.02, 0.98), [statement(0.3, 0.7)] * 3
    assert verdicts_of([alone]) == [CONFIRMED]
    assert verdicts_of([alone, *others]) == [UNDECIDED] * 4
    assert verdicts_of([statement(None, None), alone]) == [
        NOT_TESTABLE,
        CONFIRMED,
    ]  # what is not tested costs nothing
    assert [verdict(exactly(true)) for true in (True, False)] == [CONFIRMED, CONTRADICTED]


def test_a_page_as_text() -> None:
    page = Page(
        "A | page <b>",
        "On this machine.",
        (PageTable("Figures", ("a", "b|c"), ((Cell("x|y"), Cell("1")),)),),
        (statement(0.0, 1.0), statement(1.0, 0.0), statement(None, None)),
        ("another model",),
    )
    text = page_markdown(page)
    assert text.startswith(
        "# A | page &lt;b>\n\nOn this machine.\n\nDiffers from the paper:\n\n- another model"
    )
    assert "x\\|y" in text and "b\\|c" in text
    assert "| confirmed " in text and "**contradicted**" in text and "not testable here" in text
    web = page_html(page)
    assert "<title>A | page &lt;b&gt;</title>" in web and "<b>" not in web
    assert '<span class="contradicted">contradicted</span>' in web and web.count("<table>") == 2
    assert "<li>another model</li>" in web and "http://" not in web and "https://" not in web


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("lora:rank=4:targets=query+value", 18_874_368),
        ("lora:rank=64:targets=query+key+value+attention_output", 603_979_776),
        ("adapter-h:bottleneck=16", 77_859_840),
        ("prefix-embed:prefix=256:infix=8", 3_244_032),
        ("prefix-layer:prefix=8:infix=8", 18_874_368),
        ("lora-prefix-layer:rank=8:prefix=8:infix=4", 51_904_512),
    ],
)
def test_counts_at_175_billion_are_the_formulas(text: str, trained: int) -> None:
    """Section 5.1: 2 r (in + out) a matrix pair, 2 (2 d r + r + d) a block, d (l_p + l_i), L d (l_p + l_i)."""
    assert claims.count(text) == (trained, 174_604_259_328)


def test_statements_of_the_claims_come_out_each_way() -> None:
    good = [claims.Counted("lora:rank=4", "18.8M", 18_874_368)]
    bad = [claims.Counted("lora:rank=4", "18.8M", 19_874_368)]
    total = 174_604_259_328
    assert [verdicts_of(claims._of_parameters(rows, total, 18_874_368))[0] for rows in (good, bad)] == [
        CONFIRMED,
        CONTRADICTED,
    ]
    assert [verdicts_of(claims._of_parameters(good, total, n))[1] for n in (18_874_368, 188_743_680)] == [
        CONFIRMED,
        CONTRADICTED,
    ]
    assert verdicts_of(claims._of_bytes(total, 18_874_368)) == [CONFIRMED, CONFIRMED]
    assert verdicts_of(claims._of_bytes(total, total // 4)) == [CONTRADICTED, CONTRADICTED]


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: object
) -> None:
    """Memory is counted in bytes, the same each time; verdicts on times of a tiny model may be any, and are left out."""
    tiny = _measured.Setting("tiny-fused", ((1, 8),), ((1, 8),), 1, 2)
    for module in (claims, _measured):
        monkeypatch.setattr(module, "SETTINGS", {"cpu": tiny})
    monkeypatch.setattr(claims, "passes_statements", lambda timed, lora: [])
    monkeypatch.setattr(claims, "PRINTED", ((claims.FULL, "175,255.8M"), (claims.LORA, "18.8M")))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["paper", *arguments, "--store", str(tmp_path / "runs")])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    status, out, err = run("claims", "--strict")
    assert status == 0 and "| lora:rank=4:targets=query+value" in out and "counting full" in err
    assert "a training step of full at 1x8: ok" in err and "| lora:rank=4 merged" in out
    monkeypatch.setattr(claims, "PRINTED", ((claims.FULL, "175,255.8M"), (claims.LORA, "28.8M")))
    assert run("claims", "--quiet")[0] == 0
    status, out, err = run("claims", "--quiet", "--strict", "--out", str(tmp_path / "pages"))
    assert (
        status == 1
        and not out
        and not err
        and "**contradicted**" in (tmp_path / "pages" / "claims.md").read_text()
    )
    assert '<span class="contradicted">' in (tmp_path / "pages" / "claims.html").read_text()
    status, out, _ = run("list")
    assert status == 0 and out.startswith("claims ")
    for wrong, said in (
        (["clams"], "did you mean 'claims'? (peftbench paper list)"),
        (["claims", "--scale", "big"], "known: cpu, full, small"),
        (["claims", "--out", f"{tmp_path}/pages/claims.md/below"], "can't be made: Not a directory"),
    ):
        status, out, err = run(*wrong)
        assert status == 2 and said in err and err.count("\n") == 1
