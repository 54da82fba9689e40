"""The README's commands and its tour do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/connprops demo"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest"
TOUR = README.partition("## A tour")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TOUR, flags=re.MULTILINE | re.DOTALL)


def test_both_set_up_commands_stand_in_the_readme():
    assert f"```sh\n{DEMO}\n```" in README
    assert f"```sh\n{TESTS}\n```" in README


def test_ci_runs_the_test_command_of_the_readme():
    assert TESTS in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_local_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (ROOT / link).is_file()] == []


def run_block(language, text, folder):
    if language == "sql":
        with duckdb.connect() as connection:
            for statement in duckdb.extract_statements(text):
                assert connection.execute(statement).fetchall()
        return
    interpreter = [sys.executable] if language == "python" else ["bash", "-euo", "pipefail"]
    done = subprocess.run(  # noqa: S603 - our own text
        [*interpreter, "-c", text], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_the_tour_runs(tmp_path, monkeypatch):
    if not (Path(sys.executable).parent / "connprops").is_file():
        pytest.skip("connprops is not installed beside this interpreter")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    assert [language for language, _ in BLOCKS] == [
        "bash", "bash", "bash", "bash", "bash", "python", "sql", "python",
    ]  # fmt: skip
    demo = "connprops demo  "
    assert BLOCKS[0][1].startswith(demo)  # what is replaced, so that the test is quick
    for language, text in BLOCKS:
        small = text.replace(demo, "connprops demo --synapses 2000  ")
        run_block(language, small, tmp_path)
    assert (tmp_path / "connprops-demo-connprops" / "report.html").stat().st_size > 100_000
    assert (tmp_path / "excitatory" / "model.json").is_file()
    assert list((tmp_path / "steps" / "charts").glob("*u_syn.html"))
    assert (tmp_path / "exc.parquet").is_file()
    assert (tmp_path / "answer.csv").read_text().startswith("avg(u_syn)")
    assert (tmp_path / "drawn.h5").stat().st_size > 10_000
