"""Examples that the commands show in their help: (what to type, what it does)."""

from __future__ import annotations

FIRST_STEPS = (
    (
        "peftbench run",
        "LoRA, adapters and prefix tuning on a small model and data set, downloaded once",
    ),
    ("peftbench run --methods lora,full --task csv:path=mine.csv", "on your own texts and labels"),
    ("peftbench report --format html --out report.html", "one page with all results, for a browser"),
)
EXAMPLES = {
    "run": (
        ("peftbench run --methods lora,lora:rank=32,adapter", "costs and a first look at quality, in minutes"),
        ("peftbench run --task csv:path=reviews.csv --budget standard", "your data; five seeds, learning rates tuned in the same way for every method"),
        ("peftbench run --model gpt2,roberta-base --until 1 --dry-run", "what would be run to resolve differences of one point"),
    ),
    "latency": (
        ("peftbench latency --methods lora,adapter,prefix", "each unmerged and merged, beside the base"),
        ("peftbench latency --model tiny-decoder --latency-grid 2x8 --tasks 4", "also switching between four tasks' adapters"),
    ),
    "report": (
        ("peftbench report --format html --out report.html", "one page that opens from disk"),
        ("peftbench report --advise --max-vram 16GB", "which method to use within a limit"),
    ),
    "compare": (
        ("peftbench compare before after", "two stores, paired by method, task, model and seed"),
        ("peftbench compare before after --fail-on score:-1.0", "exit status 1 if a point is lost, 3 if undecided"),
    ),
    "show": (
        ("peftbench list runs", "their keys"),
        ("peftbench show 3f2a", "the run whose key starts with 3f2a"),
    ),
    "verify": (
        ("peftbench verify 3f2a", "repeats the run whose key starts with 3f2a"),
        ("peftbench verify 3f2a --store before", "a run of another store"),
    ),
    "analyze": (
        ("peftbench analyze 3f2a", "the ranks of what a run learned"),
        ("peftbench analyze 3f2a 9c1b --only query", "which directions two runs share in the queries"),
    ),
    "export": (
        ("peftbench export 3f2a --to adapter", "in the PEFT library's format"),
        ("peftbench export 3f2a --to model --merged", "as a plain transformers model"),
    ),
    "merge": (
        ("peftbench merge from-one from-two", "what two machines did, into runs"),
        ("peftbench merge runs --store all", "into another store"),
    ),
    "paper": (
        ("peftbench paper list", "the experiments"),
        ("peftbench paper table6 --out pages", "one of them, as Markdown, pictures and HTML"),
    ),
    "list": (
        ("peftbench list methods", "all methods with their fields"),
        ("peftbench list runs --store before --format json", "what a store holds"),
    ),
    "check": (
        ("peftbench check lora:rank=4", "is what the method claims true?"),
        ("peftbench check csv:path=reviews.csv", "are the splits and metrics sound?"),
    ),
    "new": (
        ("peftbench new method fast-lora", "fast_lora.py and its test, here"),
        ("peftbench new method fast-lora --to methods", "in another folder"),
    ),
    "doctor": (
        ("peftbench doctor", "print it"),
        ("peftbench doctor > machine.txt", "save it, to attach to a bug report"),
    ),
}  # fmt: skip
