"""The README and the guides: pages for users of the service, as the repository has them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

GUIDES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("drivers/*.md")))
}
"""The text of each page, by its path."""


def fenced(text: str, language: str) -> list[str]:
    """What stands in the blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
