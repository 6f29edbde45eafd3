"""What a user feels: LoRA, prefix tuning and full fine-tuning with three seeds, here and in a plain script.

    python benchmarks/against_trainer.py [--rounds 1] [--steps 60]

The plain script is what a careful person writes over the Hugging Face Trainer and the PEFT library: the same model, data,
split, truncation, batch size, steps, learning rates, ranks and lengths, and one scoring of the test split, in one process
that reads the data once. It runs at the Trainer's defaults (float32) and at our data type (`bf16=True`). Here it is
`peftbench run`, once with the same work alone and once with all that it measures by default. Rounds alternate.

Goals, where the processor has bfloat16: at most 0.5 of the plain script's wall time at its defaults, 0.9 at our data type.
Needs `pip install peft`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

METHODS = ("lora", "prefix", "full")
SEEDS, BATCH, LENGTH, SCORING_BATCH = 3, 16, 48, 85  # 85 x 48 is the size that peftbench scores in
SAME_WORK = ("--no-baselines", "--latency-grid", "none", "--no-profile")
Accuracies = dict[str, list[float]]


def plain_script(steps: int, bf16: bool) -> Accuracies:
    """Test accuracy by method and seed. The Trainer's defaults, but for what has to be the same."""
    import datasets
    import peft
    import transformers

    from peftbench.models.resolve import resolve_model
    from peftbench.plugins import registry

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    folder = resolve_model("minilm-l6").location
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    splits = registry.get("task", "rotten-tomatoes").target().splits()
    data: dict[str, Any] = {
        name: datasets.Dataset.from_dict({"text": list(splits[name]["text"]), "label": list(splits[name]["label"])})
        .map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=LENGTH), batched=True)
        for name in ("train", "test")
    }  # fmt: skip
    wrap: dict[str, Callable[[Any], Any]] = {
        "lora": lambda model: peft.get_peft_model(
            model,
            peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]),
        ),
        "prefix": lambda model: peft.get_peft_model(
            model,
            peft.PrefixTuningConfig(
                task_type="SEQ_CLS", num_virtual_tokens=16, prefix_projection=True, encoder_hidden_size=512
            ),
        ),
        "full": lambda model: model,
    }
    found: Accuracies = {}
    for method in METHODS:
        for seed in range(SEEDS):
            transformers.set_seed(seed)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
            with tempfile.TemporaryDirectory() as folder_out:
                trainer = transformers.Trainer(
                    model=wrap[method](model),
                    args=transformers.TrainingArguments(
                        output_dir=folder_out,
                        max_steps=steps,
                        per_device_train_batch_size=BATCH,
                        per_device_eval_batch_size=SCORING_BATCH,
                        learning_rate=registry.get("method", method).declared.preset.learning_rate,
                        bf16=bf16,
                        seed=seed,
                        use_cpu=True,
                        report_to="none",
                        disable_tqdm=True,
                    ),
                    train_dataset=data["train"],
                    data_collator=transformers.DataCollatorWithPadding(tokenizer),
                )
                trainer.train()
                predictions = trainer.predict(data["test"])
            right = predictions.predictions.argmax(-1) == predictions.label_ids
            found.setdefault(method, []).append(float(right.mean()))
    return found


def here(steps: int, options: tuple[str, ...]) -> Accuracies:
    """Test accuracy by method and seed, from the records of `peftbench run`."""
    from peftbench.records.store import Store

    with tempfile.TemporaryDirectory() as store:
        command = [
            sys.executable,
            "-m",
            "peftbench",
            "run",
            "--methods",
            ",".join(METHODS),
            "--seeds",
            str(SEEDS),
        ]
        subprocess.run(
            [*command, "--steps", str(steps), "--store", store, *options], check=True, stdout=subprocess.DEVNULL
        )  # fmt: skip
        found: dict[str, dict[int, float]] = {}
        for record in (stored.record for stored in Store(Path(store)).all()):
            if record.run.kind == "training" and record.run.method in METHODS:
                assert record.quality is not None, record.reason
                found.setdefault(record.run.method, {})[record.run.seed] = record.quality["accuracy"]
    return {method: [by_seed[seed] for seed in sorted(by_seed)] for method, by_seed in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--plain", choices=("float32", "bfloat16"), help="the plain script alone")
    asked = parser.parse_args()
    if asked.plain:
        print(json.dumps(plain_script(asked.steps, bf16=asked.plain == "bfloat16")))
        return

    def plain(dtype: str) -> Accuracies:
        command = [sys.executable, __file__, "--plain", dtype, "--steps", str(asked.steps)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        accuracies: Accuracies = json.loads(out.splitlines()[-1])
        return accuracies

    subjects: dict[str, Callable[[], Accuracies]] = {
        "here, the same work": lambda: here(asked.steps, SAME_WORK),
        "plain script at our data type": lambda: plain("bfloat16"),
        "plain script at its defaults": lambda: plain("float32"),
        "here, with all that is measured by default": lambda: here(asked.steps, ()),
    }
    walls: dict[str, list[float]] = {name: [] for name in subjects}
    quality: dict[str, Accuracies] = {}
    for turn in range(asked.rounds):
        for name in sorted(subjects, key=list(subjects).index, reverse=bool(turn % 2)):
            started = time.perf_counter()
            quality[name] = subjects[name]()
            walls[name].append(time.perf_counter() - started)
            print(f"{name}: {walls[name][-1]:.0f} s", file=sys.stderr, flush=True)
    print(f"| {', '.join(METHODS)} x {SEEDS} seeds, {asked.steps} steps | wall s | over defaults (goal 0.5) | "
          f"over our data type (goal 0.9) | {' | '.join(f'{method}, accuracy %' for method in METHODS)} |")  # fmt: skip
    print("|---|---|---|---|" + "---|" * len(METHODS))
    for name, seconds in walls.items():
        ratios = [
            statistics.median(a / b for a, b in zip(seconds, walls[other], strict=True))
            for other in ("plain script at its defaults", "plain script at our data type")
        ]
        scores = [" ".join(f"{score:.1%}"[:-1] for score in quality[name][method]) for method in METHODS]
        print(f"| {name} | {statistics.median(seconds):.0f} | "
              + " | ".join([*(f"{ratio:.2f}" for ratio in ratios), *scores]) + " |")  # fmt: skip
    print(f"\n{asked.rounds} round(s), alternating; accuracy on the test split by seed.")


if __name__ == "__main__":
    main()
