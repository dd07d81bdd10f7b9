"""What nvidia-smi says of a GPU is read as it is, by drivers old and new; where it says nothing,
nothing is said."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dlsys_bench.timing import gpu
from dlsys_bench.timing.gpu import Gpu, chosen, read


def test_a_gpu_is_read(smi: Any) -> None:
    assert read() == Gpu(
        name="NVIDIA H100 80GB HBM3",
        uuid="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        driver="550.54.15",
        compute_mode="Default",
        sm_mhz=1755,
        sm_mhz_most=1980,
        memory_mhz=2619,
        memory_mhz_most=2619,
        celsius=41,
        watts=254.83,
        watts_most=700,
        memory_used_bytes=2**30,
        memory_bytes=81559 * 2**20,
        reasons=[],
        slowed_seconds=None,
    )
    assert all(call[-1] == "--format=csv,noheader,nounits" for call in smi.asked)


@pytest.mark.parametrize(
    ("mask", "reasons"),
    [
        ("0x0000000000000001", ["idle"]),
        ("0x0000000000000002", ["application clocks setting"]),
        ("0x0000000000000004", ["software power cap"]),
        ("0x0000000000000008", ["hardware slowdown"]),
        ("0x0000000000000010", ["sync boost"]),
        ("0x0000000000000020", ["software thermal slowdown"]),
        ("0x0000000000000040", ["hardware thermal slowdown"]),
        ("0x0000000000000080", ["hardware power brake"]),
        ("0x0000000000000100", ["display clock setting"]),
        ("0x0000000000000800", ["reason 0x800"]),
        ("0x0000000000000048", ["hardware slowdown", "hardware thermal slowdown"]),
        ("[N/A]", None),
    ],
)
def test_reasons_have_names_by_drivers_old_and_new(
    smi: Any, mask: str, reasons: list[str] | None
) -> None:
    for told in (
        smi.h100 | {"clocks_event_reasons.active": mask},
        smi.older(mask),
        smi.newer(mask),
    ):
        smi.answers(told)
        found = read()
        assert found is not None
        assert (found.driver, found.reasons) == (told["driver_version"], reasons)


def test_a_newer_driver_counts_the_time_of_each_reason(smi: Any) -> None:
    missing = {"clocks_event_reasons_counters.sync_boost": "[N/A]"}
    smi.answers(smi.newer(sw_power_cap=1_500_000) | missing)
    found = read()
    assert found is not None
    assert found.slowed_seconds == {
        "software power cap": 1.5,
        "software thermal slowdown": 7.0,
        "hardware thermal slowdown": 7.0,
        "hardware power brake": 7.0,
    }


@pytest.mark.parametrize(
    "nothing", ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "[GPU requires reset]", ""]
)
def test_what_a_driver_does_not_tell_is_none(smi: Any, nothing: str) -> None:
    kept = ("name", "clocks.max.sm")
    smi.answers(
        {field: value if field in kept else nothing for field, value in smi.newer().items()}
        | {"uuid": "0"}
    )
    found = read()
    assert found is not None
    assert (found.name, found.sm_mhz_most) == ("NVIDIA H100 80GB HBM3", 1980)
    assert found.watts is found.memory_bytes is found.reasons is found.slowed_seconds is None
    assert found.compute_mode in (None, "")


def test_a_warning_beside_the_answer_hides_nothing(smi: Any) -> None:
    row = ", ".join(["Tesla T4", *["[N/A]"] * 13, *["[N/A]"] * 5])
    smi.becomes(
        f"#!/bin/sh\necho '{row}'\necho 'WARNING: infoROM is corrupted at gpu 0000:00:1E.0'\nexit 14\n"
    )
    found = read()
    assert found is not None
    assert found.name == "Tesla T4"


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'\nexit 9\n",
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\nprintf '\\377\\000, a\\n\"'\n",
        "#!/no/such/shell\n",
        "neither script nor program",
    ],
)
def test_what_fails_is_none(smi: Any, script: str) -> None:
    smi.becomes(script)
    assert read() is None


def test_what_hangs_is_given_up(smi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECONDS_TO_ANSWER", 0.3)
    smi.becomes("#!/bin/sh\nexec sleep 60\n")
    started = time.perf_counter()
    assert read() is None
    assert time.perf_counter() - started < 30


def test_without_nvidia_smi_there_is_none(smi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (smi.folder / "nvidia-smi").unlink()
    monkeypatch.setenv("PATH", str(smi.folder))
    assert read() is None


@pytest.mark.parametrize(
    ("shown", "device", "which"),
    [
        (None, "cuda", "0"),
        (None, "cuda:3", "3"),
        ("2,5", "cuda", "2"),
        ("2, 5", "cuda:1", "5"),
        ("2,5", "gpu:1", "5"),
        (
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
            "cuda",
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        ),
        ("", "cuda", None),
        ("-1", "cuda", None),
        ("2,-1,5", "cuda:1", None),
        ("2", "cuda:1", None),
        (None, "cpu", None),
        (None, "tpu", None),
        (None, "cuda:one", None),
    ],
)
def test_the_device_in_use_is_asked_for(
    shown: str | None, device: str, which: str | None, smi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert chosen(device) == which
    found = read(device)
    assert (found is not None) == (which in ("0", smi.h100["uuid"]))
    assert {call[call.index("-i") + 1] for call in smi.asked} == ({which} if which else set())
