"""The command line: which commands there are, and in which file each has its options.

Standard output belongs to results, standard error to people and logs. Exit 0 is done, 1 done but not with everything
answered, 2 not done because of a setting, an option or a server; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
from typing import Final

import click

from gemqueue_workers.exits import DEBUG_ENV
from gemqueue_workers.groups import Program

_SECTIONS: Final = {
    "Commands": {
        "run": ("gemqueue_workers.run.cli:run", "Answer every row of a file."),
        "work": ("gemqueue_workers.work_cli:work", "Run workers."),
        "serve": (
            "gemqueue_workers.serve.cli:serve",
            "Receive webhooks; serve health, metrics and a page of the queue.",
        ),
        "status": ("gemqueue_workers.manage.cli:status", "Show what waits, what runs and what has been counted."),
        "health": ("gemqueue_workers.manage.cli:health", "Say whether the workers work: a probe."),
        "show": ("gemqueue_workers.manage.cli:show", "Show all that is known of a prompt, a batch or a run."),
        "cancel": ("gemqueue_workers.manage.cli:cancel", "Cancel prompts, for everybody who waits for them."),
        "doctor": (
            "gemqueue_workers.manage.cli:doctor",
            "Look for problems: settings, account, server, workers, clock.",
        ),
        "prove": ("gemqueue_workers.prove.cli:prove", "Test what gemqueue assumes of the provider; write a report."),
        "demo": ("gemqueue_workers.demo.cli:demo", "See the whole thing work on real text, without a key."),
        "emulate": ("gemqueue_workers.emulate_cli:emulate", "Run an emulator of the Gemini Batch API."),
        "config": ("gemqueue_workers.manage.cli:config", "Show the settings in force and where each comes from."),
    },
    "Groups of commands": {
        "admin": (
            "gemqueue_workers.manage.admin_cli:admin",
            "Look after a queue: batches, retry, purge, reconcile ...",
        ),
        "webhooks": ("gemqueue_workers.serve.cli:webhooks", "Manage the project's webhooks at the provider."),
    },
}
_MOVED: Final = {
    name: f"admin {name}" for name in ("batches", "retry", "purge", "dead", "reconcile", "return", "metrics")
}
"""The commands of 0.2.0 that stand in a group now; their old names go on working."""
_SHORT: Final = {"belief": "admin belief"}
"""What is also a command by itself, without a line in the help."""


@click.group(
    cls=Program,
    sections=_SECTIONS,
    moved=_MOVED,
    short=_SHORT,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="gemqueue", prog_name="gemqueue")
@click.option("--debug", is_flag=True, help="Show tracebacks (also GEMQUEUE_DEBUG=1).")
def main(*, debug: bool) -> None:
    """Answer prompts through the Gemini Batch API: durable, at half the price.

    \b
    Try it, without a key, a server or a bill:
      gemqueue demo
    Answer every row of a file; stop and go on whenever you like:
      gemqueue run prompts.jsonl -o answers.jsonl -m gemini-3.8-flash
    Run it in production:
      export GEMQUEUE_REDIS_URL=redis://localhost:6379 GEMINI_API_KEY=...
      gemqueue work      start a worker; start as many as you need, anywhere
      gemqueue status    see what waits, what runs and what it costs

    Without GEMQUEUE_REDIS_URL, gemqueue starts and stops a server of its own. Every setting is also an environment
    variable; config/gemqueue.toml explains them all.

    \b
    Exit codes:
      0  done
      1  done, but not everything was answered
      2  a setting, an option or a server was wrong

    \b
    Completion for your shell (bash, zsh, fish):
      eval "$(_GEMQUEUE_COMPLETE=bash_source gemqueue)"
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    if debug:
        os.environ[DEBUG_ENV] = "1"


if __name__ == "__main__":  # as it was started before there was another place for it
    main()
