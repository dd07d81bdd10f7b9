"""The IDX file format."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlsys_bench.data.idx import TYPES, describe_idx, parse_idx
from dlsys_bench.errors import DataError

Encode = Callable[[np.ndarray], bytes]

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = hnp.arrays(st.sampled_from(sorted(TYPES.values())).map(np.dtype), SHAPES)


@given(values=ARRAYS)
def test_arrays_survive_the_format(encode: Encode, values: np.ndarray) -> None:
    read = parse_idx(encode(values), "here")
    assert read.dtype == values.dtype.newbyteorder("=")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values, strict=False)
    assert read.shape == values.shape


@given(values=ARRAYS, data=st.data())
def test_a_wrong_length_raises(encode: Encode, values: np.ndarray, data: st.DataObject) -> None:
    content = encode(values)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DataError, match=r"^here (is truncated|is not an IDX file)"):
        parse_idx(content[:cut], "here")
    with pytest.raises(DataError, match=r"^here has trailing bytes: .* it has \d+$"):
        parse_idx(content + data.draw(st.binary(min_size=1, max_size=9)), "here")


@given(content=st.binary(max_size=64))
def test_any_bytes_raise_only_data_errors(content: bytes) -> None:
    with suppress(DataError):
        parse_idx(b"\0\0" + content, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x07\x01\0\0\0\0", "begins with 00000701"),
        (b"\x01\0\x08\x01\0\0\0\0", "begins with 01000801"),
        (b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02", "sizes of its 3 axes take 16 bytes, it has 12"),
        (b"\0\0\x08\x41" + b"\0\0\0\x01" * 65 + b"\7", "65 axes"),
        (b"\0\0\x08\x03\0\0\0\0" + b"\xff" * 8, "numpy cannot represent"),
        (
            b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff",
            r"\(4294967295, 4294967295\) of uint8 take 18446744065119617037",
        ),
    ],
)
def test_damaged_content_raises(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(content, "here")


@given(values=ARRAYS)
def test_a_whole_file_is_described_by_its_type_and_shape(
    encode: Encode, values: np.ndarray
) -> None:
    content = encode(values)
    assert describe_idx(content, len(content)) == f"{values.dtype.name} of shape {values.shape}"
    longer = describe_idx(content, len(content) + 1)
    assert longer.endswith(f"takes {len(content):,} bytes, but it has {len(content) + 1:,}")


@given(content=st.binary(max_size=64))
def test_any_bytes_can_be_described(content: bytes) -> None:
    described = describe_idx(b"\0\0" + content, 99)
    assert bool(described) == (len(content) >= 2 and content[0] in TYPES)
