"""The footnotes of a table: what a reviewer would ask, answered from the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..records.record import Record
from ..stats.estimate import Groups
from . import retained, sized
from .compiled import said_of
from .latency_notes import latency_notes
from .notes import Explains
from .place_notes import place_notes
from .quantities import HEAD, TRAINED, measures
from .seed_notes import decided_by, failed_seeds

if TYPE_CHECKING:
    from .selection import Selected
    from .table import Row, Table

FEW_GROUPS = 30  # effective ones: below, the variance over them is known badly


def footnotes(table: Table, chosen: Selected, items: int, groups: Groups) -> list[str]:
    """All footnotes, quality first.

    Args:
        items: of the test split.
        groups: of those.
    """
    training = chosen.reported
    notes = [f"{chosen.unchosen}."] if chosen.unchosen else []
    notes += _quality(table, chosen, items, groups)
    notes += [f"Data: {said}." for said in dict.fromkeys(n for r in training for n in r.record.notices or ())]
    notes += [
        f"Model: {said}." for said in dict.fromkeys(n for r in training for n in r.record.model_notices or ())
    ]
    if commits := commits_of(r.record for r in training):
        notes.append(f"From the hub: {', '.join(f'{name} at {commit[:12]}' for name, commit in commits)}.")
    notes += _further(table)
    notes += failed_seeds(table)
    notes += _checks(table)
    notes += _guards(table)
    notes += _rates(table, chosen)
    notes += _costs(table, chosen)
    notes += place_notes(chosen)
    if chosen.of_another_part:
        notes.append(
            f"{chosen.of_another_part} runs are not in this table: another version of the program scored other test items in them. The "
            "same command runs them again."
        )
    if chosen.stale:
        notes.append(
            f"{chosen.stale} results in the store come from older code of a method and are not in this table."
        )
    return notes


def commits_of(records: Iterable[Record]) -> list[tuple[str, str]]:
    """What came from the hub, and at which commit."""
    return sorted({pin for record in records for pin in record.run.pins.items()})


def _points(table: Table, value: float) -> str:
    return f"{value * 100:.1f} points" if table.is_share else f"{value:.3g}"


def _quality(table: Table, chosen: Selected, items: int, groups: Groups) -> list[str]:
    notes = []
    seeds = len(chosen.seeds())
    level = f"{100 * (1 - table.alpha):.3g} %"
    if seeds > 1:
        among, over = f"{groups.count:,} groups", "seeds and items together"
        if groups.count == 1:  # whose own variance nothing tells
            among, over = (
                "ONE group",
                "seeds alone and says nothing about other items: no method is tested against another",
            )
        notes.append(
            f"Quality: mean over {seeds} seeds on {items:,} test items in {among}; ± is the {level} interval over {over}."
        )
        if 1 < groups.effective_count < FEW_GROUPS:
            notes.append(
                f"Few groups: they count as {groups.effective_count:.0f} groups of one size. Below {FEW_GROUPS} the intervals "
                "rest on few independent items and may contain the true value less often than stated."
            )
        if table.resolution is not None:
            notes.append(f"This table resolves differences of about {_points(table, table.resolution)}.")
        notes += decided_by(table)
        if odd := _other_seeds(chosen):
            notes.append(
                f"Not all rows have the same seeds ({odd}): a difference uses the seeds that both rows have."
            )
        for rule in chosen.rules:
            notes.append(
                f"Seeds were added until differences of {rule.resolve:g} {'points' if table.is_share else ''} are resolved, at most "
                f"{rule.cap}, and examined after {', '.join(map(str, rule.looks()))} seeds. Here {table.alpha:.2g} of the error "
                "probability .05 is used: intervals are wider by that much, and p-values are scaled so that .05 is still the limit."
            )
        notes.append(
            Explains(
                "**bold**: the best alone; ≈: among the best and shown equal to the top within ±1 point; ?: among the best, not shown "
                "equal; p: of the difference to the reference, Holm-corrected."
            )
        )
        if table.reference and any(row.nll_difference for row in table.rows):
            notes.append(
                Explains(
                    "NLL: negative log-likelihood per item (lower is better) minus the reference's, paired. It has more power than "
                    f"{table.metric} from the same runs."
                )
            )
    elif seeds:
        notes.append(
            f"Quality: ONE seed on {items:,} test items; ± is over items alone and says nothing about other seeds. "
            "No method is tested against another."
        )
    return notes


def _other_seeds(chosen: Selected) -> str:
    """The rows whose seeds are not all of the table's, each with its own."""
    all_seeds = chosen.seeds()
    own = {row: chosen.seeds(row) for row in chosen.rows}
    return "; ".join(
        f"{chosen.label(row)}: {', '.join(map(str, seeds))}"
        for row, seeds in own.items()
        if seeds and seeds != all_seeds
    )


