"""The datasets by name: files, checksums, mirrors and licence of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from dlsys_bench.entry_points import collect

ADVICE = (
    "give a folder that has the files (--data-dir, or the variable DLSYS_BENCH_DATA), "
    'or use the dataset "digits", which needs no network'
)
"""The end of the messages about a dataset that cannot be downloaded."""


@dataclass(frozen=True)
class Source:
    """The origin of a dataset.

    `files` has the SHA-256 of each gzipped IDX file, in the order x_train, y_train, x_test, y_test,
    and `contents` the SHA-256 of what each holds, by which it is recognised if it was unpacked or
    compressed again. Every one of the `mirrors` is a base URL ending in "/" that serves all files.
    An embedded dataset has a `factory` instead, the name "package.module:NAME" of a callable that
    returns it. Files in another format have a `reader`, the name of a callable that returns the
    dataset, given this record and the paths of its files. `shape` is the shape of one sample:
    (height, width, channels), (units,), or (positions,) of token ids.
    """

    name: str
    title: str
    folder: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    licence: str
    citation: str
    files: Mapping[str, str] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()
    factory: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)
    reader: str = ""


IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
"""The names of the files of MNIST, and of datasets in its format."""

MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FASHION_MNIST_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
# The SHA-256 of the decompressed files.
MNIST_CONTENTS = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION_MNIST_CONTENTS = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)

_GARMENTS = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"

_SOURCES = (
    Source(
        name="mnist",
        title="MNIST",
        folder="mnist",
        classes=tuple("0123456789"),
        shape=(28, 28, 1),
        licence="CC BY-SA 3.0 (Yann LeCun, Corinna Cortes), as the Keras documentation gives it",
        citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document "
        "recognition. Proc. IEEE 86(11), 1998",
        files=dict(zip(IDX_FILES, MNIST_SHA256, strict=True)),
        contents=dict(zip(IDX_FILES, MNIST_CONTENTS, strict=True)),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    Source(
        name="fashion_mnist",
        title="Fashion-MNIST",
        folder="fashion-mnist",
        classes=tuple(_GARMENTS.split(",")),
        shape=(28, 28, 1),
        licence="MIT (Zalando SE)",
        citation="Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking "
        "machine learning algorithms. arXiv:1708.07747, 2017",
        files=dict(zip(IDX_FILES, FASHION_MNIST_SHA256, strict=True)),
        contents=dict(zip(IDX_FILES, FASHION_MNIST_CONTENTS, strict=True)),
        # The official bucket does not support https, so that GitHub's copy comes first. Integrity
        # does not depend on the mirror, since the checksum is verified.
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
    ),
    Source(
        name="digits",
        title="Optical recognition of handwritten digits",
        folder="digits",
        classes=tuple("0123456789"),
        shape=(28, 28, 1),
        licence="CC BY 4.0 (UCI machine learning repository)",
        citation="Alpaydin, Kaynak: Optical recognition of handwritten digits. UCI machine "
        "learning repository, 1998",
        factory="dlsys_bench.data.digits:digits",
    ),
)


@cache
def datasets() -> dict[str, Source]:
    """Return the datasets by name: those above, and those of the entry points.

    An entry point of the group `dlsys_bench.datasets` refers to a mapping from names to sources.
    """
    return collect("dlsys_bench.datasets", {source.name: source for source in _SOURCES}, Source)
