"""What `peftbench check` prints: a line a check, and for each failure what was seen and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ADVICE = {
    "columns": "`splits()` gives train, validation and test with the columns of its objective",
    "same again": "draw with a fixed seed, and let fingerprint() change only with the data",
    "disjoint": "remove test rows whose text or group is in training, or split by group",
    "labels": "labels count from 0 in the order of the objective's labels; fix or remove such rows",
    "perfect": "look for references that the metric can't score (other scripts than Latin, say) or choose another metric",
    "shuffled": "the metric can't tell right answers from wrong ones on these rows; choose another metric, or more varied rows",
    "model": "see the error; the columns of `encode()` must be what `loss()` and `predict()` take",
    "runs": "see the error; `inject(model)` must return an Adaptation whose model can be trained",
    "identity at init": "start its last factor at zero, or leave identity_at_init out of its Claims",
    "only declared moves": "list in `params` all that it trains, and write to nothing else",
    "all declared train": "let every tensor in `params` reach the outputs, in training mode as where it is scored, and start so that a "
    "gradient reaches it; leave out what is not to train",
    "shared budget": "use one pass over a step's items and only the core's optimizer; scale rates with `groups`; if that is not possible, set "
    "shared_budget=False in its Claims",
    "equal terms": "leave the base's training mode and its dropout as the trainer sets them",
    "settings": "leave torch's settings and the global random generators as they are; draw inside `inject`, or from a "
    "generator of your own",
    "items alone": "compute each item from its own real tokens: use the attention mask, no statistics over a batch, no state "
    "that scoring moves",
    "causal": "let a token's output depend only on it and on the tokens before it, and keep in the cache what a later pass needs of these",
    "timed as scored": "do the same work whatever the weights and the shape of the batch are",
    "base unchanged": "train tensors of its own only (freezing is the core's work), or leave exact_base out of its Claims",
    "merge": "let fold() return one plain layer that computes what forward() does, or leave mergeable out of its Claims",
    "save and load": "let `stored` hold every tensor that the outputs depend on; tensors it draws and does not train go "
    "into `frozen`",
    "seed": "draw with torch's default generator inside the build function of `swap`, or in a `layer_stream`; where "
    "nothing is drawn, leave random_init out of its Claims",
}


def checks_text(checked: Sequence[Mapping[str, str]]) -> str:
    """One line a check for each method and task, families together; what fails is explained.

    Args:
        checked: `contract.Checked` as dictionaries.
    """
    lines = []
    for subject in dict.fromkeys(one["subject"] for one in checked):
        ours = [one for one in checked if one["subject"] == subject]
        lines.append(subject)
        for name in dict.fromkeys(one["name"] for one in ours):
            lines += _lines(name, [one for one in ours if one["name"] == name])
    failed = sum(one["outcome"] == "fail" for one in checked)
    names = len({(one["subject"], one["name"]) for one in checked if one["outcome"] == "fail"})
    lines.append(
        f"{_several(names, 'check')} failed, {_several(failed, 'time')}" if failed else "every claim holds"
    )
    return "\n".join(lines) + "\n"


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _lines(name: str, named: Sequence[Mapping[str, str]]) -> list[str]:
    lines = []
    outcomes = dict.fromkeys(one["outcome"] for one in named)
    for outcome in outcomes:
        same = [one for one in named if one["outcome"] == outcome]
        families = "" if len(outcomes) == 1 else f" ({', '.join(one['family'] for one in same)})"
        seen = [f": {one['detail']}" for one in same if one["detail"] and not one["family"]]
        lines += [f"  {outcome:<13} {name}{families}{detail}" for detail in seen or [""]]
        if outcome not in ("pass", "not claimed") and not seen:
            lines += [f"      {detail}" for detail in dict.fromkeys(one["detail"] for one in same)]
        if outcome == "fail":
            lines.append(f"      -> {ADVICE[name]}")
    return lines
