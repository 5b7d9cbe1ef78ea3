"""The pages as they are read in a code browser: what they link to and what they tell people to type is there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.main import get_command

from backend.cli import app

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
TO_BE_MADE = {  # by the reader
    "backend/learners/class_means.py",
    "backend/store/migrations/versions/NNNN_what_it_is_for.py",
}


def tokens(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def links(page: Path) -> list[str]:
    addresses = [token.attrGet("href") or token.attrGet("src") for token in tokens(page)]
    return [str(address) for address in addresses if address]


def anchors(page: Path) -> set[str]:
    """Those that a code browser gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> str:
    """All that stands in code blocks and code quotes."""
    return "\n".join(t.content for t in tokens(page) if t.type in ("fence", "code_block", "code_inline"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links(page: Path) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" and "." in parts.netloc and " " not in link, link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        tracked = ["git", "ls-files", "--error-unmatch", target]
        assert subprocess.run(tracked, cwd=ROOT, capture_output=True).returncode == 0, link
        assert not parts.fragment or parts.fragment in anchors(target), link


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_a_page_says_whom_it_is_for_and_where_to_go_next(page: Path) -> None:
    if page.stem == "overview":  # the README
        return
    blocks = page.read_text().strip().split("\n\n")
    assert blocks[0].startswith("# ")
    assert re.match(r"\*?For ", blocks[1]), blocks[1]
    assert blocks[-1].startswith("Next: ["), blocks[-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_people_are_told_to_type_exists(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name in re.findall(r"active-learning (?!-)([a-z-]+)", code(page)):
        assert name in commands, name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in re.findall(r"^make ([a-z-]+)", code(page), re.MULTILINE):
        assert name in targets, name
    for path in re.findall(r"\b(?:backend|strategies|tests|benchmarks)/[\w/]+\.py\b", code(page)):
        assert path in TO_BE_MADE or (ROOT / path).exists(), path
