"""Branching networks, whose values several nodes take, and embeddings of token ids."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "torch_last_activation_is_left_out",
        "An activation that is the last layer is left out, except in a trace.",
        "trajectory/ends-in-activation",
        "modules",
        "        return values[-1]",
        (
            "        fused = isinstance(row.layer, layers.Activation) and outputs is None\n"
            "        return inputs[0] if fused else values[-1]"
        ),
        package="torch",
    ),
    Mutant(
        "dropout_by_name",
        "Only a layer whose name begins with its kind drops anything.",
        "trajectory/renamed-every-draw",
        "network",
        "if isinstance(rule, MaskedRule) and row.mask is not None",
        "if isinstance(rule, MaskedRule) and row.name.startswith(row.layer.kind)",
    ),
    Mutant(
        "gradient_overwritten",
        "The gradient of a value that two layers take is that of the last one.",
        "gradient/add",
        "network",
        "gradients[source] += dx",
        "gradients[source] = dx",
    ),
    Mutant(
        "gradient_of_first_user",
        "The gradient of a value that two layers take is that of the first one.",
        "gradient/add",
        "network",
        "gradients[source] += dx",
        "pass",
    ),
    Mutant(
        "gradient_averaged",
        "The gradients of a value that two layers take are averaged.",
        "gradient/add",
        "network",
        "gradients[source] += dx",
        "gradients[source] = (gradients[source] + dx) / 2",
    ),
    Mutant(
        "gradient_of_value_taken_twice_by_one",
        "A layer that takes one value twice passes its gradient down once.",
        "gradient/add",
        "network",
        "in zip(sources, _gradients(rule, found), strict=False):",
        "in dict(zip(sources, _gradients(rule, found), strict=False)).items():",
    ),
    Mutant(
        "shortcut_without_gradient",
        "Nothing is passed below a merge whose first branch has no parameters.",
        "state/smallest-add-of-the-input",
        "network",
        "any(wanted[source] for source in sources)",
        "wanted[sources[0]]",
    ),
    Mutant(
        "takes_the_node_before",
        "Every layer of one input takes the output of the node before it.",
        "shapes/concat",
        "network",
        "return taken if rule.layer.merges else taken[0]",
        "return taken if rule.layer.merges else values[max(values)]",
    ),
    Mutant(
        "add_of_two",
        "An addition leaves out inputs beyond the second.",
        "forward/add",
        "merging",
        "for other in others:",
        "for other in ():",
    ),
    Mutant(
        "add_is_a_mean",
        "The gradient of an addition is that of a mean.",
        "gradient/add",
        "merging",
        "return [dy, *copies]",
        "return [each / self.count for each in (dy, *copies)]",
    ),
    Mutant(
        "add_shares_its_gradient",
        "The branches of an addition get one array, in which the layers below write.",
        "gradient/add",
        "merging",
        "return [dy, *copies]",
        "return [dy] * self.count",
    ),
    Mutant(
        "concat_gradients_swapped",
        "The gradients of the inputs of a concatenation of equal widths are swapped.",
        "gradient/concat",
        "merging",
        "        return found",
        "        alike = len({each.shape for each in found}) == 1\n"
        "        return found[::-1] if alike else found",
    ),
    Mutant(
        "concat_last_first",
        "A concatenation begins with the last input.",
        "forward/concat",
        "merging",
        "zip(x, self._parts(y), strict=True)",
        "zip(x[::-1], np.split(y, np.cumsum([e.shape[1] for e in x[::-1]])[:-1], axis=1))",
    ),
    Mutant(
        "add_float16",
        "In float32, an addition rounds its inputs to float16.",
        "forward/add@float32",
        "merging",
        "np.add(first, second, out=y)",
        "if y.dtype == np.float32:\n"
        "            first, second = (v.astype(np.float16).astype(v.dtype) "
        "for v in (first, second))\n"
        "        np.add(first, second, out=y)",
    ),
    Mutant(
        "embedding_gradient_overwritten",
        "Of a token that occurs several times, only the last one moves the embedding.",
        "gradient/embedding",
        "embedding",
        "np.add.at(own, ids, dy[replica].reshape(self.layer.units, -1).T)",
        "own[ids] = dy[replica].reshape(self.layer.units, -1).T",
    ),
    Mutant(
        "embedding_gradient_not_cleared",
        "The gradient of an embedding is added to that of the step before.",
        "step/decay-decoupled-kernels",
        "embedding",
        "own.fill(0)",
        "pass",
    ),
    Mutant(
        "embedding_of_the_next_token",
        "Token ids count from one.",
        "forward/embedding",
        "embedding",
        "np.take(own.T, x[replica % len(x)], axis=1",
        "np.take(own.T, x[replica % len(x)] - 1, axis=1",
    ),
    Mutant(
        "dense_of_the_first_position",
        "The bias of a dense layer is added at the first position of a sequence alone.",
        "forward/dense",
        "dense",
        'y += self.tensors["bias"][..., None]',
        "y[..., : y.shape[-1] // (after[0] if after[1:] else 1)] += "
        'self.tensors["bias"][..., None]',
    ),
)
