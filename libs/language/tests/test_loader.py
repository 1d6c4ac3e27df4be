"""Text becomes plain values by YAML 1.2, with the place of each."""

from __future__ import annotations

import json

import pytest
import wfe_language


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("true", True), ("True", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("2030-01-31", "2030-01-31"), ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"), ("12:30:45", "12:30:45"),
        ("1", 1), ("-17", -17), ("+3", 3), ("0777", 777), ("0o17", 15), ("0xff", 255), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("-2.", -2.0), ("1.2.3", "1.2.3"), ("1e", "1e"), ("-", [None]),
        ("Nan", "Nan"), ("Inf", "Inf"),
        ('"1"', "1"), ("'true'", "true"), ("9007199254740991", 9007199254740991), ("-9007199254740991", -(2**53 - 1)),
        ("0b11", "0b11"), ("=", "="), ("<<", "<<"), ("...x", "...x"), ("30s", "30s"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    loaded = wfe_language.load(f"v: {text}" if text != "-" else "v:\n-")[0]["v"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_endless_numbers_are_refused_in_time():
    for text in ("1" * 200_000, "0x" + "f" * 200_000):
        with pytest.raises(wfe_language.TemplateFaults, match="beyond the integers"):
            wfe_language.load(f"a: {text}")


def test_json_is_read_too():
    text = 'é "q" \\ / \n \t 😀 \u2028 \u2029 \x85 \ue000'
    document = {"name": "t", "text": text, "list": [1, -2.5, True, None, {}], "o": {"a": {}}}
    for text in (json.dumps(document), json.dumps(document, indent="\t"), json.dumps(document, ensure_ascii=False)):
        assert wfe_language.load(text)[0] == document
    assert wfe_language.load('{"a":"\\/\\ud83d\\ude00\\\\ud83d"}')[0] == {"a": "/😀\\ud83d"}


def test_bytes_are_utf_8():
    assert wfe_language.load("\ufeffname: é".encode())[0] == {"name": "é"}
    with pytest.raises(wfe_language.TemplateFaults, match="not UTF-8"):
        wfe_language.load(b"name: \xff")
    with pytest.raises(wfe_language.TemplateFaults, match="not UTF-8"):
        wfe_language.load("name: \ud800")


def test_every_value_and_key_has_a_place():
    _, positions = wfe_language.load('a: 1\nb:\n  - x\n  - {é: "y", z: [1]}\n')
    assert positions.value(("b", 1, "é"))[:2] == (4, 9)
    assert positions.key(("b", 1, "z"))[:2] == (4, 14)
    assert positions.value(("b", 1, "z", 0))[:2] == (4, 18)
    assert positions.value(("b", 1, "nowhere", "deeper"))[:2] == (4, 5)


def test_order_of_keys_is_the_texts():
    assert list(wfe_language.load("z: {b: 1, a: 2}\ny: 0")[0]["z"]) == ["b", "a"]


@pytest.mark.parametrize("text", ['a: "\\0"', '"a\\0": 1', "a: '\\0'"])
def test_nul_is_refused_however_it_is_written(text):
    if text.startswith("a: '"):
        assert wfe_language.load(text)[0] == {"a": "\\0"}
        return
    with pytest.raises(wfe_language.TemplateFaults, match="NUL"):
        wfe_language.load(text)


def test_alias_bombs_do_not_grow():
    bomb = "a: &a [x, x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a, *a]\n" for i in range(50))
    with pytest.raises(wfe_language.TemplateFaults) as caught:
        wfe_language.load(bomb)
    assert len(caught.value.faults) == 100


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 60_000, "- " * 100_000, "? " * 100_000])
def test_hostile_shapes_are_refused_in_time(text):
    with pytest.raises(wfe_language.TemplateFaults):
        wfe_language.load(text + "]")
