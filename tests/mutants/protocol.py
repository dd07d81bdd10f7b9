"""The protocol of an engine: copies, dtypes, histories, side effects."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "weights_are_views",
        "weights() returns the network's own memory.",
        "shapes/copies",
        "engine",
        "{name: tensor[0].copy() for name, tensor in net.tensors.items()}",
        "{name: tensor[0] for name, tensor in net.tensors.items()}",
    ),
    Mutant(
        "gradients_are_views",
        "gradients() returns the network's own memory.",
        "shapes/copies",
        "engine",
        "{name: gradient[0].copy() for name, gradient in net.gradients.items()}",
        "{name: gradient[0] for name, gradient in net.gradients.items()}",
    ),
    Mutant(
        "trace_is_of_views",
        "trace() returns buffers that the next pass overwrites.",
        "shapes/batch_norm",
        "engine",
        "return [to_external(y).copy() for y in",
        "return [to_external(y) for y in",
    ),
    Mutant(
        "predict_writes_into_its_input",
        "predict() shifts its input in place and back again.",
        "shapes/dense",
        "engine",
        "outputs: Array = self.predict_replicas(net, x[None])[0]",
        "x += 1.0\n        x -= 1.0\n        outputs: Array = self.predict_replicas(net, "
        "x[None])[0]",
    ),
    Mutant(
        "predict_in_double_precision",
        "predict() returns float64 where the engine is float32.",
        "shapes/dense@float32",
        "engine",
        "*net.model.output_shape), self.dtype)",
        "*net.model.output_shape), np.float64)",
    ),
    Mutant(
        "weights_in_single_precision",
        "weights() returns float32, whatever the dtype of the engine.",
        "shapes/dense",
        "engine",
        "{name: tensor[0].copy() for name, tensor in net.tensors.items()}",
        '{name: tensor[0].astype("float32") for name, tensor in net.tensors.items()}',
        only="float64",
    ),
    Mutant(
        "weights_rounded",
        "weights() rounds to float32.",
        "shapes/dense",
        "engine",
        "{name: tensor[0].copy() for name, tensor in net.tensors.items()}",
        '{name: tensor[0].astype("float32").astype(self.dtype) for name, tensor in '
        "net.tensors.items()}",
        only="float64",
    ),
    Mutant(
        "no_samples_crash",
        "Predicting no samples raises an error.",
        "shapes/batches",
        "engine",
        "at_once = PREDICTED_AT_ONCE if x.ndim == 5 else",
        "at_once = min(PREDICTED_AT_ONCE, x.shape[1]) if x.ndim < 5 else",
    ),
    Mutant(
        "prints",
        "Every epoch prints a line.",
        "shapes/quiet",
        "training",
        "yield epoch.end_replicas(recipes, failures)",
        'print(f"epoch {epoch.number}")\n            yield epoch.end_replicas(recipes, failures)',
    ),
    Mutant(
        "steps_of_the_epoch_in_the_history",
        "The history counts the steps of each epoch instead of those from the start.",
        "shapes/history",
        "../epochs",
        "steps, shape = self.first + len(self.sizes),",
        "steps, shape = len(self.sizes),",
    ),
    Mutant(
        "epochs_from_zero",
        "The history counts epochs from 0.",
        "shapes/history",
        "../epochs",
        "ReplicaEpoch(self.number, steps,",
        "ReplicaEpoch(self.number - 1, steps,",
    ),
    Mutant(
        "epochs_yielded_at_the_end",
        "The epochs are yielded when the whole training has ended.",
        "shapes/history",
        "engine",
        "for (epoch,) in training:",
        "for (epoch,) in list(training):",
    ),
    Mutant(
        "last_batch_dropped",
        "A smaller last batch is left out.",
        "shapes/history",
        "../epochs",
        "for number, sizes in enumerate(epoch_batch_sizes(counted.number, recipe, plan), 1):",
        "for number, sizes in enumerate(epoch_batch_sizes(counted.number, recipe, plan), 1):\n"
        "        sizes = [n for n in sizes if n == sizes[0]]",
    ),
    Mutant(
        "gradients_move_the_state",
        "gradients() updates the moving statistics.",
        "state/looking",
        "engine",
        "            dx = net.backward(dy, wants_dx=True)\n",
        "            dx = net.backward(dy, wants_dx=True)\n            moved = net.state.copy()\n"
        "        net.state[...] = moved\n",
    ),
    Mutant(
        "trace_moves_the_state",
        "trace() leaves the moving statistics where the pass took them, and what is predicted next "
        "shows it.",
        "forward/batch_norm",
        "engine",
        "return [to_external(y).copy() for y in net.outputs(self._inward(net, x), training)]",
        "outputs = [to_external(y).copy() for y in net.outputs(self._inward(net, x), training)]\n"
        "            moved = net.state.copy()\n        net.state[...] = moved\n"
        "        return outputs",
    ),
    Mutant(
        "gradients_ignore_masks",
        "gradients() draws its own masks and ignores those of the batch.",
        "gradient/dropout",
        "engine",
        "net.unchanged(_one(batch.active_masks))",
        "net.unchanged(None)",
    ),
    Mutant(
        "trace_in_eval_mode",
        "trace() runs in inference mode and ignores that of the batch.",
        "forward/batch_norm",
        "engine",
        "net.outputs(self._inward(net, x), training)]",
        "net.outputs(self._inward(net, x), False)]",
    ),
    Mutant(
        "predict_in_training_mode",
        "predict() runs in training mode.",
        "forward/batch_norm",
        "engine",
        "net.forward(self._inward(net, x[:, here]), training=False)",
        "net.forward(self._inward(net, x[:, here]), training=True)",
    ),
    Mutant(
        "predict_loses_the_last_part",
        "Of images that are predicted in parts, the last, smaller part is left out; and none are "
        "an error.",
        "shapes/arrays",
        "engine",
        "for start in range(0, x.shape[1], at_once):",
        "for start in range(0, max(x.shape[1] - at_once + 1, 1), at_once):",
    ),
    Mutant(
        "state_shared_between_networks",
        "Networks of one size share the memory of their moving statistics.",
        "determinism/alone",
        "network",
        "self.state: Array = (zeros((replicas, counts.non_trainable), dtype) "
        "if first is None else first.state)",
        "own = np.zeros((replicas, counts.non_trainable), dtype)\n"
        "        self.state = self.rule_set.rules.setdefault((own.shape, dtype), own)",
    ),
    Mutant(
        "scratch_shared_between_networks",
        "The optimisers of networks of one size share their scratch memory.",
        "determinism/threads",
        "optimizers",
        "        self.scratch = empty(parameters.shape, parameters.dtype)",
        "        own = empty(parameters.shape, parameters.dtype)\n"
        "        known = globals().setdefault('_SCRATCH', {})\n"
        "        self.scratch = known.setdefault((own.shape, own.dtype), own)",
    ),
    Mutant(
        "kernels_packed_once",
        "Predictions keep the kernels of convolutions of the first one.",
        "trajectory/fit-conv2d",
        "convolution",
        'weights = self._weights(self.tensors["kernel"]).swapaxes(2, 3)\n        replicas',
        'packed = self.__dict__.setdefault("packed", self.tensors["kernel"].copy())\n'
        '        own = self.tensors["kernel"] if training else packed\n'
        "        weights = self._weights(own).swapaxes(2, 3)\n        replicas",
    ),
    Mutant(
        "relu_in_place",
        "In fit, a relu overwrites its input, which another layer may take too.",
        "trajectory/fit-relu",
        "training",
        "x, y = source.batch(order, here, net.shard)",
        "x, y = source.batch(order, here, net.shard)\n"
        "    for rule in net.rules:\n"
        '        if getattr(rule.layer, "function", "") == "relu":\n'
        "            rule.buffer = lambda name, *of, rule=rule: (\n"
        '                rule.x if name == "y" else type(rule).buffer(rule, name, *of)\n'
        "            )",
    ),
    Mutant(
        "optimizer_of_the_first_training",
        "A network keeps the optimiser of its first training.",
        "trajectory/again-otherwise",
        "training",
        "stepper = net.rule_set.steppers[type(recipe.optimizer)](recipe.optimizer, net.parameters)",
        'kept = net.__dict__.setdefault("kept", recipe.optimizer)\n'
        "    stepper = net.rule_set.steppers[type(kept)](kept, net.parameters)",
    ),
    Mutant(
        "seeds_the_process",
        "fit() seeds the generator of the process.",
        "determinism/alone",
        "training",
        "    net.seed([plan.seed for plan in plans])\n",
        "    net.seed([plan.seed for plan in plans])\n    np.random.seed(plans[0].seed)\n",
    ),
    Mutant(
        "replicas_drop_alike",
        "Replicas that train together share the masks of the first.",
        "determinism/replicas-drop-dropout",
        "training",
        "    net.seed([plan.seed for plan in plans])\n",
        "    net.seed([plans[0].seed for plan in plans])\n",
    ),
    Mutant(
        "replicas_share_an_order",
        "Replicas that train together share the order of the first.",
        "determinism/replicas-shuffle",
        "training",
        "return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None",
        "return np.stack([plans[0].order(epoch, samples) for plan in plans]) if shuffle else None",
    ),
)
