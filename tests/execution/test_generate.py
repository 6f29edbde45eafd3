"""Tasks of writing: what the tokens are, that the loss is on the target alone, and what is written and scored."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from peftbench import Classification, Completion, Decoding, NotSupported, UsageError
from peftbench.data import published
from peftbench.execution import batches
from peftbench.execution.execute import execute
from peftbench.execution.finite import Diverged
from peftbench.execution.generate import Written, generate, sources_of
from peftbench.execution.text_room import TextRoom
from peftbench.execution.train import accelerator_for
from peftbench.models.load import decoder_start, load_model
from peftbench.models.resolve import resolve_model
from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.figures import figures
from peftbench.objectives.jackknife import pseudo_values
from peftbench.plugins import build
from peftbench.records.runs import Budget, Conditions

Of = Callable[[str], str]
ROWS = {"source": ["ab", "c"], "target": ["x", "yz"]}
END = 3  # [SEP], the byte tokenizer's
ROOM = TextRoom(4096, by_longest_of_all=True)


def ids(text: str) -> list[int]:
    found: list[int] = byte_tokenizer()(text, add_special_tokens=False)["input_ids"]
    return found


def encoded(objective: Completion, rows: dict[str, list[str]], key: str, length: int = 32) -> batches.Encoded:
    import datasets

    splits = dict.fromkeys(("train", "validation", "test"), datasets.Dataset.from_dict(rows))
    return batches.encode_splits("t", objective, lambda: splits, byte_tokenizer(), length, key)["test"]


def test_a_decoder_reads_source_end_target_end() -> None:
    """The LoRA paper's layout; places without a label are left out of the loss."""
    found = Completion().encode(byte_tokenizer(), ROWS, 32)
    start = byte_tokenizer()("ab")["input_ids"][0]
    assert found["input_ids"][0] == [start, *ids("ab"), END, *ids(" x"), END]
    assert found["labels"][0] == [-100] * 4 + [*ids(" x"), END]
    assert found["source_tokens"] == [4, 3]


def test_an_encoder_decoder_reads_the_source_and_writes_the_target() -> None:
    found = Completion(decoder_start=0).encode(byte_tokenizer(), ROWS, 32)
    assert found["input_ids"][1][-2:] == [*ids("c"), END] and found["labels"][1] == [*ids("yz"), END]
    assert found["decoder_input_ids"][1] == [0, *ids("yz")]


def test_what_is_too_long_loses_the_beginning_of_its_source() -> None:
    rows = {"source": ["abcdefgh"], "target": ["xy"]}
    found = Completion().encode(byte_tokenizer(), rows, 8)
    assert found["input_ids"][0] == [*ids("fgh"), END, *ids(" xy"), END]
    start = Completion(keeps="start").encode(byte_tokenizer(), rows, 8)
    assert start["input_ids"][0] == [*byte_tokenizer()("abcdefgh")["input_ids"][:3], END, *ids(" xy"), END]
    both = Completion(keeps="start", decoder_start=0).encode(byte_tokenizer(), rows, 5)
    assert both["input_ids"][0] == [*byte_tokenizer()("abcdefgh")["input_ids"][:4], END]
    long = Completion().encode(byte_tokenizer(), {"source": ["ab"], "target": ["x" * 20]}, 8)
    assert long["input_ids"][0] == [*byte_tokenizer()("ab")["input_ids"][:3], END, *ids(" xxx")]


@pytest.mark.parametrize("start", [None, 0])
def test_what_is_asked_depends_on_the_source_alone(start: int | None) -> None:
    """Nobody has the answer's length who asks; a source is cut to what the writing leaves, or to half."""
    objective = Completion(decoding=Decoding(max_new_tokens=8), decoder_start=start)
    for source in ("ab", "one 0123456789012345678901234567890123456789"):
        asked = set()
        for target in ("a", "a" * 30, "a" * 90):
            found = objective.encode(byte_tokenizer(), {"source": [source], "target": [target]}, 32)
            ends = found.get("source_tokens", [None])[0]
            asked.add(tuple(found["input_ids"][0][:ends]))
        assert len(asked) == 1
        assert len(asked.pop()) == min(len(source) + 2, 24 if start is None else 32)


