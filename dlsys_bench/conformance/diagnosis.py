"""Name the mistake behind weights that differ after a training.

The rules are tried in this order, and the first one that explains every tensor is the diagnosis:

1. Weights that stay exactly as they were in the first update, although the oracle moves them, and
   that have not moved at the end either, *cannot move*.
2. The oracle repeats the training with one change at a time (`hypotheses`): a batch is skipped or
   repeated, the smaller last batch is dropped or filled up, the training ends elsewhere, a learning
   rate belongs to another step, the order is another. The change that gives the engine's weights
   within the tolerance of the check is what the engine did.
3. If the first update of each wrong tensor is the oracle's times one constant, the mistake is that
   *ratio*.

A training that no rule explains keeps its finding as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance.finding import Fault, Finding, constant_ratio
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.snippet import of_training
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.data import split_inputs
from dlsys_bench.engines.epochs import UpdateStep
from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import count_of

Updates = list[UpdateStep]

MOST_UPDATES = 24
"""The number of updates up to which hypotheses are tried: the oracle repeats each training."""


class Hypothesis(NamedTuple):
    """A mistake, and the updates that an engine makes which has it."""

    fault: Fault
    text: str
    updates: Updates


def diagnose(
    engine: Guard, oracle: Oracle, training: TrainingCase, finding: Finding, seconds: float
) -> Finding:
    """Return the finding of a training with its diagnosis, if there is one, and with a snippet.

    Hypotheses are tried for at most `seconds` of CPU time.
    """
    finding = replace(finding, snippet=snippet(oracle, training, finding))
    allowed, started = finding.allowed, training.weights
    if allowed is None or finding.fault is not Fault.WRONG_VALUE:
        return finding
    first, last = training.stopping_after(1), training.run(engine)
    one, expected = first.run(engine), first.run(oracle)
    found = explain_first_update(one, expected, started, allowed, last)
    if found.get("fault") is Fault.STUCK:
        return replace(finding, **found)
    deadline = time.process_time() + seconds
    for fault, text, updates in hypotheses(training):
        if _is_near(repeat(oracle, training, updates), last, allowed):
            return replace(finding, fault=fault, diagnosis=text)
        if time.process_time() > deadline:
            break
    return replace(finding, **found)


def snippet(oracle: Oracle, training: TrainingCase, finding: Finding) -> str | None:
    """Return the training up to the step of the finding as code."""
    here = training.stopping_after(finding.step)
    updates = [step for epoch in here.updates() for step in epoch]
    arrays = {**split_inputs(here.samples.x), "y": here.samples.y}
    for step in updates:
        arrays[f"batch_{step.number + 1}"] = step.chosen
        for index, mask in step.masks.items():
            arrays[f"keep_mask_{step.number + 1}_of_{here.model.names[index]}"] = mask
    arrays["learning_rates"] = np.array([step.learning_rate for step in updates])
    expected = here.run(oracle)
    shown = {name: expected[name] for name in expected if finding.tensor in (None, name)}
    return of_training(here.model, here.weights, arrays, here.recipe, len(updates), shown)


def explain_first_update(
    actual: Weights,
    expected: Weights,
    started: Weights,
    allowed: float,
    last: Weights | None = None,
) -> dict[str, Any]:
    """Return the fields of a finding that explain the first update, or nothing.

    `last` holds the tensors at the end, if there are more updates.
    """
    for name, values in expected.items():
        stays = (actual[name] == started[name]) & ((last or actual)[name] == started[name])
        stuck = stays & (np.abs(values - started[name]) > 10 * allowed)
        if stuck.any():
            text = f"{_place(stuck, stays)} of {name} cannot move"
            return {"fault": Fault.STUCK, "diagnosis": text, "tensor": name}
    moves = {
        name: (actual[name] - started[name], values - started[name])
        for name, values in expected.items()
    }
    wrong = {n: m for n, m in moves.items() if np.abs(m[0] - m[1]).max(initial=0.0) > allowed}
    ratios = [constant_ratio(*move, allowed) for move in wrong.values()]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known or None in ratios or np.ptp(known) > 0.01 * abs(known[0]):
        return {}
    if abs(known[0]) < 1e-6:
        return {"diagnosis": f"the first update does not move {', '.join(wrong)}"}
    all_move = all(n in wrong or np.abs(m[1]).max() <= allowed for n, m in moves.items())
    of = "" if all_move else f" of {', '.join(wrong)}"
    text = f"every update{of} is {known[0]:.6g} times the expected one"
    return {"fault": Fault.CONSTANT_RATIO, "diagnosis": text, "ratio": known[0]}


def _place(stuck: np.ndarray, stays: np.ndarray) -> str:
    """Return where the weights are that do not move: all, rows, columns or single values."""
    if stays.all():
        return "the values"
    for axis, name in ((0, "row"), (stays.ndim - 1, "column")):
        others = tuple(a for a in range(stays.ndim) if a != axis)
        whole = np.flatnonzero(stays.all(axis=others) & stuck.any(axis=others))
        if whole.size and (stuck.sum() == np.take(stuck, whole, axis).sum()):
            return f"{name} {whole[0]}" if whole.size == 1 else f"{name}s {_ranges(whole)}"
    return count_of(int(stuck.sum()), "value")


def _ranges(numbers: Iterable[int]) -> str:
    """Return increasing numbers as text: "3, 5 to 9"."""
    ranges: list[list[int]] = []
    for number in map(int, numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in ranges)


def _is_near(found: Weights | None, actual: Weights, allowed: float) -> bool:
    return found is not None and all(
        np.abs(found[name] - actual[name]).max(initial=0.0) <= allowed for name in found
    )


def repeat(oracle: Oracle, training: TrainingCase, updates: Sequence[UpdateStep]) -> Weights | None:
    """Return the tensors after these updates; None if a loss is not finite."""
    network = oracle.build(training.model, training.weights)
    states: dict[str, dict[str, object]] = {name: {} for name in network.tensors}
    for number, step in enumerate(updates):
        step = step._replace(number=number)
        loss, _ = oracle.update(network, training.samples, training.recipe, step, states)
        if not np.isfinite(loss):
            return None
    return oracle.evaluated(network, states)


def hypotheses(training: TrainingCase) -> Iterator[Hypothesis]:
    """Yield what an engine may have done in place of a training."""
    epochs = training.updates()
    updates = [step for epoch in epochs for step in epoch]
    if len(updates) > MOST_UPDATES:
        return
    if training.recipe.batch_sizes is None:
        yield from _partial(epochs, training)
    yield from _ended(updates, training)
    yield from _skipped(epochs)
    yield from _rates(epochs, training)
    yield from _orders(epochs)


def _partial(epochs: list[Updates], training: TrainingCase) -> Iterator[Hypothesis]:
    """Yield mistakes in the last batch of each epoch, which may be smaller."""
    size = training.recipe.batch_size
    small = [step for epoch in epochs for step in epoch if len(step.chosen) < size]
    if not small:
        return
    dropped = [step for epoch in epochs for step in epoch if len(step.chosen) == size]
    what = f"the smaller last batch of an epoch, of {count_of(len(small[0].chosen), 'sample')},"
    yield Hypothesis(Fault.PARTIAL_BATCH, f"{what} is dropped", dropped)
    if not small[0].masks:
        order = [np.concatenate([step.chosen for step in epoch]) for epoch in epochs]
        for name, fill in (
            ("the first samples of the epoch", lambda e, step: order[e]),
            ("its own samples again", lambda e, step: np.resize(step.chosen, size)),
            ("its last sample", lambda e, step: np.repeat(step.chosen[-1:], size)),
        ):
            filled = [
                step._replace(
                    chosen=np.concatenate([step.chosen, fill(e, step)[: size - len(step.chosen)]])
                )
                for e, epoch in enumerate(epochs)
                for step in epoch
            ]
            yield Hypothesis(Fault.PARTIAL_BATCH, f"{what} is filled up with {name}", filled)
    scaled = [
        step._replace(learning_rate=step.learning_rate * len(step.chosen) / size)
        for epoch in epochs
        for step in epoch
    ]
    text = f"{what} is averaged over {size} samples"
    yield Hypothesis(Fault.PARTIAL_BATCH, text, scaled)


def _skipped(epochs: list[Updates]) -> Iterator[Hypothesis]:
    """Yield batches that are left out or used twice: in every epoch, or once."""
    for fault, text, times in (
        (Fault.SKIPPED_BATCH, "makes no update", 0),
        (Fault.REPEATED_BATCH, "makes its update twice", 2),
    ):
        most = max(map(len, epochs))
        if len(epochs) > 1:
            for place in range(most):
                chosen = [
                    step
                    for epoch in epochs
                    for here, step in enumerate(epoch)
                    for _ in range(times if here == place else 1)
                ]
                yield Hypothesis(fault, f"batch {place + 1} of every epoch {text}", chosen)
        for number, epoch in enumerate(epochs, start=1):
            for place in range(len(epoch)):
                chosen = [
                    step
                    for e, each in enumerate(epochs, start=1)
                    for here, step in enumerate(each)
                    for _ in range(times if (e, here) == (number, place) else 1)
                ]
                yield Hypothesis(fault, f"batch {place + 1} of epoch {number} {text}", chosen)


def _ended(updates: Updates, training: TrainingCase) -> Iterator[Hypothesis]:
    """Yield trainings that end elsewhere."""
    total = len(updates)
    for kept in reversed(range(total)):
        text = f"the training ends after {kept} of {count_of(total, 'update')}"
        yield Hypothesis(Fault.WRONG_STOP, text, updates[:kept])
    endless = training._replace(
        plan=replace(training.plan, steps=None),
        recipe=replace(training.recipe, steps=None, epochs=training.recipe.epochs + 1),
    )
    longer = [step for epoch in endless.updates() for step in epoch]
    for extra in range(1, len(longer) - total + 1):
        text = f"the training makes {count_of(extra, 'update')} too many, after {total}"
        yield Hypothesis(Fault.WRONG_STOP, text, longer[: total + extra])


def _rates(epochs: list[Updates], training: TrainingCase) -> Iterator[Hypothesis]:
    """Yield trainings with the learning rates of other steps."""
    updates = [step for epoch in epochs for step in epoch]
    rates = [step.learning_rate for step in updates]
    count, own = len(rates), training.recipe.optimizer.learning_rate
    following = training.recipe.rate(count)
    by_epoch = [epoch[0].learning_rate for epoch in epochs for _ in epoch]
    for text, others in (
        ("every update has the learning rate of the step before", [rates[0], *rates[:-1]]),
        ("every update has the learning rate of the step after", [*rates[1:], following]),
        ("the learning rate changes only once an epoch", by_epoch),
        ("every update has the learning rate of the first", [rates[0]] * count),
        ("the schedule is ignored: every update has the optimiser's own rate", [own] * count),
    ):
        if others != rates:
            changed = [
                step._replace(learning_rate=rate)
                for step, rate in zip(updates, others, strict=True)
            ]
            yield Hypothesis(Fault.WRONG_RATE, text, changed)


def _orders(epochs: list[Updates]) -> Iterator[Hypothesis]:
    """Yield trainings that use the samples in another order."""
    orders = [np.concatenate([step.chosen for step in epoch]) for epoch in epochs]
    for text, others in (
        ("every epoch has the order of the first", [orders[0]] * len(orders)),
        ("the samples are not shuffled", [np.sort(order) for order in orders]),
        ("every epoch has the order of the one after", [*orders[1:], orders[-1]]),
    ):
        whole = all(len(order) >= len(own) for order, own in zip(others, orders, strict=True))
        if whole and not all(map(np.array_equal, others, orders)):
            changed: Updates = []
            for epoch, order in zip(epochs, others, strict=True):
                place = 0
                for step in epoch:
                    chosen = order[place : place + len(step.chosen)]
                    changed.append(step._replace(chosen=chosen))
                    place += len(step.chosen)
            yield Hypothesis(Fault.WRONG_ORDER, text, changed)
