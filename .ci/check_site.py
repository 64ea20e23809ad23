"""Checks the built documentation: every link leads somewhere, the start page leads to every page,
and nothing is loaded from elsewhere.

usage: python .ci/check_site.py site
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
NOT_FOUND = "404.html"  # written for the root of a server, whatever that is


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        source = given.get(LOADING.get(tag, ""))
        if source is not None and given.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.append(source)


@cache
def page(path: Path) -> Page:
    return Page(path)


def is_elsewhere(link: str) -> bool:
    parts = urlparse(link)
    return bool(parts.scheme or parts.netloc)


def leads_somewhere(here: Path, link: str) -> bool:
    target, anchor = urldefrag(link)
    there = (here.parent / unquote(target)).resolve() if target else here.resolve()
    there = there / "index.html" if there.is_dir() else there
    if not there.is_file():
        return False
    return not anchor or there.suffix != ".html" or unquote(anchor) in page(there).anchors


def faults(site: Path) -> list[str]:
    """What is wrong with a site, a sentence each."""
    pages = [path for path in sorted(site.rglob("*.html")) if path.name != NOT_FOUND]
    if not pages:
        return [f"there is no page in {site}"]
    start = site / "index.html"
    linked = {(site / urldefrag(link).url).resolve() for link in page(start).links} | {
        start.resolve()
    }
    found = [
        f"{path} is not in the navigation: add it to zensical.toml"
        for path in pages
        if path.resolve() not in linked
    ]
    for path in pages:
        loaded = page(path).loaded
        found += [f"{path} loads {it} from elsewhere" for it in loaded if is_elsewhere(it)]
        found += [
            f"{path} links to {link}, which is not there"
            for link in dict.fromkeys([*page(path).links, *loaded])
            if not is_elsewhere(link) and not leads_somewhere(path, link)
        ]
    return found


if __name__ == "__main__":
    sentences = faults(Path(sys.argv[1]))
    print(*sentences, sep="\n", file=sys.stderr, end="\n" if sentences else "")
    raise SystemExit(bool(sentences))