def test_what_is_lost_of_targets_and_sources_is_told() -> None:
    tokenizer = byte_tokenizer()
    rows = {"source": ["q", "q", "q" * 40, "q"], "target": ["a", "a" * 40, "a", f"b{tokenizer.sep_token}c"]}
    objective = Completion(decoding=Decoding(max_new_tokens=8))
    split = encoded(objective, rows, "told")
    assert split.counted["cut"].tolist() == [0, 0, 1, 0]
    assert split.counted["unended"].tolist() == [0, 1, 0, 0]
    assert split.counted["unwritten"].tolist() == [0, 0, 0, 1]
    assert split.counted["stopped"].tolist() == [
        0,
        1,
        0,
        0,
    ]  # whole in training, and never whole in what is written
    assert not split.counted["unread"].any()
    foreign = {
        "source": ["q"] * 3,
        "target": ["Москва 7", "東京", "Café 7"],
    }  # ROUGE would say 0 of the second for itself
    assert encoded(objective, foreign, "read").counted["unread"].tolist() == [1, 1, 0]
    by_letters = Completion(("chrf",), decoding=Decoding(max_new_tokens=8))
    assert not encoded(by_letters, foreign, "read by letters").counted["unread"].any()
    said = batches.told(objective, {"train": split, "test": split.some(np.array([0, 1]))})
    assert len(said) == 4 and "more than the 8 tokens (max_new_tokens)" in said[3]
    assert "1 of 4 train, 1 of 2 test items have a target" in said[1] and "loses its end" in said[1]
    assert batches.told(objective, {"test": split.some(np.array([0]))}) == []


@pytest.mark.parametrize(("start", "least"), [(None, 4), (0, 2)])
def test_too_few_tokens_for_source_and_target_are_refused(start: int | None, least: int) -> None:
    objective = Completion(decoder_start=start)
    found = objective.encode(byte_tokenizer(), ROWS, least)
    assert all(label != -100 for row in found["labels"] for label in row[-1:])
    with pytest.raises(UsageError, match=f"--max-length {least - 1}: .* ask for {least} tokens or more"):
        objective.encode(byte_tokenizer(), ROWS, least - 1)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_writing_follows_the_run_and_not_the_checkpoints_defaults(family: str, checkpoint: Of) -> None:
    """The library would fill what is not set from the model's generation config."""
    source = resolve_model(checkpoint(family))
    objective = Completion(decoder_start=decoder_start(source))
    loaded = load_model(source, objective, 0)
    model: Any = loaded.model
    sources = sources_of(encoded(objective, ROWS, f"config-{family}"), np.arange(2))

    def written() -> list[str]:
        decoding = Decoding(max_new_tokens=5)
        return generate(
            model, loaded.tokenizer, sources, decoding, accelerator_for("cpu", "float32"), ROOM
        ).texts

    plain = written()
    asked = {"repetition_penalty": 5.0, "min_new_tokens": 4, "suppress_tokens": list(range(40, 120))}
    for name, value in asked.items():
        setattr(model.generation_config, name, value)
    assert written() == plain
    assert model.generation_config.repetition_penalty == 5.0


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_what_stands_in_the_source_may_be_written(family: str, checkpoint: Of) -> None:
    """The library would count a decoder's source among what was written, so that no name of four tokens could be copied."""
    source = resolve_model(checkpoint(family))
    objective = Completion(decoder_start=decoder_start(source))
    loaded = load_model(source, objective, 0)
    model: Any = loaded.model
    rows = {"source": ["".join(map(chr, range(32, 127)))], "target": ["x"]}  # every token that may be written
    sources = sources_of(encoded(objective, rows, f"copy-{family}", 128), np.arange(1))
    decoding = Decoding(max_new_tokens=6, no_repeat_ngram=1)
    [said] = generate(
        model, loaded.tokenizer, sources, decoding, accelerator_for("cpu", "float32"), ROOM
    ).texts
    asked = torch.from_numpy(sources.lists["input_ids"].values.astype(np.int64))[None]
    written: list[int] = []
    while len(written) < 6 and END not in written:
        if objective.decoder_start is None:
            logits = model(torch.cat([asked, torch.tensor([written], dtype=torch.int64)], 1)).logits
        else:
            begun = torch.tensor([[objective.decoder_start, *written]])
            logits = model(input_ids=asked, decoder_input_ids=begun).logits
        ranked = logits[0, -1].argsort(descending=True).tolist()
        written.append(next(token for token in ranked if token not in written))
    assert said == loaded.tokenizer.decode(written, skip_special_tokens=True).strip()


def test_a_decoder_begins_alike_in_training_and_in_writing(checkpoint: Of, tmp_path: Path) -> None:
    """Where its config does not say with what, that is the padding token: the library would train so, and not write."""
    folder = shutil.copytree(checkpoint("t5"), tmp_path / "t5")
    file = folder / "config.json"
    said = {k: v for k, v in json.loads(file.read_text()).items() if k != "decoder_start_token_id"}
    file.write_text(json.dumps(said))
    for objective in (Completion(), Classification(("a", "b"))):
        source = resolve_model(str(folder))
        model: Any = load_model(source, objective, 0).model
        assert model.config.decoder_start_token_id == decoder_start(source) == said["pad_token_id"]


