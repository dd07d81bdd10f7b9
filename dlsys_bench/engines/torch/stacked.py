"""R networks of one model as one program: torch.func applies one module to the stacked tensors of
all networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.torch.initializers import initialize
from dlsys_bench.engines.torch.layout import TorchInputs, TorchPlacement, kernel_out
from dlsys_bench.engines.torch.modules import TorchNetwork
from dlsys_bench.engines.torch.steps import TorchMasks
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.model import Model

TorchTensors = dict[str, Tensor]


class StackedNetworks:
    """The tensors of R networks. `parameters` (R, P) has all trained tensors, for one update of the
    optimiser. `state` has the others by torch's names, (R, ...) each: batch norm can write only to
    whole tensors."""

    def __init__(
        self, models: Sequence[Model], plans: Sequence[Plan], placement: TorchPlacement
    ) -> None:
        self.model = model = models[0]
        self.net = TorchNetwork(model, placement.products).to(placement.dtype)
        own, paths = self.net.tensors, self.net.paths
        self.shapes = {paths[t.name]: own[t.name].shape for t in model.tensors if t.trainable}
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        parameters = torch.empty(len(plans), sum(self.sizes), dtype=placement.dtype, device="cpu")
        state = {
            paths[t.name]: torch.empty(len(plans), *t.shape, dtype=placement.dtype, device="cpu")
            for t in model.tensors
            if not t.trainable
        }
        tensors = {**self.named(parameters), **state}
        rows = {name: tensors[path].unbind() for name, path in paths.items()}
        for replica, (each, plan) in enumerate(zip(models, plans, strict=True)):
            weights = plan.weights(each) if plan.parity else None
            initialize(each, {name: row[replica] for name, row in rows.items()}, weights, plan.seed)
        self.net.to(placement.device)
        self.parameters = parameters.to(placement.device).requires_grad_()
        self.state = {path: tensor.to(placement.device) for path, tensor in state.items()}

    def named(self, parameters: Tensor) -> TorchTensors:
        """Return views (..., *shape) of parameters (..., P), by torch's names."""
        parts = parameters.split(self.sizes, -1)  # type: ignore[no-untyped-call]
        return {
            path: part.view(*part.shape[:-1], *shape)
            for (path, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def decaying(self, decay: WeightDecay | None) -> Tensor:
        """Return one (P,) for each parameter that decays, and zero for the others."""
        found = torch.zeros_like(self.parameters[0], requires_grad=False)
        for path, part in self.named(found).items():
            name = next(own for own, known in self.net.paths.items() if known == path)
            if decay is not None and decay.applies(name, part.ndim):
                part.fill_(1.0)
        return found

    def weights(self, replica: int) -> Weights:
        """Copy every tensor of one network."""
        own = {
            **self.named(self.parameters[replica]),
            **{path: t[replica] for path, t in self.state.items()},
        }
        return {name: kernel_out(name, own[path]) for name, path in self.net.paths.items()}

    def load(self, weights: Weights, replica: int) -> None:
        """Set every tensor of one network."""
        own = {**self.named(self.parameters.detach()), **self.state}
        rows = {name: own[path][replica] for name, path in self.net.paths.items()}
        initialize(self.model, rows, weights, 0)

    def copy(self) -> tuple[Tensor, TorchTensors]:
        """Copy the parameters and the state."""
        return self.parameters.detach().clone(), {
            path: tensor.clone() for path, tensor in self.state.items()
        }

    def restore(self, replicas: list[int], copied: tuple[Tensor, TorchTensors]) -> None:
        """Restore some of the networks from a copy."""
        if replicas:
            parameters, state = copied
            with torch.no_grad():
                self.parameters[replicas] = parameters[replicas]
                for path, tensor in self.state.items():
                    tensor[replicas] = state[path][replicas]

    def losses(
        self,
        loss_of: Callable[[Tensor, Tensor], Tensor],
        x: TorchInputs,
        y: Tensor,
        own: bool,
        masks: TorchMasks,
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of each network (R,) and its outputs (R, N, ...) in training mode. x and
        y are (N, ...) for all networks or, if `own`, (R, N, ...)."""

        def one(
            parameters: Tensor, state: TorchTensors, x: TorchInputs, y: Tensor, masks: TorchMasks
        ) -> tuple[Tensor, Tensor]:
            outputs = functional_call(self.net, self.named(parameters) | state, (x, masks))
            return loss_of(outputs, y), outputs

        self.net.train()
        axis = 0 if own else None
        mapped = torch.vmap(one, (0, 0, axis, axis, 0), randomness="different")
        found: tuple[Tensor, Tensor] = mapped(self.parameters, self.state, x, y, masks)
        return found

    def outputs(self, x: TorchInputs, own: bool, every: bool = False) -> list[Tensor]:
        """Compute the outputs (R, N, ...) of the networks, or of every layer, outside training."""

        def one(parameters: Tensor, state: TorchTensors, x: TorchInputs) -> list[Tensor]:
            outputs: list[Tensor] = []
            tensors = self.named(parameters) | state
            last = functional_call(self.net, tensors, (x, {}, outputs if every else None))
            return outputs if every else [last]

        self.net.eval()
        with torch.inference_mode():
            found: list[Tensor] = torch.vmap(one, (0, 0, 0 if own else None))(
                self.parameters, self.state, x
            )
        return found
