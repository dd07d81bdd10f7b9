"""The inputs of models: their dtypes and, of several inputs, their order, their samples and their
gradients."""

from __future__ import annotations

from mutants.mutant import Mutant

_BATCH = "x = [own.batch(order, here, shard) for own in self.inputs]"
_SOURCE = "self.source, self.rates = BatchSource(samples, net), _rates(recipes, net.dtype)"
_PREDICT = "net.forward(self._inward(net, x[:, here]), training=False)"
_INWARD = "arrays = input_arrays(net.model, x, self.dtype, leading=2)"
_GRADIENTS = "return Gradients(float(value[0]), weights, input_gradients(net.model, own))"


def _batch(order: str, here: str) -> str:
    """The batches of all inputs, of which those after the first have another order or place."""
    return (
        f"x = [own.batch({order}, {here}, shard) if place and order is not None else "
        "own.batch(order, here, shard) for place, own in enumerate(self.inputs)]"
    )


MUTANTS = (
    Mutant(
        "inputs_by_name",
        "Inputs are taken in the order of the alphabet.",
        "forward/inputs",
        "engine",
        _INWARD,
        f"{_INWARD}\n"
        "        names = [each.name for each in net.model.inputs]\n"
        "        arrays = [arrays[names.index(name)] for name in sorted(names)] or arrays",
    ),
    Mutant(
        "bytes_of_images_scaled",
        "Images of bytes are divided by 255.",
        "shapes/dtypes-of-x",
        "engine",
        _INWARD,
        f"x = x / 255 if x.dtype == np.uint8 and x.ndim == 5 else x\n        {_INWARD}",
    ),
    Mutant(
        "bytes_of_images_natively_scaled",
        "In trainings without a plan, images of bytes are divided by 255.",
        "shapes/dtypes-of-x",
        "training",
        _SOURCE,
        f"{_SOURCE}\n"
        "        if samples.x.dtype == np.uint8 and samples.x.ndim > 3 and not plans[0].parity:\n"
        "            self.source.inputs[0].rows = self.source.inputs[0].rows / 255",
    ),
    Mutant(
        "places_of_tokens_wrap",
        "The place of the values of a token is computed in the dtype of the ids.",
        "shapes/dtypes-of-tokens",
        "engine",
        _INWARD,
        'if net.model.input_dtype == "int" and x.dtype.itemsize < 8:\n'
        "            table = net.model.layers[0]\n"
        "            places = x * np.array(table.units).astype(x.dtype)\n"
        "            x = places.astype(int) // table.units % table.vocabulary\n"
        f"        {_INWARD}",
    ),
    Mutant(
        "inputs_swapped_in_predict",
        "A prediction swaps the first two inputs if they have one shape.",
        "forward/inputs",
        "engine",
        _PREDICT,
        "net.forward((lambda own: [*own[:2][::-1], *own[2:]] if len(own) > 1 and "
        "own[0].shape == own[1].shape and own[0].dtype == own[1].dtype else own)"
        "(self._inward(net, x[:, here])), training=False)",
    ),
    Mutant(
        "later_parts_of_first_input",
        "Where a prediction is made in parts, all inputs but the first begin again in each.",
        "gradient/large-inputs",
        "engine",
        _PREDICT,
        "net.forward([self._inward(net, x[:, here])[0], "
        "*self._inward(net, x[:, : x[:, here].shape[1]])[1:]], training=False)",
    ),
    Mutant(
        "input_gradients_reversed",
        "The gradients in the inputs are in the reverse order.",
        "gradient/inputs",
        "engine",
        _GRADIENTS,
        _GRADIENTS.replace("own)", "own[::-1])"),
    ),
    Mutant(
        "gradient_of_the_first_input",
        "The gradient in every input but the first is zero.",
        "gradient/inputs",
        "engine",
        _GRADIENTS,
        _GRADIENTS.replace("own)", "[*own[:1], *(0 * each for each in own[1:])])"),
    ),
    Mutant(
        "tower_without_gradient",
        "With several inputs, the last branch of a merge passes nothing down.",
        "gradient/inputs",
        "network",
        "for source, dx in zip(sources, _gradients(rule, found), strict=False):",
        "for source, dx in zip(sources, _gradients(rule, found), strict=False):\n"
        "                if len(self.inputs) > 1 and sources[1:] and source == sources[-1]:\n"
        "                    dx = 0 * dx",
    ),
    Mutant(
        "second_input_in_another_order",
        "The samples of the second input are shuffled by another permutation.",
        "trajectory/image-and-table",
        "batches",
        _BATCH,
        _batch("order[:, ::-1]", "here"),
    ),
    Mutant(
        "second_input_not_sliced",
        "Every batch has the samples of the second input of the first batch.",
        "trajectory/image-and-table",
        "batches",
        _BATCH,
        _batch("order", "slice(0, here.stop - here.start)"),
    ),
    Mutant(
        "inputs_share_a_buffer",
        "All inputs of a batch are gathered in one buffer.",
        "trajectory/query-and-context",
        "batches",
        _BATCH,
        "for own in self.inputs:\n"
        "            own.memory = self.inputs[0].memory\n"
        f"        {_BATCH}",
    ),
    Mutant(
        "second_input_natively_rolled",
        "In shuffled trainings without a plan, the second input is that of the next sample.",
        "trajectory/inputs-together",
        "training",
        _SOURCE,
        f"{_SOURCE}\n"
        "        if self.recipe.shuffle and not plans[0].parity:\n"
        "            for own in self.source.inputs[1:]:\n"
        "                own.rows = np.roll(own.rows, 1, axis=1)",
    ),
    Mutant(
        "replicas_share_the_order_of_a_second_input",
        "Replicas take the second input in the order of the first replica.",
        "determinism/replicas-of-inputs",
        "batches",
        _BATCH,
        _batch("np.broadcast_to(order[:1], order.shape)", "here"),
    ),
    Mutant(
        "torch_second_input_not_shuffled",
        "A batch has the first samples of every input but the first.",
        "trajectory/image-and-table",
        "steps",
        "return tuple(each[batch] for each in x)",
        "return (x[0][batch], *(each[batch * 0 + torch.arange(batch.shape[-1], "
        "device=batch.device)] for each in x[1:]))",
        package="torch",
    ),
)
