"""`headrace keys`: create, list, revoke."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from headrace.commands.terminal import err, out
from headrace.keys.file import add_key, read_keys, revoke_key
from headrace.keys.key import issue, utc_now

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Manage callers' keys: create, list, revoke.")

KeyFile = Annotated[
    Path, typer.Option("--file", help="The key file; the setting gateway.keys names it, too.")
]
KEY_FILE = Path("keys.json")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The name of the key's user: a person or a program.")],
    models: Annotated[
        list[str] | None,
        typer.Option(help="Only models whose names match this pattern; may be repeated."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Most requests a second, in each gateway process.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Most requests at a time, in each gateway process.")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until the key expires.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Allow the key to use the admin port.")
    ] = False,
    file: KeyFile = KEY_FILE,
) -> None:
    """Create a key and print it once: the file keeps only its SHA-256.

    A running server loads it by itself.

    Example: headrace keys create me --models 'mail-*' --rate 50 --expires-days 90
    """
    now = utc_now()
    expires = None if expires_days is None else now + timedelta(days=expires_days)
    key, text = issue(
        name,
        now,
        models=tuple(models or ("*",)),
        rate=rate,
        concurrency=concurrency,
        admin=admin,
        expires=expires,
    )
    add_key(file, key)
    err.print(
        f'created {key.id} for "{key.name}" in {file}; the key is shown only this once:',
        markup=False,
    )
    out.print(text, markup=False)


@app.command("list")
def list_keys(file: KeyFile = KEY_FILE) -> None:
    """List the keys of a file, without their secrets.

    Example: headrace keys list --file keys.json
    """
    keys = read_keys(file)
    now = utc_now()
    table = Table(
        Column("id", min_width=12),  # never shortened, because `revoke` needs it
        "name",
        "models",
        "rate",
        "at a time",
        "admin",
        "created",
        "expires",
        "state",
        box=None,
    )
    for key in keys:
        table.add_row(
            key.id,
            key.name,
            " ".join(key.models),
            "-" if key.rate is None else f"{key.rate:g}/s",
            "-" if key.concurrency is None else str(key.concurrency),
            "yes" if key.admin else "-",
            f"{key.created:%Y-%m-%d}",
            "-" if key.expires is None else f"{key.expires:%Y-%m-%d}",
            key.state(now),
        )
    out.print(table)


@app.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id: its part between hr_ and the dot.")
    ],
    file: KeyFile = KEY_FILE,
) -> None:
    """Revoke a key for ever. A running server refuses it within two seconds.

    Example: headrace keys revoke 9f2c4a81d07e
    """
    key = revoke_key(file, key_id)
    err.print(f'revoked {key.id} of "{key.name}"', markup=False)
