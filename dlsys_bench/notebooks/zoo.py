"""Every model of the five notebooks (nb0 ... nb4), by name."""

from __future__ import annotations

from dlsys_bench.spec.initializers import (
    FanInUniform,
    GlorotNormal,
    HeUniform,
    Initializer,
    Uniform,
)
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.model import Model

IMAGE = (28, 28, 1)
BATCH_NORM_TORCH = BatchNorm(epsilon=1e-5, moving_decay=0.9)

Layers = list[Layer]


def _conv(filters: int, padding: str = "valid", start: Initializer | None = None) -> Layer:
    options = {} if start is None else {"kernel_initializer": start}
    return Conv2D.of(filters=filters, kernel_size=5, padding=padding, **options)


def _entry(arm: str) -> Layers:
    """The layers of an arm that come before the first convolution."""
    entries: dict[str, Layers] = {
        "standard+bn": [],
        "bn+bn": [BatchNorm()],
        "dropout": [Dropout(0.2)],
    }
    return entries[arm]


def lenet5_overlap_tanh(arm: str) -> Model:
    """LeNet-5 of nb0: an overlapping first pool, tanh, batch norm after every activation and
    pool."""
    bn: Layers = [] if arm == "dropout" else [BatchNorm()]
    drop: Layers = [Dropout(0.5)] if "dropout" in arm else []
    entry = [BatchNorm(), Dropout(0.2)] if arm == "bn+dropout" else _entry(arm)
    tanh = Activation("tanh")
    layers = [
        *entry,
        _conv(6, "same"),
        tanh,
        *bn,
        AveragePool((2, 2), (1, 1)),
        *bn,
        *drop,
        _conv(16),
        tanh,
        *bn,
        AveragePool((2, 2), (2, 2)),
        *bn,
        *drop,
        _conv(120),
        tanh,
        *bn,
        Flatten(),
        *drop,
        Dense(84),
        tanh,
        *bn,
        *drop,
        Dense(10),
    ]
    return Model(f"lenet5-overlap-tanh/{arm}", IMAGE, tuple(layers))


def lenet5_tanh(arm: str) -> Model:
    """LeNet-5 of nb2: tanh, then dropout and batch norm after every activation."""
    hidden: Layers = [
        Activation("tanh"),
        *([Dropout(0.5)] if "dropout" in arm else []),
        *([] if arm == "dropout" else [BatchNorm()]),
    ]
    entry = [Dropout(0.2), BatchNorm()] if arm == "bn+dropout" else _entry(arm)
    layers = [
        *entry,
        _conv(6, "same"),
        *hidden,
        AveragePool(),
        _conv(16),
        *hidden,
        AveragePool(),
        _conv(120),
        *hidden,
        Flatten(),
        Dense(84),
        *hidden,
        Dense(10),
    ]
    return Model(f"lenet5-tanh/{arm}", IMAGE, tuple(layers))


def lenet5_sigmoid(arm: str, padding: str = "valid") -> Model:
    """LeNet-5 of nb4: sigmoid, with batch norm before and dropout after every activation.

    The notebook's listing is cut off before the `padding` of the first convolution. With "valid"
    the published training curves are reproduced, with "same" they are not.
    """
    hidden: Layers = [
        *([] if arm == "dropout" else [BatchNorm()]),
        Activation("sigmoid"),
        *([Dropout(0.5)] if "dropout" in arm else []),
    ]
    entry = [BatchNorm(), Dropout(0.2)] if arm == "bn+dropout" else _entry(arm)
    layers = [
        *entry,
        _conv(6, padding),
        *hidden,
        AveragePool(),
        _conv(16),
        *hidden,
        AveragePool(),
        Flatten(),
        Dense(120),
        *hidden,
        Dense(84),
        *hidden,
        Dense(10),
    ]
    return Model(f"lenet5-sigmoid/{arm}", IMAGE, tuple(layers))


def fashion_ffn() -> Model:
    """The feed-forward network of nb1: 784-128-64-10, ReLU."""
    relu = Activation("relu")
    return Model("fashion/ffn", IMAGE, (Flatten(), Dense(128), relu, Dense(64), relu, Dense(10)))


def fashion_lenet5_relu(arm: str) -> Model:
    """LeNet-5 of nb1: ReLU, max pools and a second convolution with padding "same"."""
    relu, he = Activation("relu"), HeUniform()
    first = Uniform(-0.05, 0.05) if arm == "lenet5-relu+bn" else he
    extra: dict[str, Layers] = {
        "lenet5-relu+dropout": [Dropout(0.1)],
        "lenet5-relu+bn": [BatchNorm()],
    }
    after = extra.get(arm, [])
    last: Layers = [Dropout(0.5)] if arm == "lenet5-relu+dropout" else []
    layers = [
        _conv(6, "same", first),
        relu,
        *after,
        MaxPool(),
        _conv(16, "same", he),
        relu,
        *after,
        MaxPool(),
        _conv(120, "valid", he),
        relu,
        Flatten(),
        Dense(84),
        relu,
        *last,
        Dense(10),
    ]
    return Model(f"fashion/{arm}", IMAGE, tuple(layers))