def _checks(table: Table) -> list[str]:
    checked = [row for row in table.rows if row.checks]
    if not checked:
        return []
    names = ", ".join(dict.fromkeys(check.name for row in checked for check in row.checks))
    notes: list[str] = [
        Explains(f"Checks (passed/claimed), made in every run, of what each method claims: {names}.")
    ]
    notes += [
        f"**{row.label} FAILS** its check {check.name!r}: {check.detail}."
        for row in checked
        for check in row.failed_checks
    ]
    cast = [
        f"{row.label} by {check.figures['merge']:.1%} of what it changes before the cast, by {check.figures['cast']:.1%} after it"
        for row in checked
        for check in row.checks
        if check.figures and "cast" in check.figures
    ]
    if cast:
        notes.append(
            "Merged weights are computed in float32 and cast once to the base's data type. Outputs then differ from the unmerged "
            f"model's: {'; '.join(cast)}."
        )
    untested = [
        f"{r.label} ({c.name}: {c.detail})" for r in checked for c in r.checks if c.outcome == "not tested"
    ]
    if untested:
        notes.append("Could not be tested: " + "; ".join(untested) + ".")
    return notes


def _guards(table: Table) -> list[str]:
    notes = []
    once = [row for row in table.rows if row.seedless and row.status == "ok"]
    if frozen := [row.label for row in once if _is_frozen(row)]:
        notes.append(
            f"{', '.join(frozen)}: the unchanged model, nothing trained, so it ran once for all seeds."
        )
    if others := [row.label for row in once if not _is_frozen(row)]:
        notes.append(f"{', '.join(others)}: does not depend on the seed, so it ran once for all seeds.")
    notes += [
        f"{row.label}: departs from the shared budget: {'; '.join(row.departures)}."
        for row in table.rows
        if row.departures
    ]
    solved = [row for row in table.rows if row.solved and row.score is not None]
    probe = min(
        solved, key=lambda row: not row.baseline, default=None
    )  # the same for all tables, where it is there
    if probe and probe.score:
        sign = 1 if table.higher_is_better else -1
        bar = sign * probe.score.value
        below = [
            row.label for row in table.rows if row.score and not row.solved and sign * row.score.value <= bar
        ]
        if below:
            bar_is = (
                "Not better than the frozen model, so nothing was learned: "
                if _is_frozen(probe)
                else f"Not better than {probe.label}, a linear probe of the frozen features: "
            )
            notes.append(f"{bar_is}{', '.join(below)}.")
    return notes


def _is_frozen(row: Row) -> bool:
    """Whether nothing of it trains, not even a head."""
    return not row.costs.of(TRAINED) and not row.costs.of(HEAD)


