"""What all commands share: one JSON document, exit codes, quiet, progress."""

import io
import json
import os
import signal
import subprocess
import sys
import threading

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress as RichProgress

from cb_runtime.cli import main
from cb_runtime.cli.console import MOST_BARS, Report, _Bars, reporting
from cb_runtime.errors import ParityError
from cb_runtime.interruption import sigterm_as_interrupt


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


WAITING = """
import signal, sys, time
from cb_runtime.cli.console import reporting

# Where tests run in the background, SIGINT is ignored from the start.
signal.signal(signal.SIGINT, signal.default_int_handler)

@reporting("wait")
def wait(report):
    try:
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print("tidied up", file=sys.stderr, flush=True)

wait()
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_ends_a_command_like_ctrl_c_with_130_and_time_to_tidy_up(stop):
    command = [sys.executable, "-c", WAITING, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "ready\n"
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "tidied up\n"
    assert json.loads(out)["error"]["message"] == "Interrupted. What was done is kept."


def test_the_former_handler_of_sigterm_comes_back():
    def mine(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_in_another_thread_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with sigterm_as_interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


FORKING = """
import os, signal, time
from cb_runtime.interruption import sigterm_as_interrupt

with sigterm_as_interrupt():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, b"ready")
        time.sleep(60)
        os._exit(1)
    os.read(reader, 5)  # Python drops signals that reach a process while it is being forked
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_ends_at_sigterm_as_usual():
    result = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_document_that_ends_with_an_error_has_both_and_the_exit_code(capsys):
    with pytest.raises(SystemExit) as ended:
        Report(json=True).finish({"done": 1}, ParityError("no match"))
    document = json.loads(capsys.readouterr().out)
    assert (ended.value.code, document["done"], document["error"]["type"]) == (7, 1, "ParityError")


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


@pytest.fixture
def bars():
    with RichProgress(console=Console(file=io.StringIO())) as shown:
        yield shown


def shown_in(bars):
    return [(task.description, task.completed) for task in bars.tasks if task.visible]


def test_each_video_has_one_bar_with_the_phase_it_is_in(bars):
    told = _Bars(bars)
    told("1/2 a.mp4: layout", 3, 12)
    told("2/2 b.mp4: layout", 1, 12)
    told("1/2 a.mp4: Scoring", 40, 500)
    assert shown_in(bars) == [("1/2 a.mp4: Scoring", 40), ("2/2 b.mp4: layout", 1)]


def test_finished_bars_make_place_and_unfinished_ones_stay(bars):
    told = _Bars(bars)
    for number in range(20):
        told(f"{number}/20 v.mp4: Scoring", 5, 10)
        if number != 3:
            told(f"{number}/20 v.mp4: done", 1, 1)
    seen = shown_in(bars)
    assert len(seen) == MOST_BARS
    assert ("3/20 v.mp4: Scoring", 5) in seen
    assert seen[-1] == ("19/20 v.mp4: done", 1)


def test_phases_that_are_no_video_s_have_a_bar_each(bars):
    told = _Bars(bars)
    for number in range(3):
        told(f"epoch {number}", 1, 2)
    assert len(shown_in(bars)) == 3


def test_an_unknown_command_is_a_usage_error():
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_installed_command(flag):
    result = CliRunner().invoke(main, [flag])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("train", "export", "infer", "doctor", "demo"))
