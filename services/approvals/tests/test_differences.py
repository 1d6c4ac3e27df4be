"""JSON Patches between payloads: applied to the one they give the other, whatever the two are."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wfe_approvals.differences import MOST_COMPARED, MOST_SHOWN, difference, patch_between

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from(["", "a", "~", "/", "~1", "é"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["", "a", "a/b", "~0"]), inner),
    max_leaves=12,
)


@given(VALUES, VALUES)
@settings(max_examples=400, deadline=None)
def test_a_patch_makes_the_one_of_the_other(before: Any, after: Any) -> None:
    patch = patch_between(before, after)
    made = jsonpatch.apply_patch(before, patch)
    assert json.dumps(made, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert patch_between(before, before) == []


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"n": 1}, {"n": True}, [("replace", "/n")]),
        ({"n": 1}, {"n": 1.0}, [("replace", "/n")]),
        ([1, 2, 3, 4], [1, 3, 4], [("remove", "/1")]),
        ([1, 4], [1, 2, 3, 4], [("add", "/1"), ("add", "/2")]),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], [("replace", "/1/a")]),
        ({"a": 1}, [1], [("replace", "")]),
    ],
)
def test_a_patch_names_what_changed_and_no_more(before: Any, after: Any, patch: list[tuple[str, str]]) -> None:
    assert [(one["op"], one["path"]) for one in patch_between(before, after)] == patch


def test_what_is_too_large_to_compare_or_to_show_says_so() -> None:
    same = json.dumps("x" * 1000)
    assert difference(same, same).left_out == ""
    huge = json.dumps("x" * (MOST_COMPARED // 2))
    left_out = difference(huge, huge).left_out
    assert str(MOST_COMPARED) in left_out
    long = json.dumps("y" * (MOST_SHOWN + 1))
    assert str(MOST_SHOWN) in difference('"x"', long).left_out
    assert difference(None, '{"a":1}').patch == [{"op": "replace", "path": "", "value": {"a": 1}}]
