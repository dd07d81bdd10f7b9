"""Augmentations that are drawn or applied in another way."""

from __future__ import annotations

from mutants.mutant import Mutant

_OWN = "own = augment_replicas(samples, recipe, plans, epoch.number)"


def _numpy(name: str, what: str, check: str, new: str) -> Mutant:
    return Mutant(f"augment_{name}", what, f"trajectory/augment-{check}", "training", _OWN, new)


def _torch(name: str, what: str, check: str, old: str, new: str) -> Mutant:
    file = "../augmentation"
    return Mutant(name, what, f"trajectory/augment-{check}", file, old, new, package="torch")


MUTANTS = (
    _numpy(
        "once",
        "Every epoch has the augmentations of the first.",
        "input_noise",
        "own = augment_replicas(samples, recipe, plans, 1)",
    ),
    _numpy(
        "again_what_is_augmented",
        "Each epoch augments the inputs of the epoch before.",
        "shift",
        f"self.samples = {_OWN}",
    ),
    _numpy(
        "by_a_plan_only",
        "Natively, nothing is augmented.",
        "horizontal_flip",
        f"{_OWN} if plans[0].parity else samples",
    ),
    _numpy(
        "first_epoch_only",
        "The first epoch alone is augmented.",
        "horizontal_flip",
        f"{_OWN} if epoch.number == 1 else samples",
    ),
    _numpy(
        "of_seed_zero",
        "The augmentations do not depend on the seed.",
        "shift",
        "own = augment_replicas(samples, recipe, [Plan(0) for _ in plans], epoch.number)",
    ),
    _numpy(
        "first_record_only",
        "Of several augmentations, the first alone is applied.",
        "several",
        'first = type(recipe)(**(vars(recipe) | {"augment": recipe.augment[:1]}))\n'
        "            own = augment_replicas(samples, first, plans, epoch.number)",
    ),
    _torch(
        "shift_wraps_around",
        "What a shift moves out on one side comes in on the other.",
        "shift",
        '{"zeros": "constant", "edge": "edge"}[record.fill]',
        '"wrap"',
    ),
    _torch(
        "shift_fills_with_zeros",
        "A shift fills with zeros, whatever the record says.",
        "shift-edge",
        '{"zeros": "constant", "edge": "edge"}[record.fill]',
        '"constant"',
    ),
    _torch(
        "shift_along_the_other_axis",
        "A shift to the right moves down, and the reverse.",
        "shift",
        "down, right = draws.T",
        "right, down = draws.T",
    ),
    _torch(
        "shift_upwards",
        "A shift down moves up.",
        "shift",
        "record.pixels - down",
        "record.pixels + down",
    ),
    _torch(
        "shift_of_the_whole_batch",
        "All images are shifted as the first is.",
        "shift",
        "down, right = draws.T",
        "down, right = np.broadcast_to(draws[:1], draws.shape).T",
    ),
    _torch(
        "flip_upside_down",
        "A flip exchanges above and below.",
        "horizontal_flip",
        "x[:, :, ::-1]",
        "x[:, ::-1]",
    ),
    _torch(
        "flip_all_or_none",
        "All images are flipped if one is.",
        "horizontal_flip",
        "np.where(draws[:, None, None, None], x[:, :, ::-1], x)",
        "x[:, :, ::-1] if draws.any() else x",
    ),
    _torch(
        "noise_of_the_variance",
        "The noise has the square of the standard deviation.",
        "input_noise",
        "noise *= record.stddev",
        "noise *= record.stddev**2",
    ),
    _torch(
        "noise_of_the_first_sample",
        "All samples have the noise of the first.",
        "input_noise",
        "noise = draws.astype(x.dtype)",
        "noise = np.repeat(draws[:1], len(draws), axis=0).astype(x.dtype)",
    ),
    _torch(
        "noise_clipped",
        "Noisy inputs are clipped to the range from 0 to 1.",
        "input_noise",
        "noise += x",
        "noise = np.clip(noise + x, 0, 1)",
    ),
)
