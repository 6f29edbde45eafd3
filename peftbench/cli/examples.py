"""Examples that the commands show in their help: (what to type, what it does)."""

from __future__ import annotations

FIRST_STEPS = (
    ("peftbench run", "LoRA, adapters and prefix tuning on a starter's model and texts, on any machine"),
    ("peftbench run --methods lora,full --task csv:path=mine.csv", "on your own texts and labels"),
    ("peftbench report --format html --out report.html", "a page of all that was run"),
)
EXAMPLES = {
    "run": (
        ("peftbench run --methods lora,lora:rank=32,adapter", "costs and a first look at quality, in minutes"),
        ("peftbench run --task csv:path=reviews.csv --budget standard", "your data; five seeds, rates tuned for every method alike"),
        ("peftbench run --model gpt2,roberta-base --until 1 --dry-run", "what would be run until one point is resolved"),
    ),
    "latency": (
        ("peftbench latency --methods lora,adapter,prefix", "each unmerged and merged, beside the base"),
        ("peftbench latency --model tiny-decoder --latency-grid 2x8 --tasks 4", "also switching between four tasks' adapters"),
    ),
    "report": (
        ("peftbench report --format html --out report.html", "one page that opens from disk"),
        ("peftbench report --advise --max-vram 16GB", "which method to use inside a limit"),
    ),
    "compare": (
        ("peftbench compare before after", "two stores, paired by method, task, model and seed"),
        ("peftbench compare before after --fail-on score:-1.0", "status 1 where a point is lost, 3 where it is open"),
    ),
    "show": (
        ("peftbench list runs", "their keys"),
        ("peftbench show 3f2a", "the run whose key begins so"),
    ),
    "verify": (
        ("peftbench verify 3f2a", "does the run whose key begins so again"),
        ("peftbench verify 3f2a --store before", "one of another store"),
    ),
    "analyze": (
        ("peftbench analyze 3f2a", "the ranks of what a run learned"),
        ("peftbench analyze 3f2a 9c1b --only query", "which directions two runs share in the queries"),
    ),
    "export": (
        ("peftbench export 3f2a --to adapter", "in the PEFT library's format"),
        ("peftbench export 3f2a --to model --merged", "as a plain transformers model"),
    ),
    "paper": (
        ("peftbench paper list", "the experiments"),
        ("peftbench paper table6 --out pages", "one of them, as Markdown, pictures and HTML"),
    ),
    "list": (
        ("peftbench list methods", "with their fields"),
        ("peftbench list runs --store before --format json", "what a store holds"),
    ),
    "check": (
        ("peftbench check lora:rank=4", "does the method keep its claims?"),
        ("peftbench check csv:path=reviews.csv", "do the splits hold up?"),
    ),
    "new": (
        ("peftbench new method fast-lora", "fast_lora.py and its test, here"),
        ("peftbench new method fast-lora --to methods", "in another folder"),
    ),
    "doctor": (
        ("peftbench doctor", "to read"),
        ("peftbench doctor > machine.txt", "to send along with a report of a fault"),
    ),
}  # fmt: skip
