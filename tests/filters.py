"""Hostile keys and values, and filters on them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from hypothesis import strategies as st

HOSTILE = [
    *("", "k", "K", "k ", "tags", "$1", "$.k", "a.b", "a", "b", "m.k", "user_id", "metadata"),
    *("'", '"', "\\", "\\\\", "\\u0000", "\\ud83d", "\\u00e9", "\n", "\x01", "\x1f", "\x7f"),
    *("{}", "{k}", "{where}", "[]", "null", "true", "%s", "%", "->>", "--", "/*", "; drop"),
    *("é", "e\u0301", "\ufffd", "\uffff", "🦊", "\U0010ffff", "1", "1.0", "9007199254740993"),
]
"""Keys, texts and tags that some language takes for something else."""
NUMBERS = [
    *(0, 1, -1, 1.0, 0.1, -0.0, 1e16, 1e23, 10**23, 1e308, -1e308, 10**308, 5e-324, 1.5),
    *(2**53 - 1, 2**53, 2**53 + 1, float(2**53), 2**63, -(2**63) - 1, 10**400, 1_778_241_600),
]
PLAIN: list[Any] = [None, True, False, *NUMBERS, *HOSTILE]
NESTED: list[Any] = [[], {}, [[]], [None], ["k"], [1, "1", True], [["k"]], {"k": "k"}, [{"k": 1}]]

texts = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6
)
scalars = (
    st.sampled_from(PLAIN)
    | texts
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | st.sampled_from(NESTED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts, values, max_size=4)
tag_lists = st.lists(texts.filter(bool), max_size=3)


@st.composite
def conditions(draw: st.DrawFn, known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """On metadata: mostly about what some of it has."""
    there = [(key, value) for one in known for key, value in one.items()]
    found: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 2))):
        key, value = draw(st.sampled_from(there)) if there else ("k", None)
        if draw(st.integers(0, 4)) == 0:
            key = draw(texts)
        own = value if isinstance(value, list) else [value]
        near = [one for one in own if not isinstance(one, (list, dict))]
        some = st.sampled_from(near) | scalars if near else scalars
        ordered = some.filter(lambda one: isinstance(one, (str, float)) or type(one) is int)
        operator = draw(st.sampled_from(["", "eq", "ne", "in", "nin", "order", "exists"]))
        if operator == "":
            found[key] = draw(some)
        elif operator == "order":
            operators = st.sets(st.sampled_from(["gt", "gte", "lt", "lte"]), min_size=1)
            found[key] = {one: draw(ordered) for one in sorted(draw(operators))}
        elif operator == "exists":
            found[key] = {"exists": draw(st.booleans())}
        else:
            several = operator in ("in", "nin")
            found[key] = {operator: draw(st.lists(some, max_size=3) if several else some)}
    return found


Case: TypeAlias = tuple[list[dict[str, Any]], list[list[str]], list[dict[str, Any]]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Metadata and tags of some records, and filters."""
    metadata = draw(st.lists(objects, min_size=1, max_size=5))
    tags = [draw(tag_lists) for _ in metadata]
    known = st.sampled_from([tag for own in tags for tag in own] or ["k"]) | texts.filter(bool)
    filters: list[dict[str, Any]] = []
    for _ in range(4):
        wanted: dict[str, Any] = {"metadata": draw(conditions(metadata))}
        if draw(st.booleans()):
            wanted["tags"] = {
                name: draw(st.lists(known, min_size=name == "any", max_size=2))
                for name in sorted(draw(st.sets(st.sampled_from(["any", "all", "none"]))))
            }
        filters.append(wanted)
    return metadata, tags, filters
