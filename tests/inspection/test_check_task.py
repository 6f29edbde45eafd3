"""`peftbench check` of tasks: every built-in that is at hand passes, and each check fails on a task that breaks it."""

from __future__ import annotations

import hashlib
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.execution.proof import Checked
from peftbench.inspection.check_method import check_file
from peftbench.inspection.check_task import check_task
from peftbench.render.checks import ADVICE, checks_text

from ..support.commands import peftbench

TASK = """
import random
import datasets
from dataclasses import dataclass, replace
from peftbench import Choice, Classification, Completion, Regression, task

CALLS = []

@task("{name}", version="1")
@dataclass(frozen=True)
class Broken:
    \"\"\"A task for a test.\"\"\"

    @property
    def objective(self):
        return {objective}

    def fingerprint(self):
        return "1"

    def splits(self):
        CALLS.append(1)
        def rows(split, start, count):
            return [dict({row}) for i in range(start, start + count)]
        made = {{s: rows(s, 1000 * k, n) for k, (s, n) in enumerate((("train", 60), ("validation", 20), ("test", 40)))}}
        {change}
        return {{s: datasets.Dataset.from_list(r) for s, r in made.items()}}
"""

LABELS = "Classification(('no', 'yes'))"
ROW = "text=f't{i}', label=i % 2"
TEXTS = "source=f's{i}', target=f'the word {i} stands here {i * 7}'"

OPTIONS = "question=f'case {i}', choices=[f'no {i}', 'yes', 'who knows'], answer=i % 3"
JUDGED = "'judge': lambda *of: (lambda f: {})(Choice.judge(*of))"
WRITES = "Completion(('chrf',))"
OWN = "'wanted': lambda *of: Completion.wanted(*of), 'loss': lambda *of: {}, 'predict': lambda *of: {}"

# objective, row, what is changed, the check that fails
BAD = {
    "a column lacks": (LABELS, "words=f't{i}', label=i % 2", "pass", "columns"),
    "an empty split": (LABELS, ROW, "made['validation'] = []", "columns"),
    "another one each time": (LABELS, "text=f't{i} {len(CALLS)}', label=i % 2", "pass", "same again"),
    "an answer out of its options": ("Choice()", OPTIONS.replace("i % 3", "i % 4"), "pass", "labels"),
    "trained on the test": (LABELS, ROW, "made['test'][:4] = made['train'][:4]", "disjoint"),
    "cut inside groups": (LABELS, ROW + ", group=str(i % 10)", "pass", "disjoint"),
    "a label too many": (LABELS, ROW, "made['test'][3]['label'] = 2", "labels"),
    "a label that nobody has": ("Classification(('a', 'b', 'c'))", ROW, "pass", "labels"),
    "no number": ("Regression()", "text=f't{i}', label=float(i)", "made['train'][3]['label'] = float('nan')", "labels"),
    "one number": ("Regression()", "text=f't{i}', label=1.0", "pass", "labels"),
    "an empty target": ("Completion()", TEXTS, "made['train'][3]['target'] = ' '", "labels"),
    "a script that the metric does not read": ("Completion(('rouge_l',))", "source=f's{i}', target='слово ' * (i % 7 + 1)", "pass", "perfect"),
    "one answer to all": ("Completion(('chrf',))", "source=f's{i}', target='the same'", "pass", "shuffled"),
}  # fmt: skip
GOOD = {
    "labels": (LABELS, ROW, "pass"),
    "numbers": ("Regression()", "text=f't{i}', label=float(i % 17)", "pass"),
    "texts": ("Completion(('bleu', 'ter', 'nist'))", TEXTS, "pass"),
    "options": ("Choice()", OPTIONS, "pass"),
}


def written(folder: Path, name: str, objective: str, row: str, change: str) -> str:
    file = folder / f"{name.replace('-', '_')}.py"
    code = TASK.format(name=name, objective=objective, row=row, change=change)
    file.write_text(textwrap.dedent(code))
    return str(file)


