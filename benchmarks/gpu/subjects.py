"""What takes turns over one base: LoRA and its likes here, in PEFT under a bare loop and under the Trainer, and by hand.

All stand in one process over the very same frozen weights, see the same batches of the same length, and clip and update alike.
Each is what its own users run: here the trainer's own step, in PEFT the library's model and its loss, under the Trainer its own
loop, and by hand the least that PyTorch's parts need: two plain products and the loss over supervised positions alone.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench.comparison.compare import planned_runs
from peftbench.comparison.request import Comparison
from peftbench.engine.named import engine_named
from peftbench.errors import NotSupported
from peftbench.execution.batches import Encoded, IntArray, collate, padding, training_order
from peftbench.execution.packing import room_of
from peftbench.execution.parts import Parts
from peftbench.execution.prepare import encode, inject, load_base, objective_for
from peftbench.execution.train import Stepper, accelerator_for
from peftbench.measure.clock import synchronized_clock
from peftbench.measure.latency import over_shared_weights
from peftbench.models.load import Loaded
from peftbench.models.precision import DTYPES, frozen_in
from peftbench.objectives.base import IGNORED, Objective
from peftbench.plugins.build import build_task
from peftbench.records.runs import Run

RANK, ALPHA, RATE = 8, 16, 1e-4
Batch = dict[str, Tensor]


class Subject(Protocol):
    """Something that trains step by step."""

    trained: int  # parameters

    def step(self) -> float:
        """One optimizer step; its seconds."""


@dataclass(frozen=True)
class Ground:
    """What all subjects share: the base, and the batches of each step."""

    run: Run
    loaded: Loaded
    objective: Objective
    train: Encoded
    items: list[IntArray]  # of each batch
    batches: list[Batch]  # as a library's model takes them
    device: torch.device

    @property
    def tree(self) -> nn.Module:
        """The base once more, over the same weights."""
        return over_shared_weights(self.loaded.model)


def ground(
    methods: Sequence[str],
    model: str,
    task: str,
    shape: tuple[int, int],
    steps: int,
    packing: bool = False,
    weights: str = "auto",
) -> tuple[Ground, dict[str, Run]]:
    """The base and its batches, and a run for each method that can serve it.

    Args:
        shape: items of a batch, and tokens of one; of a packed row, where runs here pack.
        weights: of the base.
    """
    asked = Comparison(
        methods=tuple(methods), models=(model,), tasks=(task,), baselines=False, seeds=1, steps=steps, batch_size=shape[0],
        max_length=shape[1], latency_grid=(), profile=False, packing=packing, weights=weights,
    )  # fmt: skip
    with engine_named("inline") as engine:
        planned = planned_runs(asked, engine, None)
    runs = {item.run.method: item.run for item in planned if item.refusal is None}
    run = next(iter(runs.values()))
    built = build_task(run.task)
    objective = objective_for(run, built)
    loaded = load_base(run, objective, run.device)
    train = encode(run, built, loaded.tokenizer)["train"]
    where = torch.device(run.device)
    items = list(training_order(train.lengths, shape[0], steps, 0))
    batches = [_without_full_mask(collate(train, its, padding(loaded.tokenizer), where)) for its in items]
    return Ground(run, loaded, objective, train, items, batches, where), runs


def _without_full_mask(batch: Batch) -> Batch:
    if bool(batch["attention_mask"].all()):
        del batch["attention_mask"]
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels") if name in batch}


class Here:
    """A method of this project, on the trainer's own step."""

    def __init__(self, on: Ground, run: Run, own_weights: bool, steps: int) -> None:
        """`own_weights`: it trains the base itself, which others share."""
        tree = copy.deepcopy(on.loaded.model) if own_weights else on.tree
        prepared = inject(run, dataclasses.replace(on.loaded, model=tree), run.device)
        prepared.prove_output()
        accelerator = accelerator_for(run.device, run.dtype)
        self.stepper = Stepper(prepared, on.objective, run, steps, accelerator)
        self.model, self.dtype = prepared.adaptation.model.train(), DTYPES[run.dtype]
        self.trained = sum(p.numel() for p in self.stepper.trainable)
        parts = Parts(
            on.train, on.objective, padding(on.loaded.tokenizer), on.device, room=room_of(run, self.model)
        )
        self.batches = itertools.cycle([parts.of(items) for items in on.items])
        self.clock = synchronized_clock(on.device)

    def step(self) -> float:
        batch = next(self.batches)
        with frozen_in(self.model, self.dtype):  # a training run does this once
            started = self.clock()
            self.stepper.step(batch)
            return self.clock() - started


