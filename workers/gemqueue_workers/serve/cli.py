"""``gemqueue serve`` and ``gemqueue webhooks``: their options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gemqueue.config import load_settings
from gemqueue.errors import ConfigError
from gemqueue_workers.exits import need_extra, run_main
from gemqueue_workers.options import emulate_option, json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.config import Settings
    from gemqueue_adapters.hooks import Hook, Hooks

T = TypeVar("T")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address; 0.0.0.0 means all.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8400, show_default=True, help="0 chooses a free one.")
@click.option("--webhook-only", is_flag=True, help="No page and no metrics, for a port that the world can reach.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Page and metrics under this name, too.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Gets url and pid once requests are accepted.")
@click.option("--log-json", is_flag=True, help="Log one JSON object per event (also log_json).")
@emulate_option
def serve(
    *,
    host: str,
    port: int,
    webhook_only: bool,
    hosts: tuple[str, ...],
    ready_file: Path | None,
    log_json: bool,
    emulate: bool | None,
) -> None:
    """Receive webhooks; serve health, metrics and a page of the queue.

    \b
      gemqueue serve
          /webhook, /health, /metrics and the page / on 127.0.0.1:8400
      gemqueue serve --host 0.0.0.0 --webhook-only
          only /webhook and /health; put your HTTPS in front of it

    Set webhook_url to the public address of /webhook, for producers, workers and this server: every job then reports
    its end there. If you registered a hook for the whole project, put its secret into GEMQUEUE_WEBHOOK_SECRETS. Any
    number of servers may run.

    SIGTERM stops it with exit 0.
    """  # noqa: D301 - \b is click's mark for text that it must not wrap
    need_extra("serve", "`gemqueue serve`")
    from gemqueue_workers.logs import set_up_logs  # noqa: PLC0415 - starlette, uvicorn and rich are slow to import
    from gemqueue_workers.serve import command  # noqa: PLC0415

    async def run() -> None:
        settings = load_settings(emulate=emulate)
        set_up_logs(json=log_json or settings.log_json)
        await command.serve(
            settings, host=host, port=port, webhook_only=webhook_only, ready_file=ready_file, hosts=hosts
        )

    run_main(run())


def _with_hooks(emulate: bool | None, work: Callable[[Hooks, Settings], Awaitable[T]]) -> T:
    from gemqueue_workers.serve import hooks  # noqa: PLC0415 - rich is slow to import

    async def run() -> T:
        settings = load_settings(emulate=emulate)
        async with hooks.connected(settings) as connected:
            return await work(connected, settings)

    return run_main(run())


@click.group()
def webhooks() -> None:
    """Manage the project's webhooks at the provider.

    \b
      gemqueue webhooks register https://jobs.example.com/webhook
      gemqueue webhooks list

    A registered hook reports every batch of the project. Jobs that carry webhook_url need none.
    """  # noqa: D301


@webhooks.command(short_help="Register a hook for the ends of batches.")
@click.argument("uri", required=False)
@click.option("--name", default="gemqueue", show_default=True, help="A label.")
@emulate_option
@json_option
def register(uri: str | None, *, name: str, emulate: bool | None, as_json: bool) -> None:
    """Register URI (or else webhook_url) for the ends of batches. The secret is shown only once.

    \b
      gemqueue webhooks register https://jobs.example.com/webhook
    """  # noqa: D301
    from gemqueue_adapters.webhooks import EVENTS  # noqa: PLC0415

    async def run(hooks: Hooks, settings: Settings) -> Hook:
        chosen = load_settings(webhook_url=uri or settings.webhook_url).webhook_url  # checked as the setting is
        if not chosen:
            raise ConfigError("Give the URI, or set webhook_url / GEMQUEUE_WEBHOOK_URL")
        return await hooks.register(uri=chosen, name=name, events=EVENTS)

    hook = _with_hooks(emulate, run)
    if as_json:
        print_json(hook)
        return
    from gemqueue_workers.screen import stripped  # noqa: PLC0415 - rich is slow to import

    click.echo(f"registered {stripped(hook.id)} for {stripped(hook.uri)}")
    _tell_secret(hook.new_signing_secret)


@webhooks.command("list", short_help="List the hooks and their state.")
@emulate_option
@json_option
def list_(*, emulate: bool | None, as_json: bool) -> None:
    """List the hooks: address, state, events, and the last characters of their secrets.

    \b
      gemqueue webhooks list --json
    """  # noqa: D301
    found = _with_hooks(emulate, lambda hooks, _: hooks.list())
    if as_json:
        print_json(found)
        return
    from gemqueue_workers.screen import make_console  # noqa: PLC0415
    from gemqueue_workers.serve import hooks  # noqa: PLC0415

    hooks.show_hooks(make_console(stderr=False), found)


@webhooks.command()
@click.argument("hook", metavar="ID")
@click.option("--at-once", is_flag=True, help="End the old secret now, not after a day, because others know it.")
@emulate_option
@json_option
def rotate(hook: str, *, at_once: bool, emulate: bool | None, as_json: bool) -> None:
    """Make a new signing secret. For a day both are valid, so servers that know either one go on.

    \b
      gemqueue webhooks rotate 95fy7kv40bvx7t0rm7p12jdciinp7f4bfhzz
    """  # noqa: D301
    secret = _with_hooks(emulate, lambda hooks, _: hooks.rotate(hook, at_once=at_once))
    if as_json:
        print_json({"secret": secret})
        return
    _tell_secret(secret)


@webhooks.command()
@click.argument("hook", metavar="ID")
@emulate_option
def ping(hook: str, *, emulate: bool | None) -> None:
    """Let the provider send a test event. The log of `gemqueue serve` shows what arrived.

    \b
      gemqueue webhooks ping 95fy7kv40bvx7t0rm7p12jdciinp7f4bfhzz
    """  # noqa: D301
    _with_hooks(emulate, lambda hooks, _: hooks.ping(hook))
    click.echo("a test event was asked for")


@webhooks.command()
@click.argument("hook", metavar="ID")
@emulate_option
def delete(hook: str, *, emulate: bool | None) -> None:
    """Delete a hook. Jobs are polled as before.

    \b
      gemqueue webhooks delete 95fy7kv40bvx7t0rm7p12jdciinp7f4bfhzz
    """  # noqa: D301
    _with_hooks(emulate, lambda hooks, _: hooks.delete(hook))
    click.echo("deleted")


def _tell_secret(secret: str) -> None:
    from gemqueue_workers.screen import stripped  # noqa: PLC0415

    click.echo(f"its secret, shown this once: {stripped(secret)}")
    click.echo("add it to GEMQUEUE_WEBHOOK_SECRETS of every `gemqueue serve` (several apart by blanks)", err=True)