@pytest.mark.parametrize("what", BAD)
def test_a_broken_task_fails_its_check(what: str, tmp_path: Path) -> None:
    objective, row, change, wanted = BAD[what]
    checked = check_file(
        written(tmp_path, "broken-" + what.replace(" ", "-"), objective, row, change), (), tmp_path
    )
    assert {one.name for one in checked if one.outcome == "fail"} == {wanted}, checked
    assert ADVICE[wanted] in checks_text([one.__dict__ for one in checked])


@pytest.mark.parametrize("what", GOOD)
def test_a_sound_task_passes(what: str, tmp_path: Path) -> None:
    checked = check_file(written(tmp_path, "sound-" + what, *GOOD[what]), (), tmp_path)
    assert {one.outcome for one in checked} == {"pass"} and len(checked) == 7, checked


@pytest.mark.parametrize(
    ("base", "body", "row", "said"),
    [
        (LABELS, "'loss': lambda *of: Classification.loss(*of) * len(of[1])", ROW, "by their own losses and weight()"),
        (LABELS, "'weight': lambda self, batch: 1 + int(batch['labels'][0])", ROW, "weight(): it must be their mean"),
        (WRITES, OWN.format("Completion.loss(*of) * 2", "Completion.predict(*of)"), TEXTS, "a run trains the latter"),
        (WRITES, OWN.format("Completion.loss(*of)", "{'nll': Completion.predict(*of)['nll'] + .1}"), TEXTS, "a run reports the latter"),
        (WRITES, OWN.replace("Completion.wanted(*of)", "Completion.wanted(*of)[:, 1:]").format("Completion.loss(*of)", "Completion.predict(*of)"),
         TEXTS, "for each place"),
    ],
)  # fmt: skip
def test_a_loss_that_is_another_one_elsewhere_fails(
    base: str, body: str, row: str, said: str, tmp_path: Path
) -> None:
    """What a run trains in parts, or a few tokens at a time, is what `loss` says of the whole."""
    name, arguments = base.split("(", 1)
    objective = f"type('Own', ({name},), {{{body}}})({arguments}"
    checked = check_file(
        written(tmp_path, "own-" + "".join(filter(str.isalpha, said)), objective, row, "pass"), (), tmp_path
    )
    failed = [one for one in checked if one.outcome == "fail"]
    assert [one.name for one in failed] == ["model"] and said in failed[0].detail, checked


ENCODED = (
    "'encode': lambda self, tokenizer, rows, length: (lambda f: {})({}.encode(self, tokenizer, rows, {}))"
)
LONG = "text=f't{i} ' + 'word ' * (i % 30), label=i % 2"


@pytest.mark.parametrize(
    ("base", "body", "row", "said"),
    [
        (LABELS, "'predict': lambda *of: (lambda f: {**f, 'prediction': f['reference']})(Classification.predict(*of))", ROW, "reads the answers"),
        (LABELS, "'predict': lambda *of: (lambda f: {**f, 'score': -f['nll']})(Classification.predict(*of))", ROW, "the interval of the other"),
        ("Choice()", "'predict': lambda *of: Choice.predict(*of)", OPTIONS, "it judges options, which needs a loss by token"),
        ("Choice()", JUDGED.format("{**f, 'score': f['score'] * 0 + 2}"), OPTIONS, "the interval of the other"),
        ("Choice()", JUDGED.format("{k: v for k, v in f.items() if k != 'reference'}"), OPTIONS, "predict() gives no 'reference'"),
        ("Choice()", JUDGED.format("{**f, 'nll': f['nll'] + 1}"), OPTIONS, "a run reports the latter"),
        (LABELS, ENCODED.format("{k: v[1:] for k, v in f.items()}", "Classification", "length"), ROW, "59 items of 60 rows"),
        (LABELS, ENCODED.format("f", "Classification", "10**6"), LONG, "tokens where it may have 48"),
        (LABELS, ENCODED.format("{**f, 'input_ids': [its + [0] * (48 - len(its)) for its in f['input_ids']]}", "Classification", "length"), LONG, "leave padding out"),
        (WRITES, ENCODED.format("{**f, 'labels': [its[1:] + [-100] for its in f['labels']]}", "Completion", "length"), TEXTS, "labels are shifted once"),
        (WRITES, ENCODED.format("{**f, 'source_tokens': [len(its) for its in f['input_ids']]}", "Completion", "length"), TEXTS, "would be shown its answer"),
        (WRITES, ENCODED.format("{**f, 'labels': [[*its] for its in f['input_ids']]}", "Completion", "length"), TEXTS, None),  # the source too
        ("Regression()", ENCODED.format("{**f, 'attention_mask': [[1] * len(its) for its in f['input_ids']]}", "Regression", "length"), "text=f't{i}', label=float(i % 17)", None),
    ],
)  # fmt: skip
def test_items_and_predictions_that_no_run_may_be_given(
    base: str, body: str, row: str, said: str | None, tmp_path: Path
) -> None:
    """What the libraries' tutorials do, or a slip of the pen, and two plugins that are unusual and right."""
    name, arguments = base.split("(", 1)
    objective = f"type('Own', ({name},), {{{body}}})({arguments}"
    plugin = "given-" + hashlib.sha256(body.encode()).hexdigest()[:8]
    checked = check_file(written(tmp_path, plugin, objective, row, "pass"), (), tmp_path)
    failed = [one for one in checked if one.outcome == "fail"]
    assert [one.name for one in failed] == ([] if said is None else ["model"]), checked
    assert said is None or said in failed[0].detail


