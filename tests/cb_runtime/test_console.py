"""What all commands share: one JSON document, exit codes, quiet, progress."""

import json

import click
import pytest
from click.testing import CliRunner

from cb_runtime.cli import main
from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import ParityError


@reporting("try")
@click.option("--number", type=int)
@click.option("--raise", "what", type=click.Choice(["user", "bug", "stop"]))
def attempt(report, number, what):
    """Try something."""
    if what == "user":
        raise ParityError("no match")
    if what == "bug":
        raise ZeroDivisionError
    if what == "stop":
        raise KeyboardInterrupt
    report.print(f"number [{number}]")
    report.warn("careful")
    report.result({"number": number})


def run(*arguments):
    return CliRunner().invoke(attempt, arguments)


def test_people_get_text_and_warnings_on_stderr():
    result = run("--number", "3")
    assert (result.stdout, result.stderr) == ("number [3]\n", "Warning: careful\n")


def test_json_is_the_only_thing_on_stdout():
    assert json.loads(run("--json", "--number", "3").stdout) == {"number": 3}


def test_quiet_prints_nothing():
    assert run("--quiet", "--number", "3").stdout == ""


def test_a_users_error_has_its_exit_code_and_no_traceback():
    result = run("--raise", "user")
    assert (result.exit_code, result.stdout, result.stderr) == (7, "", "Error: no match\n")


def test_a_users_error_is_one_json_document_too():
    result = run("--json", "--raise", "user")
    assert json.loads(result.stdout)["error"] == {"type": "ParityError", "message": "no match", "exit_code": 7}
    assert result.exit_code == 7


def test_wrong_usage_is_one_json_document_too():
    result = run("--json", "--number", "three")
    assert json.loads(result.stdout)["error"]["exit_code"] == result.exit_code == 2


def test_wrong_usage_without_json_is_clicks_message():
    result = run("--number", "three")
    assert result.exit_code == 2
    assert "is not a valid integer" in result.stderr


def test_an_interruption_ends_with_130():
    assert run("--raise", "stop").exit_code == 130


def test_a_bug_of_ours_keeps_its_traceback():
    assert isinstance(run("--raise", "bug").exception, ZeroDivisionError)


def test_progress_is_silent_without_a_terminal(capsys):
    with Report().progress("frames") as progress:
        progress("decode", 1, 2)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_shows_phase_and_percent(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with Report().progress("frames") as progress:
        progress("decode", 1, 2)
        progress("decode", 2, 2)
    shown = capsys.readouterr().err
    assert "decode" in shown
    assert "100%" in shown


def test_an_unknown_command_is_a_usage_error():
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_installed_command(flag):
    result = CliRunner().invoke(main, [flag])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("train", "export", "infer", "doctor", "demo"))
