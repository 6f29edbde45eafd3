"""What suites may say, and the line that each mistake gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from peftbench.comparison.suite_file import SuiteFile, built_in, file_of, read_suite, summary
from peftbench.engine.protocol import Device
from peftbench.errors import UsageError
from peftbench.planning.counts import Bases, counts_of
from peftbench.records.runs import Run
from peftbench.tables.literature import published_rows


def written(tmp_path: Path, text: str, name: str = "one.toml") -> SuiteFile:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_suite(tmp_path / name)


GRID = """
methods = "adapter"
seeds = 2
[[method]]
name = "lora:alpha=4"
rank = [4, 16]
targets = ["query+value", "all-linear"]
exclude = [{ rank = 16, targets = "all-linear" }]
lr = [1e-3, 1e-2]
"""


def test_fields_and_rates_make_a_grid(tmp_path: Path) -> None:
    suite = written(tmp_path, GRID)
    assert suite.words == {"seeds": 2}
    assert suite.methods == (
        ("adapter", None),
        ("lora:alpha=4:rank=4:targets=query+value", 1e-3),
        ("lora:alpha=4:rank=4:targets=query+value", 1e-2),
        ("lora:alpha=4:rank=4:targets=all-linear", 1e-3),
        ("lora:alpha=4:rank=4:targets=all-linear", 1e-2),
        ("lora:alpha=4:rank=16:targets=query+value", 1e-3),
        ("lora:alpha=4:rank=16:targets=query+value", 1e-2),
    )


def test_what_stands_here_replaces_what_is_extended(tmp_path: Path) -> None:
    written(tmp_path, GRID + '[[model]]\nname = "tiny-encoder"\nbatch-size = 4\n', "base.toml")
    suite = written(tmp_path, 'extends = "base.toml"\nsteps = 3\nmodel = "tiny-encoder,tiny-decoder"')
    assert suite.words == {"seeds": 2, "steps": 3} and len(suite.methods or ()) == 7
    assert suite.models == ("tiny-encoder", "tiny-decoder")
    assert suite.of_model == {"tiny-encoder": {"batch_size": 4}}
    other = written(tmp_path, 'extends = "base.toml"\n[[method]]\nname = "bitfit"')
    assert other.methods == (("bitfit", None),) and other.models == ("tiny-encoder",)
    assert written(tmp_path, 'extends = "quick"').words["budget"] == "quick"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods = [", "is no TOML: "),
        ("seed = 3", "unknown word 'seed'; did you mean 'seeds'?"),
        ('suite = "quick"', "suite is typed beside the suite, as in --suite"),
        ("dry-run = true", "dry-run is typed beside the suite, as in --dry-run"),
        ("no-profile = true", "no-profile is no word; write profile = false"),
        ("[model]\nname = 'a'", r"model must be a value, not a table; tables stand under \[\[model\]\]"),
        (
            "[[methods]]\nname = 'a'",
            r"methods must be a value, not a table; tables stand under \[\[method\]\]",
        ),
        ("[[models]]\nname = 'a'", r"models must be tables, each under \[\[model\]\]"),
        ("[[method]]\nname = ['a', 'b']", "has one name, not"),
        ("batch-size = 3\nbatch_size = 4", "batch_size is there twice, with a dash and with an underscore"),
        ("methods = 3", "--methods must be a list"),
        ("methods = []", "--methods is empty"),
        (
            'method = "lora"',
            r"method must be tables, each under \[\[method\]\]; names alone stand in methods",
        ),
        ("[method]\nname = 'lora'", r"method must be tables, each under \[\[method\]\]"),
        ("[[method]]\nrank = 4", r'\[\[method\]\] needs a name; write name = "..." under it'),
        ("[[method]]\nname = 'lora'\nrank = []", r"'lora': rank has no value; leave it out"),
        (
            "[[method]]\nname = 'lora'\nrank = [[4]]",
            r"rank must be a number, a text, true or false, not \[4\]",
        ),
        ("[[method]]\nname = 'lora'\nlr = 'x'", "--lr must be a number, not 'x'"),
        ("[[method]]\nname = 'lora'\nlr = -1", "--lr must be above 0"),
        ("[[method]]\nname = 'lora'\nexclude = {rank = 4}", "exclude is a list of tables"),
        (
            "[[method]]\nname = 'lora'\nrank = [4, 8]\nexclude = [{rank = 5}]",
            "leaves out nothing; none of its",
        ),
        ("[[method]]\nname = 'lora'\nrank = 4\nexclude = [{rank = 4}]", "exclude leaves nothing of it"),
        (
            "[[method]]\nname = 'lora'\n"
            + "\n".join(f"{k} = {list(range(100))}" for k in ("rank", "alpha", "dropout")),
            "stands for 1,000,000 settings, above 10,000; leave some out",
        ),
        ("[[model]]\nsteps = 4", r"\[\[model\]\] needs a name"),
        ("[[model]]\nname = 'a'\n[[model]]\nname = 'a'", "is there twice with the name 'a'"),
        ("[[model]]\nname = 'a'\njobs = 2", "jobs is of the whole suite, not of one model"),
        ("[[model]]\nname = 'a'\nmodel = 'b'", "has words for this model, and model = is none of them"),
        ("[[model]]\nname = 'a'\nstepz = 2", "unknown word 'stepz'; did you mean 'steps'"),
        ("[budget]\nsteps = 3", "budget must be a value, not a table"),
        ("[[exclude]]\nseed = 3", r"unknown key of \[\[exclude\]\]: 'seed'"),
        ("[[exclude]]\nmethod = 3", "method must be text, not 3"),
        ("[[exclude]]", r"\[\[exclude\]\] is empty"),
        ("extends = 3", "extends names one suite, not 3"),
        ("extends = 'nosuch'", "unknown suite 'nosuch'"),
        ("extends = 'no.toml'", "there is no suite 'no.toml'"),
        ("extends = 'one.toml'", "extends itself"),
    ],
)
def test_mistakes_are_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as error:
        written(tmp_path, text)
    assert str(error.value).startswith("suite '") and "one.toml" in str(error.value)


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no TOML"):
        read_suite(tmp_path / "one.toml")
    with pytest.raises(UsageError, match="is a folder; name its TOML file"):
        file_of(str(tmp_path))


@pytest.mark.parametrize("name", list(built_in()))
def test_suites_that_come_with_the_program(name: str) -> None:
    """Each says what it is for, and can be read."""
    assert 20 < len(summary(file_of(name))) < 160
    suite = read_suite(file_of(name))
    assert suite.methods and suite.models and "task" in suite.words


def test_the_peft_librarys_settings_train_what_it_published(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Each method on Llama 3.2 3B's shape, which needs no weights, has the count of the published row of its setting."""
    transformers.LlamaConfig(
        hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8, head_dim=128,
        vocab_size=128_256, tie_word_embeddings=True, architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path)  # fmt: skip
    published = {row.method: row.parameters for row in published_rows("peft-metamathqa")}
    of_row = {
        "lora:rank=32:alpha=64": "lora/rank32",
        "lora:rank=64:alpha=128": "lora/rank64",
        "lora:rank=10:alpha=20:targets=ffn_in+ffn_out": "lora/rank10-target-mlp",
        "rslora:rank=64:alpha=64": "lora/rank64-rslora",
        "dora:rank=32:alpha=64": "lora/rank32-dora",
        "lora-fa:rank=32:alpha=64": "lora/rank32-lorafa",
        "ia3": "ia3/lr_0.001",
        "vera:rank=256": "vera/default",
        "full": "full-finetuning/lr_0.00001",
    }
    methods = [name for name, _ in read_suite(file_of("peft-mc")).methods or ()]
    assert methods == list(of_row)
    bases, device = Bases(), Device("cpu", 1, 2**40, False)
    for name in methods:
        counts = counts_of(make_run(name, str(tmp_path), kind="latency"), device, bases)
        head = 2 * 3072 if name == "full" else 0  # of two classes, which a model without a task gets
        assert f"{(counts.adapter or 0) - head:,}" == published[of_row[name]], name
