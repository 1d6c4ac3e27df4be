"""Whatever bytes come, what reads text from outside takes or refuses them, and raises nothing else."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.fuzz.targets import TARGETS


@st.composite
def torn(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A good text with pieces cut out, doubled, or replaced by others and by rubbish."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        how = draw(st.sampled_from(("cut", "double", "rubbish", "other")))
        if how == "cut":
            del data[at:end]
        elif how == "double":
            data[at:at] = data[at:end] * draw(st.integers(1, 40))
        elif how == "rubbish":
            data[at:end] = draw(st.binary(max_size=6))
        else:
            other = draw(st.sampled_from(seeds))
            data[at:end] = other[draw(st.integers(0, len(other))) :][:20]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str):
    target, seeds = TARGETS[name]
    for seed in seeds:
        target(seed)

    @settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        st.binary(max_size=200) | torn(seeds) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
    )
    def tried(data: bytes) -> None:
        target(data)

    tried()
