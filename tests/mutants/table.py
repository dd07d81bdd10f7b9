"""All mutants by name."""

from __future__ import annotations

from mutants import (
    attention,
    augmentation,
    blind,
    branching,
    combinations,
    context,
    convolution,
    dropout,
    groups,
    initializers,
    inputs,
    kinds_and_sizes,
    layers,
    limits,
    loss_scaling,
    losses,
    native_trainings,
    normalization,
    numba,
    optimizers,
    order,
    paths,
    protocol,
    replicas,
    reports,
    sizes,
    statistical,
    torch,
    training,
    updates,
)
from mutants.mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for table in (
        layers.MUTANTS,
        branching.MUTANTS,
        inputs.MUTANTS,
        convolution.MUTANTS,
        normalization.MUTANTS,
        dropout.MUTANTS,
        attention.MUTANTS,
        context.MUTANTS,
        groups.MUTANTS,
        losses.MUTANTS,
        optimizers.MUTANTS,
        initializers.MUTANTS,
        training.MUTANTS,
        updates.MUTANTS,
        loss_scaling.MUTANTS,
        paths.MUTANTS,
        order.MUTANTS,
        protocol.MUTANTS,
        replicas.MUTANTS,
        combinations.MUTANTS,
        sizes.MUTANTS,
        limits.MUTANTS,
        statistical.MUTANTS,
        torch.MUTANTS,
        numba.MUTANTS,
        reports.MUTANTS,
        augmentation.MUTANTS,
        native_trainings.MUTANTS,
        kinds_and_sizes.MUTANTS,
        blind.MUTANTS,
    )
    for mutant in table
}