def fashion_mlp(arm: str) -> Model:
    """The MLP of nb3: 784-196-49-10, ReLU; with dropout twice as wide and one layer deeper."""
    widths = (392, 98, 24) if arm == "dropout" else (196, 49)
    extra: dict[str, Layers] = {
        "vanilla": [],
        "dropout": [Dropout(0.5)],
        "bn": [BatchNorm()],
        "bn+dropout": [Dropout(0.5), BatchNorm()],
    }
    after = extra[arm]
    hidden = [layer for width in widths for layer in (Dense(width), Activation("relu"), *after)]
    return Model(f"fashion-mlp/{arm}", IMAGE, (Flatten(), *hidden, Dense(10)))


def two_layer_sigmoid(inputs: int = 4, hidden: int = 3, outputs: int = 2) -> Model:
    """Two dense sigmoid layers (nb1). The notebook prints three hidden units but no other width."""
    sigmoid = Activation("sigmoid")
    return Model("two-layer-sigmoid", (inputs,), (Dense(hidden), sigmoid, Dense(outputs), sigmoid))


def perceptron() -> Model:
    """The perceptron of nb2 and nb4: w.x on two inputs, without a bias."""
    return Model("perceptron", (2,), (Dense(1, use_bias=False),))


def deep_dense(activation: str, start: Initializer | None = None) -> Model:
    """A linear layer of 100 units, five of 100 with the activation, ten outputs (nb2, nb4)."""
    start = start or GlorotNormal()
    hidden: Layers = [
        layer
        for _ in range(5)
        for layer in (Dense(100, kernel_initializer=start), Activation.of(function=activation))
    ]
    layers = [
        Flatten(),
        Dense(100, kernel_initializer=start),
        *hidden,
        Dense(10, kernel_initializer=start),
    ]
    return Model(f"initialization/{activation}", IMAGE, tuple(layers))


def narrow(
    activation: str,
    depth: int = 10,
    width: int = 2,
    start: Initializer | None = None,
    linear_first: bool = False,
) -> Model:
    """Many hidden layers of width 2 on one input (nb2), after a linear layer in nb4."""
    options = {} if start is None else {"kernel_initializer": start}
    hidden: Layers = [
        layer
        for _ in range(depth)
        for layer in (Dense.of(units=width, **options), Activation.of(function=activation))
    ]
    front: Layers = [Dense.of(units=width, **options)] if linear_first else []
    name = f"dying-relu/{'linear+' if linear_first else ''}{activation}"
    return Model(name, (1,), (*front, *hidden, Dense.of(units=1, **options)))


EGGHOLDER_WIDTHS: tuple[tuple[int, ...], ...] = (
    (64,),
    (128,),
    (256,),
    (512,),
    (16, 16),
    (32, 32),
    (64, 64),
    (128, 128),
    (256, 256),
    (16, 16, 16),
    (32, 32, 16),
    (64, 32, 64),
    (64, 128, 64),
    (128, 256, 128),
)


def eggholder(widths: tuple[int, ...]) -> Model:
    """The regression networks of nb4 (torch): two inputs, one output, and batch norm before ReLU if
    there is more than one hidden layer."""

    def dense(units: int) -> Layer:
        return Dense(units, kernel_initializer=FanInUniform(), bias_initializer=FanInUniform())

    bn: Layers = [BATCH_NORM_TORCH] if len(widths) > 1 else []
    hidden = [layer for width in widths for layer in (dense(width), *bn, Activation("relu"))]
    return Model("eggholder/" + "-".join(map(str, widths)), (2,), (*hidden, dense(1)))


LENET_ARMS = ("standard+bn", "bn+bn", "dropout", "bn+dropout")

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        *(lenet5_overlap_tanh(arm) for arm in LENET_ARMS),
        *(lenet5_tanh(arm) for arm in LENET_ARMS),
        *(lenet5_sigmoid(arm) for arm in LENET_ARMS),
        fashion_ffn(),
        *(
            fashion_lenet5_relu(arm)
            for arm in ("lenet5-relu", "lenet5-relu+dropout", "lenet5-relu+bn")
        ),
        *(fashion_mlp(arm) for arm in ("vanilla", "dropout", "bn", "bn+dropout")),
        two_layer_sigmoid(),
        perceptron(),
        *(deep_dense(activation) for activation in ("tanh", "sigmoid", "relu")),
        *(
            narrow(activation, linear_first=first)
            for activation in ("relu", "leaky_relu")
            for first in (False, True)
        ),
        *(eggholder(widths) for widths in EGGHOLDER_WIDTHS),
    )
}