class Loop:
    """A bare loop over a model that gives its own loss."""

    def __init__(self, on: Ground, model: nn.Module, loss_of: Callable[[nn.Module, Batch], Tensor]) -> None:
        self.model, self.loss_of = model.train(), loss_of
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.trained = sum(p.numel() for p in self.trainable)
        self.optimizer = torch.optim.AdamW(self.trainable, lr=RATE, weight_decay=0.0, fused=True)
        self.batches, self.clock = itertools.cycle(on.batches), synchronized_clock(on.device)

    def step(self) -> float:
        batch = next(self.batches)
        started = self.clock()
        self.loss_of(self.model, batch).backward()
        nn.utils.clip_grad_norm_(self.trainable, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.clock() - started


def library_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The library's own, over all positions."""
    loss: Tensor = model(**batch).loss
    return loss


def by_hand(on: Ground) -> Loop:
    """LoRA on query and value as two products, and logits of supervised positions alone."""
    model: Any = on.tree
    for layer in model.model.layers:
        for name in ("q_proj", "v_proj"):
            setattr(layer.self_attn, name, TwoProducts(getattr(layer.self_attn, name)))
    kept = [(batch["labels"][:, 1:] != IGNORED).flatten().nonzero()[:, 0] for batch in on.batches]
    wanted = [batch["labels"][:, 1:].flatten()[k] for batch, k in zip(on.batches, kept, strict=True)]
    turn = itertools.cycle(zip(kept, wanted, strict=True))

    def loss_of(model: Any, batch: Batch) -> Tensor:
        places, tokens = next(turn)
        hidden = model.model(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1].flatten(0, 1)[places])
        return functional.cross_entropy(logits.float(), tokens)

    return Loop(on, model, loss_of)


class TwoProducts(nn.Module):
    """W x + s B A x, as it stands in the paper."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(
            torch.randn(RANK, base.in_features, device=base.weight.device) / base.in_features**0.5
        )
        self.b = nn.Parameter(torch.zeros(base.out_features, RANK, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        out: Tensor = self.base(x)
        return out + (x @ self.a.to(x.dtype).T) @ (self.b.to(x.dtype).T * (ALPHA / RANK))


def in_peft(on: Ground, kind: str) -> nn.Module:
    """A method of the PEFT library over the base."""
    import peft

    configs: dict[str, Callable[[], Any]] = {
        "lora": lambda: peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        "dora": lambda: peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", use_dora=True
        ),
        "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=16, task_type="CAUSAL_LM"),
    }  # fmt: skip
    tree: Any = on.tree
    model: nn.Module = peft.get_peft_model(tree, configs[kind]())
    return model.to(on.device)


class UnderTheTrainer:
    """LoRA of the PEFT library in `transformers.Trainer`, which waits for its turn before each step."""

    def __init__(self, on: Ground, steps: int) -> None:
        import transformers

        self.clock, self.started, self.seconds = synchronized_clock(on.device), 0.0, 0.0
        self.asked, self.ready = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None
        subject = self

        class Waits(transformers.TrainerCallback):
            def on_step_begin(
                self, args: Any, state: Any, control: Any, **kwargs: Any
            ) -> None:  # the library's
                subject.ready.release()
                subject.asked.acquire()
                subject.started = subject.clock()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                subject.seconds = subject.clock() - subject.started

        model = in_peft(on, "lora")
        self.trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        rows = [
            {name: batch[name][row][real].cpu() for name in ("input_ids", "labels")}
            for batch in on.batches
            for row, real in enumerate(
                batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
            )
        ]
        size = len(on.batches[0]["labels"])
        repeats = -(-steps * size // len(rows))
        cuda = on.device.type == "cuda"
        arguments = transformers.TrainingArguments(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=size, max_steps=steps, bf16=cuda, use_cpu=not cuda, report_to=[],
            save_strategy="no", logging_strategy="no", learning_rate=RATE, disable_tqdm=True,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=rows * repeats,
            callbacks=[Waits()],
            data_collator=transformers.DataCollatorForSeq2Seq(on.loaded.tokenizer),
        )
        threading.Thread(target=self._train, args=(trainer,), daemon=True).start()
        self._wait()

    def _train(self, trainer: Any) -> None:
        try:
            trainer.train()
        except BaseException as error:  # noqa: BLE001  it is raised where its step is waited for
            self.error = error
        self.ready.release()

    def _wait(self) -> None:
        self.ready.acquire()
        if self.error is not None:
            raise self.error

    def step(self) -> float:
        self.asked.release()
        self._wait()  # until it has made the step and fetched the next batch
        return self.seconds


def subjects_of(
    on: Ground, runs: dict[str, Run], steps: int, own_weights: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Subject]]]:
    """How each of them is made, by name."""
    for method, run in runs.items():
        yield f"here {method}", lambda run=run, method=method: Here(on, run, method in own_weights, steps)  # type: ignore[misc]
    yield "by hand lora", lambda: by_hand(on)
    for kind in ("lora", "dora", "prefix"):
        yield f"PEFT {kind}", lambda kind=kind: Loop(on, in_peft(on, kind), library_loss)  # type: ignore[misc]
    yield "PEFT lora, Trainer", lambda: UnderTheTrainer(on, steps)


REFUSALS = (NotSupported, ImportError, torch.OutOfMemoryError)  # of one subject: the others go on
