# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in a real browser: nothing is loaded, nothing is complained about, nothing sticks out, and the figures are there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser, find_chromium
from tests.sample_run import write_sample


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.fail("no Chromium looks at the page: install the Debian package chromium")
    with Browser(program) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("outputs"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_the_page_fits_and_is_silent(browser: Browser, folder: Path, width: int, dark: bool) -> None:
    page = folder / "report.html"
    browser.open(page, width=width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(found => found.open = true)")
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    outside = "found => found.getBoundingClientRect().right > innerWidth + 1 && !found.closest('.scroll, pre')"
    assert browser.evaluate(f"[...document.querySelectorAll('main *')].filter({outside}).length") == 0


def test_the_figures_are_there(browser: Browser, folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    browser.open(folder / "report.html")
    text = browser.evaluate("document.body.innerText")
    totals = report["totals"]
    assert f"{totals['errors']} errors" in text and f"{totals['errors']} of {totals['results'] - totals['skipped']} results" in text
    rows = browser.evaluate("document.querySelectorAll('section[aria-labelledby=tasks] tbody tr').length")
    assert rows == len(report["tasks"]) and all(task["task"] in text for task in report["tasks"])
    assert browser.evaluate("document.querySelectorAll('details.failure').length") == len(report["failures"]) == totals["errors"]
    assert report["slowest"][0]["host"] in text and "ssm:StartSession" in text and "403: s3:GetObject on" in text


def test_it_can_be_read_without_seeing_it(browser: Browser, folder: Path) -> None:
    """What assistive technology relies on; contrast of text by the formula of WCAG 2, in both colour schemes."""
    for dark in (False, True):
        browser.open(folder / "report.html", dark=dark)
        browser.evaluate("document.querySelectorAll('details').forEach(found => found.open = true)")
        assert browser.evaluate("document.documentElement.lang") == "en" and browser.evaluate("document.querySelectorAll('main').length") == 1
        assert browser.evaluate("[...document.querySelectorAll('th')].filter(head => !head.scope).length") == 0
        assert browser.evaluate("[...document.querySelectorAll('.bar')].filter(bar => !bar.getAttribute('aria-label')).length") == 0
        assert browser.evaluate(CONTRAST) == []


CONTRAST = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const bad = new Set();
  for (const element of document.querySelectorAll('body *')) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.add(`${element.tagName}.${element.className}: ${ratio.toFixed(2)}`);
  }
  return [...bad];
})()"""
