"""The optimisers."""

from __future__ import annotations

from mutants.mutant import Mutant

_ADAM_DIVIDES = "np.divide(self.mean, scratch, out=scratch)"

MUTANTS = (
    Mutant(
        "sgd_weight_decay",
        "The gradient contains a coupled weight decay.",
        "step/sgd",
        "optimizers",
        "        self.steps += 1\n        if velocity is None:",
        "        self.steps += 1\n        gradient += 1e-4 * parameters\n        if velocity is "
        "None:",
    ),
    Mutant(
        "sgd_momentum_averages",
        "The velocity is a moving average: each gradient is weighted by 1 - momentum.",
        "step/momentum",
        "optimizers",
        "gradient *= -rate",
        "gradient *= -rate * (1 - momentum)",
    ),
    Mutant(
        "sgd_nesterov_without_gradient",
        "Nesterov's step lacks the gradient itself.",
        "step/nesterov",
        "optimizers",
        "                parameters += self.scratch\n                parameters += gradient",
        "                parameters += self.scratch",
    ),
    Mutant(
        "sgd_first_velocity_dampened",
        "The first velocity is dampened too, where torch's is the gradient.",
        "step/dampening",
        "optimizers",
        "1.0 if self.steps == 1 else 1.0 - optimizer.dampening",
        "1.0 - optimizer.dampening",
    ),
    Mutant(
        "sgd_velocity_of_the_other_convention",
        "The velocity contains the learning rate in both conventions.",
        "schedule/triangular",
        "optimizers",
        'elif optimizer.velocity == "rate":',
        "elif not optimizer.dampening:",
    ),
    Mutant(
        "adam_without_bias_correction",
        "The moments are not corrected for their start at zero.",
        "step/adam",
        "optimizers",
        "mean_correction, square_correction = (1.0 - beta**self.steps for beta in self.corrected)",
        "mean_correction, square_correction = 1.0, 1.0",
    ),
    Mutant(
        "adam_bias_correction_a_step_late",
        "The bias correction counts the updates from 2.",
        "step/adam",
        "optimizers",
        "1.0 - beta**self.steps for",
        "1.0 - beta ** (self.steps + 1) for",
    ),
    Mutant(
        "adam_epsilon_inside_root",
        "Epsilon is added under the root.",
        "step/adam",
        "optimizers",
        f"scratch += optimizer.epsilon\n        {_ADAM_DIVIDES}",
        f"np.sqrt(scratch * scratch + optimizer.epsilon, out=scratch)\n        {_ADAM_DIVIDES}",
    ),
    Mutant(
        "adam_epsilon_of_the_other_convention",
        "Epsilon is added to the corrected root instead of the uncorrected one.",
        "step/adam",
        "optimizers",
        'optimizer.epsilon_added == "after"',
        'optimizer.epsilon_added == "before"',
    ),
    Mutant(
        "adam_decoupled_weight_decay",
        "Adam is AdamW, with a decay of 0.01.",
        "step/adam",
        "optimizers",
        _ADAM_DIVIDES,
        f"{_ADAM_DIVIDES}\n        parameters *= 1.0 - 0.01 * learning_rate",
    ),
    Mutant(
        "adam_coupled_weight_decay",
        "Adam's gradient contains a coupled weight decay.",
        "step/adam",
        "optimizers",
        "np.multiply(gradient, 1.0 - optimizer.beta_1, out=scratch)",
        "gradient += 1e-4 * parameters\n        np.multiply(gradient, 1.0 - optimizer.beta_1, "
        "out=scratch)",
    ),
    Mutant(
        "adam_keeps_largest_square",
        "Adam is AMSGrad: the largest second moment is used.",
        "step/adam",
        "optimizers",
        'np.sqrt(self.square, out=scratch)\n        if optimizer.epsilon_added == "after":',
        'self.largest = np.maximum(self.square, getattr(self, "largest", 0.0))\n'
        "        np.sqrt(self.largest, out=scratch)\n"
        '        if optimizer.epsilon_added == "after":',
    ),
    Mutant(
        "rmsprop_epsilon_of_the_other_convention",
        "Epsilon is added outside the root where it should be inside.",
        "step/rmsprop",
        "optimizers",
        'optimizer.epsilon_added == "inside"',
        'optimizer.epsilon_added == "outside"',
    ),
    Mutant(
        "rmsprop_starts_at_one",
        "The moving square starts at one, as in TensorFlow 1.",
        "step/rmsprop",
        "optimizers",
        '        """Allocate the state."""\n'
        "        self.square = zeros(parameters.shape, parameters.dtype)",
        '        """Allocate the state."""\n        self.square = np.ones_like(parameters)',
    ),
    Mutant(
        "rmsprop_centred",
        "The moving square is that of the centred gradient.",
        "step/rmsprop",
        "optimizers",
        "        self.square *= optimizer.rho\n        np.multiply(gradient, gradient, "
        "out=scratch)",
        "        self.square *= optimizer.rho\n"
        "        np.multiply(gradient - gradient.mean(), gradient - gradient.mean(), out=scratch)",
    ),
    Mutant(
        "momentum_lost_after_50_steps",
        "After 50 steps, the velocity is reset at every step.",
        "trajectory/long-momentum",
        "optimizers",
        "            velocity *= momentum\n            velocity += gradient",
        "            velocity *= momentum if self.steps <= 50 else 0.0\n            velocity += "
        "gradient",
    ),
)
