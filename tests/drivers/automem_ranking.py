"""How AutoMem 0.16.1 finds by words, weighs and merges: the ranking of the fake."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

STOPWORDS = frozenset(
    {"about", "how", "the", "this", "was", "what", "when", "where", "which", "who"}
)
Node = dict[str, Any]


def found_by_keywords(nodes: list[Node], query: str) -> list[Node]:
    phrase = query.lower()
    keywords = _keywords(query)
    if not query or query == "*" or len(query) < 3:
        nodes = sorted(nodes, key=lambda n: (n["importance"], n["timestamp"]), reverse=True)
        return [a_result(node["id"], node, "trending", node["importance"]) for node in nodes]
    found = []
    for node in nodes:
        content, tags = node["content"].lower(), [tag.lower() for tag in node["tags"]]
        score = sum(
            2 * (word in content) + any(word in tag for tag in tags) for word in [*keywords, phrase]
        )
        if score:
            found.append((score / (3 * len(keywords) + 3), node))
    found.sort(key=lambda pair: (pair[0], pair[1]["timestamp"]), reverse=True)
    return [a_result(node["id"], node, "keyword", score) for score, node in found]


def _keywords(text: str) -> list[str]:
    found = re.findall(r"[a-z0-9_\-]+", text.lower())
    return [word for word in dict.fromkeys(found) if len(word) >= 3 and word not in STOPWORDS]


def a_result(memory_id: str, memory: Node, kind: str, score: float) -> Node:
    source = "qdrant" if kind == "vector" else "graph"
    return {
        "id": memory_id,
        "match_type": kind,
        "match_score": score,
        "source": source,
        "memory": memory,
    }


def weigh(result: Node, query: str) -> None:
    """AutoMem's weighted sum, with its default weights."""
    memory, kind = result["memory"], result["match_type"]
    tokens = _keywords(query)
    terms = set(_terms(memory["metadata"])) | {tag.lower() for tag in memory["tags"]}
    content = set(re.findall(r"[a-z0-9]+", memory["content"].lower()))
    keyword = sum(token in content for token in tokens) / len(tokens) if tokens else 0.0
    age = datetime.now(UTC) - datetime.fromisoformat(memory["timestamp"])
    result["final_score"] = (
        0.35 * (result["match_score"] if kind == "vector" else 0)
        + 0.35 * (result["match_score"] if kind in {"keyword", "trending"} else keyword)
        + 0.2 * (sum(token in terms for token in tokens) / len(tokens) if tokens else 0)
        + 0.1 * memory["importance"]
        + 0.05 * memory["confidence"]
        + 0.1 * max(0.0, 1 - max(0.0, age.total_seconds()) / 86_400 / 180)
        + 0.2 * (query.lower() in terms)
    )


def _terms(value: Any) -> Iterator[str]:
    if isinstance(value, str) and 0 < len(value.strip()) <= 256:
        lower = value.strip().lower()
        yield lower
        yield from re.findall(r"[a-z0-9_\-]+", lower)
    elif isinstance(value, list):
        for item in value:
            yield from _terms(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "entities":
                yield from _terms(item)


def by_score(result: Node) -> tuple[float, bool, float]:
    when = datetime.fromisoformat(result["memory"]["timestamp"]).timestamp()
    return -result["final_score"], result["source"] != "qdrant", -when


def merged(results: list[Node]) -> list[Node]:
    """One result for each fingerprint: the ASCII of the first 320 characters."""
    kept: dict[str, Node] = {}
    for result in results:
        text = re.sub(r"[`*_#>~\-]", " ", result["memory"]["content"].lower())
        text = re.sub(r"[^\w\s]", " ", text.encode("ascii", "ignore").decode())
        mark = " ".join(text.split())[:320] or result["id"]
        if mark in kept:
            first = kept[mark]
            first["deduped_from"] = sorted(
                {*first.get("deduped_from", [first["id"]]), result["id"]}
            )
        else:
            kept[mark] = result
    return list(kept.values())