def test_nothing_is_written_from_what_is_no_number(checkpoint: Of) -> None:
    source = resolve_model(checkpoint("llama"))
    loaded = load_model(source, Completion(), 0)
    sources = sources_of(encoded(Completion(), ROWS, "nan"), np.arange(2))
    next(loaded.model.parameters()).data.fill_(torch.nan)
    with pytest.raises(Diverged, match="outputs are not numbers"):
        generate(loaded.model, loaded.tokenizer, sources, Decoding(), accelerator_for("cpu", "float32"), ROOM)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_the_loss_is_the_librarys_own(family: str, checkpoint: Of) -> None:
    source = resolve_model(checkpoint(family))
    objective = Completion(decoder_start=decoder_start(source))
    loaded = load_model(source, objective, 0)
    assert not loaded.head
    split = encoded(objective, ROWS, f"loss-{family}")
    pad = batches.padding(loaded.tokenizer)
    batch = batches.collate(split, np.arange(2), pad, torch.device("cpu"))
    model: Any = loaded.model
    logits = model(**batches.inputs_of(batch)).logits
    theirs = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).loss
    # Targets with their ends; behind a decoder's source they begin with a space.
    assert objective.weight(batch) == (5 if family == "t5" else 7)
    torch.testing.assert_close(objective.loss(logits, batch), theirs, rtol=1e-5, atol=1e-5)
    each = objective.predict(logits, batch)["nll"]
    tokens = (batch["labels"] != -100).sum(1).numpy()
    assert (each * tokens).sum() / tokens.sum() == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_writes_what_each_source_writes_alone(family: str, beams: int, checkpoint: Of) -> None:
    source = resolve_model(checkpoint(family))
    objective = Completion(decoder_start=decoder_start(source))
    loaded = load_model(source, objective, 0)
    rows = {"source": ["ab", "cdefgh", "ijk"], "target": ["x", "y", "z"]}
    sources = sources_of(encoded(objective, rows, f"write-{family}"), np.arange(3))
    decoding = Decoding(beams, max_new_tokens=5)
    accelerator = accelerator_for("cpu", "float32")
    together = generate(loaded.model, loaded.tokenizer, sources, decoding, accelerator, ROOM).texts
    alone = generate(loaded.model, loaded.tokenizer, sources, decoding, accelerator, TextRoom(1)).texts
    assert together == alone and len(set(together)) > 1
    if beams == 1:
        model: Any = loaded.model
        first = torch.from_numpy(sources.some(np.array([1])).lists["input_ids"].values.astype(np.int64))[None]
        made = model.generate(first, max_new_tokens=5, do_sample=False, eos_token_id=END, pad_token_id=0)
        new = made[0, first.shape[1] :] if family != "t5" else made[0]
        said = loaded.tokenizer.decode(new, skip_special_tokens=True)
        assert said.strip() == together[1]