def _further(table: Table) -> list[str]:
    """Metrics beside the primary one, where there are several."""
    names = list(dict.fromkeys(n for row in table.rows for n in row.quality if not n.startswith("nll")))
    others = [name for name in names if name != table.metric]
    rows = [row for row in table.rows if row.quality]
    if len(others) < 2:
        return []
    each = "; ".join(
        f"{row.label} " + "/".join(f"{row.quality[n].value:.3f}" if n in row.quality else "-" for n in others)
        for row in rows
    )
    return [
        Explains(f"Other metrics, {'/'.join(others)}, not times 100 (intervals in `--format csv`): {each}.")
    ]


def _rates(table: Table, chosen: Selected) -> list[str]:
    """Where the learning rates come from."""
    rate = chosen.setting.head_learning_rate
    has_head = any(row.costs.of(HEAD) for row in table.rows)
    head = f"head {rate:g} for all" if has_head else "no added head"
    tuned = [row for row in table.rows if row.tuned]
    given = [row for row in table.rows if row.learning_rate and not row.tuned]
    notes: list[str] = []
    if tuned:
        each = "; ".join(_rate_of(row) for row in tuned)
        notes.append(
            Explains(
                "Learning rates tuned on validation by negative log-likelihood, with two seeds for each rate; of those within one "
                f"standard error of the best the one nearest to the preset is used: {each}; {head}."
            )
        )
        at_edge = [row.label for row in tuned if row.rate_curve and row.rate_curve.edge]
        if at_edge:
            notes.append(
                f"Learning rate at the edge of its grid, so a better one may lie beyond it: {', '.join(at_edge)}."
            )
    if given:
        rates = ", ".join(f"{row.label} {row.learning_rate:g}" for row in given)
        notes.append(f"Learning rates, not tuned here (presets, unless --lr was given): {rates}; {head}.")
    if chosen.left_out:
        others = [f"{method} at {rate:g}" for method, rate in chosen.left_out]
        notes.append(
            f"The store also has other learning rates, which are not shown: {', '.join(others)}; --baseline '{others[0]}' compares with one."
        )
    return notes


def _rate_of(row: Row) -> str:
    """A tuned rate: how many trials, over which range, what fewer would have given, what diverged."""
    assert row.rate_curve is not None and row.rate_curve.chosen is not None
    trials = row.rate_curve.trials
    bad = [f"{trial.learning_rate:g}" for trial in trials if trial.losses is None]
    text = f"{row.label} {row.learning_rate:g} of {len(trials)} rates from {trials[0].learning_rate:g} to {trials[-1].learning_rate:g}"
    curve = [(k, t.mean) for k in row.rate_curve.counts if (t := row.rate_curve.best_of(k)) is not None]
    losses = ", ".join(f"{mean:.3f} with {k}" for k, mean in curve)
    return (
        text
        + (f" (lowest loss {losses} rates" if losses else " (")
        + (f"; failed: {', '.join(bad)}" if bad else "")
        + ")"
    )


