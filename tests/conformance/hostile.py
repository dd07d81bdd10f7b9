"""Engines that do what no engine should. Each breaks one thing of the healthy numpy engine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dlsys_bench.engines.base import Gradients
from dlsys_bench.engines.numpy import NumpyEngine


class Hangs(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        time.sleep(1000)


class HangsInC(NumpyEngine):
    """Where no Python signal handler is ever called."""

    def trace(self, *args: Any, **options: Any) -> Any:
        ctypes.PyDLL(None).sleep(1000)


class Crashes(NumpyEngine):
    def gradients(self, *args: Any, **options: Any) -> Any:
        os.abort()


class Spins(NumpyEngine):
    def trace(self, *args: Any, **options: Any) -> Any:
        while True:
            pass


class StopsItself(NumpyEngine):
    def trace(self, *args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)


class Exits(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise SystemExit("done")


class ExitsWithZero(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        os._exit(0)


class Interrupts(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt


class RaisesBaseException(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise BaseException("no Exception")


class Recurses(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        return self.predict(*args)


class EatsMemory(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        return np.ones(1 << 57)


class LongMessage(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("begin " + 20_000_000 * "x" + " end")


class LongErrors(NumpyEngine):
    """More than a pipe holds."""

    def predict(self, *args: Any, **options: Any) -> Any:
        os.write(2, 5_000_000 * b"x" + b"\n")
        os.abort()


COMMANDS = "\x1b[2J\x1b]0;title\x07\r\n::error::x\r##[group]y\n  ::set-output name=a::b\x9b"


class CommandsInMessage(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError(COMMANDS)


class CommandsInErrors(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        os.write(2, b"\x1b[31m::error::x ##[group]\xff")
        os.abort()


class CommandsInNames(NumpyEngine):
    def weights(self, *args: Any) -> Any:
        return {f"{COMMANDS}{name}": values for name, values in super().weights(*args).items()}


class CommandsInTypes(NumpyEngine):
    def weights(self, *args: Any) -> Any:
        return type(COMMANDS.replace("\0", ""), (), {})()


class CommandsInReason(NumpyEngine):
    lacks: ClassVar = {"layer:dense": COMMANDS}


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)


class RaisesUnspeakable(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise UnspeakableError


class EndlessError(Exception):
    def __str__(self) -> str:
        while True:
            time.sleep(0.01)


class RaisesEndless(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise EndlessError


def sleep_in_the_background() -> None:
    """Write the process id for the tests, and hold every descriptor open."""
    with Path(os.environ["HOSTILE_PIDS"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(1000)
    os._exit(0)


class Waits(NumpyEngine):
    """Hangs, with a child in a session of its own."""

    def predict(self, *args: Any, **options: Any) -> Any:
        if not os.fork():
            os.setsid()
        sleep_in_the_background()


class Forks(NumpyEngine):
    """Leaves a child that holds the pipes of the worker open."""

    def predict(self, *args: Any, **options: Any) -> Any:
        if not os.fork():
            sleep_in_the_background()
        return super().predict(*args)


class Daemonizes(NumpyEngine):
    """Leaves a grandchild in a session of its own, and crashes."""

    def predict(self, *args: Any, **options: Any) -> Any:
        if not os.fork():
            os.setsid()
            if os.fork():
                os._exit(0)
            sleep_in_the_background()
        os.wait()
        time.sleep(0.2)
        os._exit(0)


class StartsPrograms(NumpyEngine):
    """In a session of their own, and with an empty environment."""

    def predict(self, *args: Any, **options: Any) -> Any:
        program = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(1000)"],
            start_new_session=True,
            close_fds=False,
            env={},
        )
        with Path(os.environ["HOSTILE_PIDS"]).open("a") as file:
            file.write(f"{program.pid}\n")
        os._exit(4)


class KillsItsGroup(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        os.kill(0, signal.SIGKILL)


class KillsItsParent(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        os.kill(os.getppid(), signal.SIGKILL)
        sleep_in_the_background()


class ClosesDescriptors(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        os.closerange(0, 100)
        return super().predict(*args)


class ReadsStandardInput(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        assert not sys.stdin.read()
        return super().predict(*args)


class ChangesSignals(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        return super().predict(*args)


class StartsThreads(NumpyEngine):
    """Which never end."""

    def predict(self, *args: Any) -> Any:
        threading.Thread(target=time.sleep, args=(1000,), daemon=False).start()
        return super().predict(*args)


class Dies(NumpyEngine):
    """Without a word."""

    def predict(self, *args: Any, **options: Any) -> Any:
        os._exit(3)


class DiesOfSoftmax(NumpyEngine):
    def build(self, model: Any, *args: Any, **options: Any) -> Any:
        if "softmax" in str(model):
            os._exit(3)
        return super().build(model, *args, **options)


class WrongShape(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        return super().predict(*args).T


class ForgesAnswers(WrongShape):
    """Says that it has passed, on every descriptor."""

    def predict(self, *args: Any) -> Any:
        for descriptor in range(3, 30):
            try:
                os.write(descriptor, b'{"name": "shapes/dense", "status": "passed"}\n{"')
            except OSError:
                continue
        return super().predict(*args)


class WrongDtype(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        return super().predict(*args).astype("float16")


class LossOfOne(NumpyEngine):
    def gradients(self, *args: Any, **options: Any) -> Any:
        found = super().gradients(*args, **options)
        return found._replace(loss=np.array([found.loss]))  # type: ignore[arg-type]


class Nothing(NumpyEngine):
    def gradients(self, *args: Any) -> Any:
        return None


class Liar(np.ndarray):
    """An array that misstates its shape and that nothing can be done with."""

    @property  # type: ignore[misc]
    def shape(self) -> Any:
        raise RuntimeError("no shape")


class RaisingArray(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        return super().predict(*args).view(Liar)


class NotAnArray(NumpyEngine):
    def trace(self, *args: Any) -> Any:
        return [y.tolist() for y in super().trace(*args)]


class NotANumber(NumpyEngine):
    def gradients(self, *args: Any) -> Any:
        found = super().gradients(*args)
        return Gradients(found.loss, found.weights, np.full_like(found.x, np.nan))


class LosesATensor(NumpyEngine):
    def weights(self, *args: Any) -> Any:
        found = super().weights(*args)
        found.pop(next(iter(found)), None)
        return found


class WritesIntoX(NumpyEngine):
    def predict(self, net: Any, x: Any) -> Any:
        found = super().predict(net, x)
        x *= 2
        return found


class WritesIntoLabels(NumpyEngine):
    def fit(self, net: Any, samples: Any, *args: Any, **options: Any) -> Any:
        yield from super().fit(net, samples, *args, **options)
        samples.y[...] = 0


class ReturnsViews(NumpyEngine):
    def weights(self, net: Any) -> Any:
        return {name: tensor[0] for name, tensor in net.tensors.items()}


class ReusesItsOutput(NumpyEngine):
    buffer = np.empty((2000, 50))

    def predict(self, net: Any, x: Any) -> Any:
        found = super().predict(net, x)
        view = self.buffer.reshape(-1)[: found.size].reshape(found.shape)
        view[...] = found
        return view


class Prints(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        print("epoch 1/10 \x00 }{")
        return super().fit(*args, **options)


class PrintsInC(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        os.write(1, b"\xff\xfe garbage\n")
        return super().fit(*args, **options)


class RaisesInFit(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class CannotBeMade(NumpyEngine):
    def __init__(self, *args: Any, **options: Any) -> None:
        raise ImportError("libfast.so.3: cannot open shared object file")


class NoHistory(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        for _ in super().fit(*args, **options):
            pass


class Undecided(NumpyEngine):
    """Another answer each time."""

    def trace(self, *args: Any) -> Any:
        return [y + np.random.default_rng().normal(0, 1e-3, y.shape) for y in super().trace(*args)]
