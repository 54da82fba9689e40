"""How quickly a report is written and drawn: ``python -m benchmarks.browser [--synapses N]``.

Reports of a demo circuit and of 60 x 60 types with 17 properties are opened in a headless
Chromium, where one is installed: a property and a statistic are selected, a pathway is clicked, the
worst fits are sorted. Ends with an error where the page reports one or asks for anything but
itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import circuits
from benchmarks.chromium import CHROMIUM, Browser
from benchmarks.measure import connprops

MOST_BYTES = 15_000_000
"""A report is smaller."""

_ROOT = "document.documentElement?.dataset"


def drive(browser: Browser, report: Path) -> dict[str, float]:
    """Use a report as a reader would; return the seconds that the page took for each step.

    Raises
    ------
    RuntimeError
        Where the page reports an error, makes a request, or does not do what it is told.
    """
    taken = {}

    def step(name: str, action: Callable[[], object], done: str) -> None:
        start = time.perf_counter()
        action()
        browser.wait(done)
        taken[name] = time.perf_counter() - start

    def select(name: str, value: str) -> None:
        browser.evaluate(
            f"{{ const box = document.getElementById({json.dumps(name)});"
            f" box.value = {json.dumps(value)}; box.dispatchEvent(new Event('change')) }}"
        )

    step("first drawing", lambda: browser.open(report), f"{_ROOT}.drawn")
    browser.wait(f"{_ROOT}.ready")
    names = browser.evaluate("index.properties.map((one) => one.name)")
    last = names[-1]
    select("property", str(len(names) - 1))
    browser.wait(f"{_ROOT}.opened?.startsWith({json.dumps(last + ' ')})")
    step("another property", lambda: select("property", "0"),
         f"{_ROOT}.drawn.startsWith({json.dumps(names[0] + ' ')})")  # fmt: skip
    step("another statistic", lambda: select("statistic", "misfit"),
         f"{_ROOT}.drawn === {json.dumps(names[0] + ' misfit')}")  # fmt: skip
    select("statistic", "mean")
    browser.wait(f"{_ROOT}.drawn === {json.dumps(names[0] + ' mean')}")
    _click_a_pathway(browser, step)
    heading = "document.querySelector('#worst th:nth-child(4) button')"
    step("sorted", lambda: browser.evaluate(f"{heading}.click()"),
         f"{heading}.parentNode.getAttribute('aria-sort') === 'descending'")  # fmt: skip
    _check_order(browser)
    if browser.errors or browser.requests:
        message = f"{report.name}: errors {browser.errors}, requests {browser.requests}"
        raise RuntimeError(message)
    return taken


def _click_a_pathway(
    browser: Browser, step: Callable[[str, Callable[[], object], str], None]
) -> None:
    """Click the middle of the cell of the first source and the last target, and await it open."""
    x, y = browser.evaluate(
        "(() => { const view = views.get('map-data'), box = byId('map-data');"
        " box.scrollIntoView({block: 'center'}); box.scrollLeft = box.scrollWidth;"
        " const at = box.querySelector('canvas').getBoundingClientRect();"
        " const [left, top] = view.origin(), edge = view.padding();"
        " const one = (axis, name) => view.scale(axis)(name) + view.scale(axis).bandwidth() / 2;"
        " return [at.x + left + edge.left + one('x', index.targets.at(-1)),"
        " at.y + top + edge.top + one('y', index.sources[0])] })()"
    )
    pathway = browser.evaluate("arrow(nTargets - 1)")
    step("pathway opened", lambda: browser.click(x, y),
         f"{_ROOT}.opened.endsWith({json.dumps(' ' + pathway)})")  # fmt: skip


def _check_order(browser: Browser) -> None:
    """Raise unless the sorted column of the worst fits decreases."""
    shown = browser.evaluate(
        "[...document.querySelectorAll('#worst tbody td:nth-child(4)')]"
        ".map((cell) => Number(cell.textContent.replaceAll(',', '')))"
    )
    if shown != sorted(shown, reverse=True):
        message = f"The worst fits are not in order: {shown}"
        raise RuntimeError(message)


def measured(work: Path, name: str, config: Path) -> dict[str, float]:
    """Return a report's size in MB, and the seconds that writing, drawing and using it took."""
    out = work / f"{name}-report"
    if not (out / "model.parquet").is_file():
        connprops("run", str(config), "-o", str(out), "-q", "--overwrite", "--correlations")
    from connprops import read_model, read_statistics
    from connprops.reports.report import report

    stats, model = read_statistics(out), read_model(out / "model.parquet")
    start = time.perf_counter()
    file = report(stats, model, out / "drawn.html", overwrite=True)
    figures = {"written": time.perf_counter() - start, "MB": file.stat().st_size / 1e6}
    if file.stat().st_size > MOST_BYTES:
        message = f"{file.name} of {name} has {figures['MB']:.1f} MB"
        raise RuntimeError(message)
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        return figures | drive(browser, file)


def main() -> None:
    """Read the command line, measure both reports, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__)
    parser.add_argument(
        "--synapses", type=int, help="of either circuit, in place of its own number"
    )
    parser.add_argument("--work", type=Path, help="folder for circuits, kept for the next time")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.stdout.write("Skipped: neither chromium nor google-chrome is installed\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        for name, config in (
            ("demo", circuits.demo(work, arguments.synapses or 200_000)),
            ("many_pathways", circuits.random_circuit(work, circuits.MANY_PATHWAYS,
                                                      arguments.synapses or 4_000_000)),
        ):  # fmt: skip
            figures = {key: round(value, 2) for key, value in measured(work, name, config).items()}
            sys.stdout.write(json.dumps({"report": name, **figures}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
