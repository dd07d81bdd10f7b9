"""Mistakes in the torch engine that users of torch make."""

from __future__ import annotations

from mutants.mutant import Mutant


def _torch(name: str, what: str, check: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"torch_{name}", what, check, file, old, new, package="torch")


MUTANTS = (
    _torch(
        "concat_of_columns",
        "Images are joined along the columns.",
        "shapes/concat",
        "modules",
        "torch.cat(inputs, channel_axis(inputs[0]))",
        "torch.cat(inputs, dim=-1)",
    ),
    _torch(
        "add_of_two",
        "An addition leaves out inputs beyond the second.",
        "forward/add",
        "modules",
        "sum(inputs[1:], inputs[0])",
        "sum(inputs[1:2], inputs[0])",
    ),
    _torch(
        "merge_takes_the_node_before",
        "The last input of a merge is the output of the node before it.",
        "forward/add",
        "modules",
        "inputs = [values[source] for source in row.sources]",
        "inputs = [values[source] for source in row.sources]\n"
        "            if row.layer.merges and values[-1].shape == inputs[-1].shape:\n"
        "                inputs[-1] = values[-1]",
    ),
    _torch(
        "kernel_not_permuted",
        "A convolution's kernel keeps the order of its axes but for the first two.",
        "shapes/conv2d",
        "layout",
        "KERNEL_IN = {4: (3, 2, 0, 1)",
        "KERNEL_IN = {4: (3, 2, 1, 0)",
    ),
    _torch(
        "weights_share_memory",
        "build() keeps the arrays that it is given instead of copying them.",
        "shapes/copies",
        "initializers",
        "target.copy_(kernel_in(tensor.name, weights[tensor.name]))",
        "target.data = kernel_in(tensor.name, weights[tensor.name]).to(target.dtype)",
    ),
    _torch(
        "weights_are_views",
        "weights() returns views of the parameters where nothing is permuted.",
        "shapes/copies",
        "layout",
        ".detach().cpu().numpy()).copy()",
        ".detach().cpu().numpy())",
    ),
    _torch(
        "flatten_channel_first",
        "Images are flattened in torch's order.",
        "forward/flatten",
        "modules",
        "(x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)",
        "x.flatten(1)",
    ),
    _torch(
        "eval_forgotten",
        "predict() runs in training mode.",
        "forward/batch_norm",
        "engine",
        "net.eval()",
        "net.train()",
    ),
    _torch(
        "input_in_half_precision",
        "The input passes through float16.",
        "forward/dense",
        "layout",
        "shareable(x), dtype=dtype, device=self.device)",
        "shareable(x), dtype=torch.float16, device=self.device).to(dtype)",
    ),
    _torch(
        "batch_norm_default_epsilon",
        "A batch norm has torch's default epsilon, whatever the layer states.",
        "forward/batch_norm",
        "modules",
        "eps=layer.epsilon, ",
        "",
    ),
    _torch(
        "dropout_keeps_the_rate",
        "Dropout is given the rate to keep.",
        "forward/dropout",
        "modules",
        "TorchDropout(layer.drop_rate)",
        "TorchDropout(1.0 - layer.drop_rate)",
    ),
    _torch(
        "softmax_before_cross_entropy",
        "Outputs pass through a softmax before the cross-entropy that has its own.",
        "loss/sparse_categorical_crossentropy",
        "losses",
        "losses.SparseCategoricalCrossEntropy: _cross_entropy",
        "losses.SparseCategoricalCrossEntropy: lambda loss, out, y: "
        "_cross_entropy(loss, out.softmax(1), y)",
    ),
    _torch(
        "zero_grad_missing",
        "Gradients accumulate from step to step.",
        "step/sgd",
        "training",
        "optimizer.zero_grad()\n        losses",
        "losses",
    ),
    _torch(
        "dampening_dropped",
        "SGD ignores its dampening.",
        "step/dampening",
        "optimizers",
        "record.momentum, record.dampening,",
        "record.momentum, 0.0,",
    ),
    _torch(
        "adamw",
        "Adam is AdamW, with torch's decay of 0.01.",
        "step/adam",
        "optimizers",
        "ADAM = {False: torch.optim.Adam, True: torch.optim.AdamW}",
        "ADAM = {\n"
        "    False: lambda groups, *options, **named: torch.optim.AdamW(\n"
        '        [{**group, "weight_decay": 0.01} for group in groups], *options, **named\n'
        "    ),\n"
        "    True: torch.optim.AdamW,\n"
        "}",
    ),
    _torch(
        "amsgrad",
        "Adam keeps the largest second moment.",
        "step/adam",
        "optimizers",
        "(record.beta_1, record.beta_2), record.epsilon",
        "(record.beta_1, record.beta_2), record.epsilon, amsgrad=True",
    ),
    _torch(
        "batch_norm_decay_swapped",
        "torch's momentum, the weight of the new statistic, is given that of the old.",
        "state/batch_norm",
        "modules",
        "momentum=1.0 - layer.moving_decay",
        "momentum=layer.moving_decay",
    ),
    _torch(
        "train_forgotten",
        "A training after a prediction runs in inference mode.",
        "state/mode",
        "training",
        "        net.train()\n",
        "",
    ),
    _torch(
        "seeded_each_epoch",
        "The generator is seeded at the start of every epoch: the same masks and the same order "
        "again.",
        "state/dropout-in-fit",
        "training",
        "        net.train()\n",
        "        net.train()\n        torch.manual_seed(plan.seed)\n",
    ),
    _torch(
        "default_initializers",
        "Tensors start by the defaults of torch's modules, unless they start as a constant.",
        "initializer/uniform",
        "initializers",
        "_draw(tensor, target, generator)",
        'if tensor.initializer.distribution(tensor.fans).family == "constant":\n'
        "                    _draw(tensor, target, generator)",
    ),
    _torch(
        "rate_after_the_step",
        "The scheduler is one step ahead.",
        "schedule/triangular",
        "training",
        "epoch.rates",
        "[recipe.rate(epoch.first + step + 1) for step in range(len(epoch.sizes))]",
    ),
    _torch(
        "seed_ignored",
        "Every plan trains with the same seed.",
        "trajectory/order",
        "training",
        "RandomState(placement.device, plan.seed)",
        "RandomState(placement.device, 0)",
    ),
    _torch(
        "running_loss_unweighted",
        "The running loss is the mean of the batches' means.",
        "evaluation/categorical_crossentropy",
        "../epochs",
        "total += loss * weight",
        "total += loss * (sum(weights) / len(self.sizes))",
    ),
    _torch(
        "ignored_labels_in_the_divisor",
        "The mean divides by all labels, also by those that are ignored.",
        "loss/categorical_crossentropy-ignored_label",
        "losses",
        "kept = y != _ignored(loss)",
        "kept = y == y",
    ),
    _torch(
        "smoothing_lost_with_weights",
        "With weights of classes, labels are not smoothed.",
        "loss/categorical_crossentropy-label_smoothing-ignored_label-class_weights",
        "losses",
        "label_smoothing=loss.label_smoothing",
        "label_smoothing=0.0 if weights is not None else loss.label_smoothing",
    ),
    _torch(
        "class_weights_divided_by_samples",
        "The sum that the weights of classes make is divided by the number of labels.",
        "loss/categorical_crossentropy-class_weights",
        "losses",
        "divisor = answer_weights(loss, y, out.dtype).sum()",
        "divisor = (y != _ignored(loss)).sum()",
    ),
    _torch(
        "labels_of_sequences_transposed",
        "The labels of sequences are joined position by position, the outputs sample by sample.",
        "loss/categorical_crossentropy-positions",
        "losses",
        "out.flatten(0, -2), y.flatten()",
        "out.flatten(0, -2), y.movedim(0, -1).flatten()",
    ),
    _torch(
        "smooth_l1",
        "Huber's loss is torch's SmoothL1Loss.",
        "loss/huber",
        "losses",
        "functional.huber_loss(out, y, delta=loss.delta)",
        "functional.smooth_l1_loss(out, y, beta=loss.delta)",
    ),
    _torch(
        "binary_of_probabilities",
        "The binary cross-entropy takes the sigmoid first, and is bounded by 100.",
        "loss/binary_crossentropy",
        "losses",
        "functional.binary_cross_entropy_with_logits(out, y.reshape(out.shape))",
        "functional.binary_cross_entropy(out.sigmoid(), y.reshape(out.shape))",
    ),
)
