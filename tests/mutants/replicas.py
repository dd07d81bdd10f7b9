"""Replicas that train together and share what each should have of its own. A single network trains
right."""

from __future__ import annotations

from mutants.mutant import Mutant

_AUGMENTED = "augment(samples.of(r).x, recipe, plan, epoch)"


def _numpy(name: str, what: str, subject: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"replicas_{name}", what, f"determinism/{subject}", file, old, new)


def _torch(name: str, what: str, subject: str, file: str, old: str, new: str) -> Mutant:
    check = f"determinism/{subject}"
    return Mutant(f"torch_replicas_{name}", what, check, file, old, new, package="torch")


MUTANTS = (
    _numpy(
        "share_a_norm",
        "The gradients of all replicas are clipped by one norm.",
        "replicas-of-sequences",
        "updates",
        "np.square(gradient, dtype=np.float64).sum(axis=1, keepdims=True)",
        "np.square(gradient, dtype=np.float64).sum(keepdims=True)",
    ),
    _numpy(
        "share_a_limit",
        "Only the gradient of the first replica is clipped by value.",
        "replicas-of-images",
        "updates",
        "np.clip(gradient, -clip.limit, clip.limit, out=gradient)",
        "np.clip(gradient[:1], -clip.limit, clip.limit, out=gradient[:1])",
    ),
    _numpy(
        "share_an_average",
        "The moving averages of all replicas move towards the weights of the first.",
        "replicas-of-images",
        "updates",
        "self.averages += (1.0 - decay) * self.net.parameters",
        "self.averages += (1.0 - decay) * self.net.parameters[:1]",
    ),
    _numpy(
        "share_augmentations",
        "The inputs of all replicas are augmented by the plan of the first.",
        "replicas-of-inputs",
        "../alignment",
        _AUGMENTED,
        "augment(samples.of(r).x, recipe, plans[0], epoch)",
    ),
    _numpy(
        "augment_the_first_samples",
        "Each replica trains on the augmented samples of the first.",
        "replicas-of-images",
        "../alignment",
        _AUGMENTED,
        "augment(samples.of(0).x, recipe, plan, epoch)",
    ),
    _numpy(
        "take_one_replica_as_all",
        "The augmented inputs of the first replica are those of all that share samples.",
        "replicas-of-inputs",
        "../alignment",
        "samples.shared and len(plans) == 1",
        "samples.shared",
    ),
    _numpy(
        "share_batch_means",
        "Batch norm subtracts the mean over the batches of all replicas.",
        "replicas-of-images",
        "normalization",
        "mean = flat.mean(axis=-1)",
        "mean = flat.mean(axis=-1)\n        mean[:] = mean.mean(axis=0)",
    ),
    _numpy(
        "end_together",
        "The training of all replicas ends when one of them fails.",
        "diverged-replica",
        "training",
        "if len(failures) == net.replicas:\n                return\n            update.step(",
        "if failures:\n                return\n            update.step(",
    ),
    _numpy(
        "keep_nan",
        "Only the first replica gets back its finite weights when it fails.",
        "diverged-replica",
        "training",
        "for replica, (parameters, state) in self.kept.items():",
        "for replica, (parameters, state) in [kept for kept in self.kept.items() if not kept[0]]:",
    ),
    _numpy(
        "trace_the_first",
        "The trace of all replicas is that of the first.",
        "replicas",
        "engine",
        "np.broadcast_to(output, (self.size, *output.shape[1:]))",
        "np.broadcast_to(output[:1], (self.size, *output.shape[1:]))",
    ),
    _torch(
        "share_a_norm",
        "The gradients of all replicas are clipped by one norm.",
        "replicas-of-sequences",
        "updates",
        "gradient.norm(dim=1, keepdim=True)",
        "gradient.norm()",
    ),
    _torch(
        "share_augmentations",
        "The inputs of all replicas are augmented by the plan of the first.",
        "replicas-of-inputs",
        "replicas",
        "augment_replicas(samples, recipe, plans, epoch.number)",
        "augment_replicas(samples, recipe, [plans[0]] * len(plans), epoch.number)",
    ),
    _torch(
        "undo_together",
        "The epoch in which one replica fails is undone in all of them.",
        "diverged-replica",
        "replicas",
        "self.nets.restore(list(self.failures), before)",
        "self.nets.restore([*range(self.size)] if self.failures else [], before)",
    ),
)
