"""The guides: every setting, link, configuration and command in them is one that there is."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.core.memory.manager import MemoryDriverManager
from app.settings import Settings, load_settings, variables
from app.settings_guide import GUIDE, render
from tests.guides import DOCS, GUIDES, ROOT, fenced

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
DECISIONS = sorted(DOCS.glob("decisions/[0-9]*.md"))
CONFIGURATIONS = [
    pytest.param(name, block, id=f"{name}-{n}")
    for name, text in GUIDES.items()
    for n, block in enumerate(fenced(text, "toml"), 1)
]
ENVIRONMENTS = [
    pytest.param(name, block, id=f"{name}-{n}")
    for name, text in GUIDES.items()
    for n, block in enumerate(fenced(text, "env"), 1)
]
COMMANDS = sorted(
    {
        line.partition("#")[0].strip()
        for text in GUIDES.values()
        for line in re.findall(r"^memory-driver .*$", text, re.MULTILINE)
    }
)
"""Those that stand in lines of their own."""


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) < 10_000


def test_the_guide_of_the_settings_is_what_they_say() -> None:
    assert (ROOT / GUIDE).read_text() == render(), f"{GUIDE} is old: make settings-guide"


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_tells_of_no_variable_that_is_not_there(name: str) -> None:
    found = set(
        re.findall(r"\b(?:MEMORY|DATABASE|AUTOMEM|REDIS|WEAVIATE)_[A-Z_]*[A-Z]\b", GUIDES[name])
    )
    assert {one for one in found if not one.startswith("MEMORY_DRIVERS__")} <= {
        variable for variable, _ in variables()
    }


def anchors(page: Path) -> set[str]:
    """What a link may have after its #, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_guide_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    found = [ROOT / "README.md"]
    while found:
        page = found.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        found += [(page.parent / link).resolve() for link in links]
    assert set(DOCS.rglob("*.md")) <= reached


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_one_page_of_five_parts(page: Path) -> None:
    text = page.read_text()
    assert len(text) <= 3_000
    assert text.startswith(f"# {int(page.name[:4])}. ")
    parts = re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "Alternatives", "Where"]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_names_code_that_is_there(page: Path) -> None:
    named = re.findall(r"`((?:app|alembic|benchmarks|tests)/[\w/.]+)`", page.read_text())
    assert all((ROOT / name).exists() for name in named), named


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, whose `.env` the settings read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    return tmp_path


@pytest.mark.parametrize(("name", "block"), CONFIGURATIONS)
def test_a_configuration_of_drivers_builds_them(
    name: str, block: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (configured / "drivers.toml").write_text(block)
    monkeypatch.setenv("MEMORY_CONFIG", "drivers.toml")
    manager = MemoryDriverManager(load_settings())
    assert manager.driver().name in manager.settings.named
    assert manager.settings.named.keys() <= manager.built().keys()


@pytest.mark.parametrize(("name", "block"), ENVIRONMENTS)
def test_variables_are_settings(
    name: str, block: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in block.splitlines():  # as a shell, and as a file of variables
        variable, _, value = shlex.split(line, comments=True)[0].partition("=")
        monkeypatch.setenv(variable, value)
    load_settings()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_there(command: str) -> None:
    words = command.split()[1:]
    names = [word for word in words if re.fullmatch("[a-z]+", word)][:2]
    options = [word for word in words if word.startswith("--")]
    said = CliRunner().invoke(cli, [*names, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    for option in options:
        assert option in said.output