def test_predictions_that_are_not_one_an_item_fail(tmp_path: Path) -> None:
    """A whole run would end in them."""
    mean = "type('Mean', (Classification,), {'predict': lambda *of: {**Classification.predict(*of), 'nll': 0.7}})(('no', 'yes'))"
    checked = check_file(written(tmp_path, "one-number", mean, ROW, "pass"), (), tmp_path)
    failed = [one for one in checked if one.outcome == "fail"]
    assert [one.name for one in failed] == ["model"] and "gives 'nll' in shape ()" in failed[0].detail, (
        checked
    )


def test_a_metric_beside_the_primary_one_that_misses_is_a_notice(tmp_path: Path) -> None:
    """BLEU of answers of one word is 0 for themselves; exact match is not to blame."""
    objective = "Completion(('exact_match', 'bleu'))"
    row = "source=f's{i}', target=f'w{i % 9}'"
    checked = check_file(written(tmp_path, "short-answers", objective, row, "pass"), (), tmp_path)
    assert {one.name: one.outcome for one in checked}["perfect"] == "notice"
    assert not [one for one in checked if one.outcome == "fail"]


def test_chance_is_off_where_a_metric_leaks_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric that looks at something else than the pairs is caught: here one that counts matches of sorted labels."""
    from peftbench.objectives.item_metrics import ITEM_METRICS, Values

    def leaks(predictions: Values, references: Values) -> float:
        return float((sorted(predictions) == sorted(references)) or (predictions == references).mean())

    monkeypatch.setitem(ITEM_METRICS, "accuracy", replace(ITEM_METRICS["accuracy"], formula=leaks))
    assert {one.name for one in check_task("synthetic") if one.outcome == "fail"} == {"shuffled"}


def test_every_notice_of_a_task_is_told() -> None:
    told = [Checked("shouting", "", "data", "notice", said).__dict__ for said in ("cut here", "not for sale")]
    assert checks_text(told).splitlines()[1:3] == [
        "  notice        data: cut here",
        "  notice        data: not for sale",
    ]


def test_check_of_a_task_from_the_command_line(tmp_path: Path) -> None:
    good = peftbench("check", "synthetic", cwd=tmp_path)
    assert good.returncode == 0 and "pass          labels: 2 labels" in good.stdout, good.stderr
    bad = peftbench(
        "check", written(tmp_path, "leaky", LABELS, ROW, "made['test'] = made['train']"), cwd=tmp_path
    )
    assert bad.returncode == 1 and "fail          disjoint: 60 of 60 test rows" in bad.stdout, bad.stderr
    gone = peftbench("check", "csv:path=none.csv", cwd=tmp_path)
    assert gone.returncode == 2 and gone.stderr == "peftbench: data file 'none.csv' does not exist\n"
    with pytest.raises(UsageError, match="unknown method or task 'syntetic'; did you mean 'synthetic'"):
        check_file("syntetic", (), tmp_path)