def _costs(table: Table, chosen: Selected) -> list[str]:
    """How the costs were taken."""
    rows = table.rows
    notes: list[str] = [
        Explains(
            "Trained: number of parameters that train, without the head; stored: size of the saved file without the head. Every method also has the head."
        )
    ]
    kinds = sorted({row.costs.train_peak_kind for row in rows if row.costs.train_peak_kind})
    if kinds == ["cuda allocator"]:
        notes.append(
            Explains(
                "Train peak: highest memory allocated by torch on the GPU during training, weights included; reserved memory and, if the "
                "driver gives it, the memory of the process are in `--format csv`."
            )
        )
    elif kinds:
        notes.append(
            Explains(
                f"Train peak: resident memory above the loaded model during training ({', '.join(kinds)}); not comparable with "
                "a GPU's allocated memory."
            )
        )
    if together := [
        f"{row.label} {row.costs.train_peak_all_ranks_bytes / 1e6:,.0f}"
        for row in rows
        if row.costs.train_peak_all_ranks_bytes
    ]:
        notes.append(
            f"Train peak is that of the process which takes most. The {table.setting.ranks} of a run together, in MB: {', '.join(together)}. "
            "Memory by kind is rank 0's."
        )
    notes += _carried_on(table, chosen)
    notes += _inside_a_step(rows)
    notes.append(
        Explains(
            f"Step: median over {_steps_of(chosen)}, without data loading and warm-up; tokens/s counts real tokens."
        )
    )
    if said := [
        f"{row.label} {said_of(row.costs.compiled)}" for row in rows if row.costs.compiled is not None
    ]:
        notes.append(
            f"Under torch.compile, over the eager steps of the same batches: {'; '.join(said)}. One process; its caches were empty."
        )
    for measure in measures():
        known = [row for row in rows if row.costs.of(measure) is not None]
        if known and measure.note:
            notes.append(
                Explains(f"{measure.label.capitalize()}: {measure.note.format_map(vars(known[0].costs))}.")
            )
    if any(row.seconds_to_reference for row in rows):
        notes.append(
            Explains(
                f"s to {table.reference}: seconds of training until {table.metric} on at most 200 validation items first "
                f"reaches the value that {table.reference} has at its end; median of the seeds that reach it{_sharing(chosen)}."
            )
        )
    if any(row.forgetting for row in rows):
        notes.append(
            Explains(
                f"Forgetting: loss of the language model on texts of {table.settings['forgetting']}, nats per token, after training minus "
                "before; above 0 is worse; ± over seeds alone."
            )
        )
    notes += [*map(Explains, retained.notes(table)), *sized.notes(rows, chosen.reported)]
    return notes + latency_notes(rows, table.setting.weights)


def _carried_on(table: Table, chosen: Selected) -> list[str]:
    """Which runs were ended and carried on from a checkpoint."""
    labels = {row.method: row.label for row in table.rows}
    counts = Counter(
        labels.get(r.record.run.method, r.record.run.method)
        for r in chosen.reported
        if (r.record.training or {}).get("carried_on")
    )
    if not counts:
        return []
    each = ", ".join(f"{count} of {label}" for label, count in counts.items())
    return [
        f"Runs that were ended and carried on from a checkpoint: {each}. Their memory is that of the steps since, their energy is not known."
    ]


def _sharing(chosen: Selected) -> str:
    """How many of the seeds' runs shared the machine, where some did."""
    at_once = max((r.record.environment.get("jobs", 1) for r in chosen.reported), default=1)
    return (
        f", timed in the seeds' runs, up to {at_once} of them at once on this machine" if at_once > 1 else ""
    )


def _steps_of(chosen: Selected) -> str:
    """Which steps the costs are of."""
    runs = max((sum(bool(r.training) for r in its) for its in chosen.cost_runs.values()), default=0)
    if not runs:
        return "the steps of all seeds"
    return f"the first steps of {'a separate cost run' if runs == 1 else f'{runs} separate cost runs'} with nothing else running"


def _inside_a_step(rows: Sequence[Row]) -> list[str]:
    notes: list[str] = []
    seen = [row for row in rows if row.costs.memory_by_kind]
    if seen:
        names = "/".join(seen[0].costs.memory_by_kind)
        each = ", ".join(
            f"{row.label} " + "/".join(f"{size / 1e6:.0f}" for size in row.costs.memory_by_kind.values())
            for row in seen
        )
        notes.append(Explains(f"Memory of tensors at the peak of the widest step, MB of {names}: {each}."))
    counted = [row for row in rows if row.costs.flops_per_step and row.costs.flops_per_s]
    if counted:
        each = ", ".join(
            f"{row.label} {(row.costs.flops_per_step or 0) / 1e9:.1f} at {(row.costs.flops_per_s or 0) / 1e9:,.0f}/s"
            + (f" ({row.costs.flop_utilisation:.0%} of the peak)" if row.costs.flop_utilisation else "")
            for row in counted
        )
        notes.append(
            Explains(
                f"Arithmetic of a step in GFLOP (matrix products and attention, by torch's counter), and its rate: {each}."
            )
        )
    return notes