def test_what_there_is_no_memory_for_is_written_in_halves(
    checkpoint: Of, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(resolve_model(checkpoint("llama")), Completion(), 0)
    model: Any = loaded.model
    rows = {"source": ["ab" * n for n in range(8, 0, -1)], "target": ["x"] * 8}
    sources = sources_of(encoded(Completion(), rows, "halves"), np.arange(8))
    decoding = Decoding(max_new_tokens=5)

    def written() -> Written:
        return generate(model, loaded.tokenizer, sources, decoding, accelerator_for("cpu", "float32"), ROOM)

    whole, given, most = written(), model.generate, 3

    def short_of_memory(**batch: Any) -> Any:
        if len(batch["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return given(**batch)

    monkeypatch.setattr(model, "generate", short_of_memory)
    halves = written()
    assert (whole.batches, whole.largest_batch, whole.halved) == (1, 8, 0)
    assert (halves.batches, halves.largest_batch, halves.halved) == (4, 2, 2)
    assert halves.texts == whole.texts
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        written()


def test_it_stops_at_each_of_the_ends_that_the_checkpoint_lists(checkpoint: Of) -> None:
    loaded = load_model(resolve_model(checkpoint("llama")), Completion(), 0)
    model: Any = loaded.model
    sources = sources_of(encoded(Completion(), ROWS, "ends"), np.arange(1))
    accelerator = accelerator_for("cpu", "float32")

    def written(ends: int | list[int]) -> str:
        model.generation_config.eos_token_id = ends
        [text] = generate(
            model, loaded.tokenizer, sources, Decoding(max_new_tokens=5), accelerator, ROOM
        ).texts
        return text

    plain = written(END)
    (second,) = set(ids(plain[1])) - set(ids(plain[0]))
    assert written([second, END]) == plain[0] and written([second]) == plain
    named = generate(
        model, loaded.tokenizer, sources, Decoding(max_new_tokens=5), accelerator, ROOM, [second]
    )
    assert named.texts == [plain[0]]


def test_an_encoder_does_not_write(checkpoint: Of) -> None:
    with pytest.raises(NotSupported, match="does not generate text; this task needs a decoder"):
        load_model(resolve_model(checkpoint("bert")), Completion(), 0)


def test_subsets_and_jackknife_look_at_each_text_once() -> None:
    objective = Completion(("bleu", "rouge_l", "cider"))
    words = ["the", "cat", "sat", "on", "a", "mat", "near", "its", "red", "house"]
    texts = [" ".join(words[i:] + words[:i]) for i in range(8)]
    frame = pd.DataFrame(
        {
            "prediction": texts,
            "reference": [[t, " ".join(reversed(t.split()))][i % 2 :] for i, t in enumerate(texts)],
            "nll": np.arange(8.0),
            "group": list("aabbccdd"),
        }
    )
    quality = figures(objective, frame)
    assert quality == {
        **objective.score(frame["prediction"].to_numpy(), frame["reference"].to_numpy()),
        "nll": 3.5,
    }
    values = pseudo_values(objective, frame, quality)
    kept = frame[frame["group"] != "b"]
    without = objective.score(kept["prediction"].to_numpy(), kept["reference"].to_numpy())
    assert values["rouge_l"][1] == pytest.approx(4 * quality["rouge_l"] - 3 * without["rouge_l"])


def test_it_learns_to_write(make_run: Callable[..., Any], tmp_path: Path) -> None:
    """One short answer to several questions: a few steps of full fine-tuning write it, two parts a step as well as one."""
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"q": f"q{i}", "a": "n\no"}) + "\n" for i in range(40)))
    run = make_run(
        "full", "tiny-decoder", task=f"jsonl:path={file}:prompt=q:completion=a:max_new_tokens=6", steps=25
    )
    found = {}
    for parts in (1, 2):
        out = tmp_path / str(parts)
        out.mkdir()
        budget = dataclasses.replace(run.budget, accumulate=parts)
        identity = {**run.identity, "data": str(parts)}
        record = execute(dataclasses.replace(run, budget=budget, identity=identity), out, Conditions())
        assert record.quality is not None and record.training is not None
        assert (
            record.quality["rouge_l"] == 1.0 and record.metric is not None and record.metric["unit"] == "x100"
        )
        assert not [check for check in record.checks or () if check["outcome"] == "fail"]
        found[parts] = record.training["losses"]
    np.testing.assert_allclose(found[1], found[2], rtol=1e-3)
    frame = pd.read_parquet(tmp_path / "1" / "predictions.parquet")
    assert list(frame["prediction"]) == ["n\no"] * len(frame) and list(frame["reference"][0]) == ["n\no"]


def test_an_encoder_decoder_keeps_every_claim(
    make_run: Callable[..., Any], checkpoint: Of, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"q": f"q{i}", "a": "no"}) + "\n" for i in range(40)))
    task = f"jsonl:path={file}:prompt=q:completion=a:max_new_tokens=3"
    record = execute(make_run("lora", checkpoint("t5"), task=task, steps=3), tmp_path, Conditions())
    assert record.quality is not None and record.quality["nll"] > 0
    assert not [check for check in record.checks or () if check["outcome"] == "fail"]


def test_a_trial_does_not_write(make_run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"q": f"q{i}", "a": "no"}) + "\n" for i in range(40)))
    run = make_run(
        "lora", "tiny-fused", task=f"jsonl:path={file}:prompt=q:completion=a", kind="tuning", steps=1
    )
    record = execute(run, tmp_path, Conditions())
    assert record.quality is not None and set(record.quality) == {"nll"}


def test_e2e_is_linearised_and_grouped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "e2e_nlg"
    folder.mkdir()
    for split in ("validation", "test"):
        rows = [
            {
                "meaning_representation": f"name[{split} {i // 3}], eatType[pub], near[A, B]",
                "human_reference": f"It is {i}.",
            }
            for i in range(60)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    splits = build.build_task("e2e-nlg:train=validation:inputs=5").splits()
    assert splits["test"][0]["source"] == "name : test 0 | Type : pub | near : A, B"
    assert len(splits["test"]) == 15 and len(set(splits["test"]["source"])) == 5
    assert (len(splits["train"]), len(splits["validation"])) == (54, 6)
    assert not set(splits["train"]["source"]) & set(splits["validation"]["source"])
    with pytest.raises(UsageError, match="has no train split"):
        build.build_task("e2e-nlg").splits()
    with pytest.raises(UsageError, match="beams and max_new_tokens must be 1 or more"):
        build.build_task("e2e-nlg:beams=0")
    assert Budget("custom", 1, None, 1, 1, build.length_of("e2e-nlg")).max_length == 128
