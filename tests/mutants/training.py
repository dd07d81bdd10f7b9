"""The training loop: gradients, schedules, limits on the steps, state, running figures."""

from __future__ import annotations

from mutants.mutant import Mutant

_EPOCHS = "training_epochs(net.model, samples, recipe, plans[0])"
_ORDER = "order = _orders(plans, epoch.number, samples.samples, recipe.shuffle)"
_STEP = "update.step(rates(step))"


MUTANTS = (
    Mutant(
        "stale_gradient",
        "Every update uses the gradient of the previous batch.",
        "step/sgd",
        "training",
        _STEP,
        "fresh = net.gradient.copy()\n"
        '            stale = net.__dict__.setdefault("stale", np.zeros_like(fresh))\n'
        "            net.gradient[...] = stale\n"
        f"            {_STEP}\n"
        "            stale[...] = fresh",
    ),
    Mutant(
        "gradient_accumulated",
        "The gradient of a kernel is accumulated over the batches.",
        "shapes/repeated",
        "dense",
        'np.matmul(self.x, dy.swapaxes(1, 2), out=self.gradients["kernel"])',
        'self.gradients["kernel"][...] += self.x @ dy.swapaxes(1, 2)',
    ),
    Mutant(
        "optimizer_remembers_the_last_fit",
        "A second training continues with the optimiser of the first.",
        "state/optimizer",
        "training",
        "stepper = net.rule_set.steppers[type(recipe.optimizer)](recipe.optimizer, net.parameters)",
        "stepper = net.__dict__.setdefault(\n"
        '        "stepper", net.rule_set.steppers[type(recipe.optimizer)](recipe.optimizer, '
        "net.parameters)\n"
        "    )",
    ),
    Mutant(
        "masks_of_the_first_step",
        "With a plan, every step has the masks of the first.",
        "step/accumulate-2",
        "training",
        "plan.masks(net.model, step, samples)",
        "plan.masks(net.model, 0, samples)",
    ),
    Mutant(
        "plan_masks_ignored",
        "A training draws its own masks, whatever the plan says.",
        "step/accumulate-2",
        "training",
        "if plans[0].parity else None",
        "if False else None",
    ),
    Mutant(
        "dropout_same_masks_each_epoch",
        "Dropout is seeded again at the start of every epoch.",
        "state/dropout-in-fit",
        "training",
        _ORDER,
        f"{_ORDER}\n            net.seed([plan.seed for plan in plans])",
    ),
    Mutant(
        "rate_a_step_early",
        "Every update has the learning rate of the next.",
        "schedule/triangular",
        "training",
        "rates(step))",
        "rates(step + 1))",
    ),
    Mutant(
        "rate_once_an_epoch",
        "The learning rate is updated once per epoch.",
        "schedule/triangular",
        "training",
        "rates(step))",
        "rates(epoch.first))",
    ),
    Mutant(
        "schedule_ignored",
        "The schedule is ignored in the updates, but not in the history.",
        "schedule/triangular",
        "training",
        "return recipes[0].rate",
        "return lambda step: recipes[0].optimizer.learning_rate",
    ),
    Mutant(
        "batch_sizes_ignored",
        "The recipe's changing batch sizes are ignored.",
        "schedule/cyclical_batch_size",
        "training",
        _EPOCHS,
        "training_epochs(\n"
        "                net.model,\n"
        "                samples,\n"
        '                type(recipe)(**(vars(recipe) | {"batch_sizes": None})),\n'
        "                plans[0],\n"
        "            )",
    ),
    Mutant(
        "steps_off_by_one",
        "The recipe's limit on the steps allows one more.",
        "schedule/steps",
        "training",
        _EPOCHS,
        "training_epochs(\n"
        "                net.model,\n"
        "                samples,\n"
        '                type(recipe)(**(vars(recipe) | {"steps": recipe.steps and recipe.steps + '
        "1})),\n"
        "                plans[0],\n"
        "            )",
    ),
    Mutant(
        "plan_steps_ignored",
        "The plan's limit on the steps is ignored.",
        "schedule/steps-of-the-plan",
        "training",
        _EPOCHS,
        "training_epochs(net.model, samples, recipe, Plan(0))",
    ),
    Mutant(
        "last_batch_skipped",
        "A smaller last batch is counted, but makes no update.",
        "step/accumulate-2",
        "training",
        _STEP,
        "if here.stop - here.start == epoch.sizes[0] or recipe.batch_sizes:\n"
        f"                {_STEP}",
    ),
    Mutant(
        "last_batch_weighs_as_a_whole_one",
        "The gradient of a smaller last batch is averaged over a whole one's size.",
        "step/accumulate-2",
        "training",
        _STEP,
        f"net.gradient *= (here.stop - here.start) / epoch.sizes[0]\n            {_STEP}",
    ),
    Mutant(
        "running_loss_unweighted",
        "The running loss is the mean of the batches' means: the last, smaller batch counts like "
        "the others.",
        "step/accumulate-equals-batch",
        "../epochs",
        "total += loss * weight",
        "total += loss * (sum(weights) / len(self.sizes))",
    ),
    Mutant(
        "running_loss_of_the_last_batch",
        "The running loss is that of the last batch.",
        "step/accumulate-equals-batch",
        "../epochs",
        "total += loss * weight",
        "total = np.zeros(total.shape) + loss * sum(weights)",
    ),
    Mutant(
        "cut_epoch_counts_all_samples",
        "The accuracy of an epoch that is cut short is divided by all samples.",
        "evaluation/categorical_crossentropy",
        "../epochs",
        "return sum(self.sizes) * each",
        "return self.samples * each",
    ),
    Mutant(
        "dropout_ignores_the_seed_of_the_plan",
        "Native masks are the same, whatever the plan's seed.",
        "determinism/dropout",
        "training",
        "    net.seed([plan.seed for plan in plans])\n",
        "    net.seed([0 for plan in plans])\n",
    ),
)
