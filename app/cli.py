"""The command line: `memory-driver`, the same as `python -m app`."""

import typer

from app.commands import backups, copy, database, files, journal, reembed, repair, serve

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.command()(serve.serve)
cli.add_typer(database.index, name="index")
cli.add_typer(journal.journal, name="journal")
cli.add_typer(database.words, name="words")
cli.command()(repair.repair)
cli.command()(reembed.reembed)
cli.command()(backups.backup)
cli.command()(backups.restore)
cli.command()(copy.copy)
cli.command("export")(files.export)
cli.command("import")(files.import_)


@cli.callback()
def main_help() -> None:
    """Memory driver service. It is configured by environment variables: see the README."""


def main() -> None:
    """The entry point."""
    cli()
