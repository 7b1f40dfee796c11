"""Documentation that is tested: every command has help and stands in the README; what the README says exists."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cb_runtime.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def walk(command, name="cb"):
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            yield from walk(command.get_command(context, child), f"{name} {child}")


COMMANDS = dict(walk(main))
LEAVES = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}


def readme_lines():
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", README, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("#")[0].split("&&")]
    return [part for part in parts if re.match(r"(?:\S*/)?cb\s", part)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name):
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_stands_in_the_readme(name):
    assert re.search(rf"\b{name}\b", README), f"`{name}` is not in the README"


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_prints_help(name):
    result = CliRunner().invoke(main, [*name.split()[1:], "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_reports_as_json(name):
    assert any("--json" in parameter.opts for parameter in LEAVES[name].params)


@pytest.mark.parametrize("line", readme_lines())
def test_every_command_line_of_the_readme_exists(line):
    words = shlex.split(line)[1:]
    command, context = main, click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--version"}
    assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, line


def test_the_readme_has_command_lines():
    assert len(readme_lines()) > 5


def test_ci_runs_the_readmes_test_command():
    command = next(line for line in README.splitlines() if line.endswith(".venv/bin/pytest"))
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("file", [".ci/run", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"])
def test_the_top_level_is_complete(file):
    assert (ROOT / file).is_file()


def python_files():
    folders = ("cb_runtime", "cb_core", "cb_export", "tests", "benchmarks")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_file_is_too_long_to_read_in_one_sitting():
    long = {str(path.relative_to(ROOT)) for path in python_files() if len(path.read_text("utf-8").splitlines()) > 400}
    assert not long


@pytest.mark.parametrize("value", ["0.485", "0.229"])
def test_a_constant_of_the_contract_is_written_once(value):
    sources = [path for path in python_files() if path.parts[len(ROOT.parts)].startswith("cb_")]
    found = [(path.name, line) for path in sources for line in path.read_text("utf-8").splitlines() if value in line]
    assert [name for name, _ in found] == ["contract.py"]
