"""What expressions offer, each with an example: the table of the manual is made of it, and a test evaluates it.

`python -m wfe_language.expressions.reference` prints the table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class Entry(NamedTuple):
    """One function.

    Attributes:
        group: Of the table.
        example: An expression.
        value: What it gives.
        says: What it does, in a few words.
    """

    group: str
    example: str
    value: Any
    says: str


REFERENCE = (
    Entry("missing values", "vars.order.?note.orValue('none')", "none", "the value, or another when a key is missing"),
    Entry("missing values", "vars.words[?9].orValue('')", "", "the same for a position of a list"),
    Entry("missing values", "has(vars.order.note)", False, "whether a key is there"),
    Entry("missing values", "coalesce(null, vars.order.id)", "A7", "the first of 2 to 4 values that is not null"),
    Entry("numbers", "round(10.0 / 3, 2)", 3.33, "rounded to 0 to 12 digits, halves away from zero"),
    Entry("numbers", "math.abs(-2)", 2, "without its sign"),
    Entry("numbers", "math.ceil(1.2)", 2.0, "also `math.floor`, `math.trunc`; of fractions"),
    Entry("numbers", "math.greatest(1, vars.n)", 3, "also `math.least`; or of a list"),
    Entry("numbers", "int('42')", 42, "also `double`, `string`, `bool`: one type as another"),
    Entry("text", "'%s has %d'.format(['A', vars.n])", "A has 3", "text from a pattern"),
    Entry("text", "'a,b'.split(',')", ["a", "b"], "a list of the parts"),
    Entry("text", "['a', 'b'].join('-')", "a-b", "the parts in one"),
    Entry("text", "'a-b'.replace('-', ' ')", "a b", "every occurrence replaced"),
    Entry("text", "' a '.trim()", "a", "without space around it"),
    Entry("text", "'abcdef'.truncate(4)", "abc…", "at most so many characters"),
    Entry("text", "'abc'.substring(1, 2)", "b", "from a position up to another"),
    Entry("text", "'Ab'.lowerAscii()", "ab", "also `upperAscii`"),
    Entry("text", "'abc'.contains('b')", True, "also `startsWith`, `endsWith`"),
    Entry("text", "'a7'.matches('^[a-z][0-9]$')", True, "by a pattern of RE2"),
    Entry("text", "'abc'.indexOf('c')", 2, "also `lastIndexOf`; -1 when it is not there"),
    Entry("text", "'a\\nb'.lines()", ["a", "b"], "a list of the lines"),
    Entry("text", "url.encode('a b/c')", "a%20b%2Fc", "for a part of an address"),
    Entry("text", "base64.encode(bytes('hi'))", "aGk=", "in Base64; back: `string(base64.decode(text))`"),
    Entry("text", "hash.sha256('hi').substring(0, 8)", "8f434346", "SHA-256 in hexadecimal digits"),
    Entry("text", "json.encode(vars.order)", '{"id":"A7"}', "JSON text of a value"),
    Entry("text", "json.decode('[1, 2]')", [1, 2], "the value of JSON text"),
    Entry("lists", "size(vars.words)", 3, "how many; also of text and objects"),
    Entry("lists", "vars.words.map(word, size(word))", [1, 2, 1], "every item turned into something"),
    Entry("lists", "vars.words.filter(word, word != 'b')", ["cc"], "the items that fit"),
    Entry("lists", "vars.words.exists(word, word == 'cc')", True, "also `all`, `exists_one`"),
    Entry("lists", "'cc' in vars.words", True, "whether an item is there; of an object, a key"),
    Entry("lists", "vars.words.sort()", ["b", "b", "cc"], "all numbers or all text"),
    Entry("lists", "[{'n': 2}, {'n': 1}].sortBy('n')", [{"n": 1}, {"n": 2}], "objects by one of their keys"),
    Entry("lists", "vars.words.unique()", ["b", "cc"], "each item once, the first stays"),
    Entry("lists", "vars.words.slice(1, 3)", ["cc", "b"], "from a position up to another; negative ones from the end"),
    Entry("lists", "vars.words.first().orValue('')", "b", "also `last`"),
    Entry("lists", "[[1], [2, 3]].flatten()", [1, 2, 3], "lists in a list laid out, one level"),
    Entry("lists", "[1, 2, 3].chunk(2)", [[1, 2], [3]], "lists of so many items"),
    Entry("lists", "[1, 2].sum()", 3, "also `min`, `max`"),
    Entry("objects", "vars.order.keys()", ["id"], "sorted; also `values`, in that order"),
    Entry("objects", "vars.order.merge({'paid': true})", {"id": "A7", "paid": True}, "both; the second one wins"),
    Entry("objects", "{'a': 1, 'b': 2}.pick(['a'])", {"a": 1}, "only these keys; also `omit`"),
    Entry("time", "timestamp(vars.at) + duration('90m')", "2030-01-31T13:30:00Z", "moments and spans; `+ - < ==`"),
    Entry("time", "timestamp(vars.at).getHours()", 12, "also `getFullYear`, `getMonth` (from 0), `getDate`, …; in UTC"),
    Entry("time", "time.format(vars.at, '%d.%m.%Y %H:%M')", "31.01.2030 12:00", "`%Y %m %d %H %M %S %j`; in UTC"),
    Entry("time", "time.unix(vars.at)", 1896091200, "seconds since 1970; back: `time.fromUnix(seconds)`"),
)

#: Variables the examples use.
VARIABLES = {
    "n": 3, "words": ["b", "cc", "b"], "order": {"id": "A7"}, "at": "2030-01-31T12:00:00Z",
}  # fmt: skip


def table() -> str:
    """The functions as a table in Markdown."""
    lines = ["| | example | gives | |", "|---|---|---|---|"]
    group = ""
    for entry in REFERENCE:
        value = msgspec.json.encode(entry.value).decode()
        cells = [entry.group if entry.group != group else "", f"`{entry.example}`", f"`{value}`", entry.says]
        lines.append(f"| {' | '.join(cells)} |")
        group = entry.group
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table())
