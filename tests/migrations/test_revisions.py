"""What the service knows of its schemas without Alembic is what Alembic knows."""

import subprocess
import sys

from alembic.script import ScriptDirectory

from app.drivers.pgvector import migrations


def test_the_files_are_named_by_their_revisions_in_order() -> None:
    scripts = ScriptDirectory.from_config(migrations.alembic_config())
    oldest_first = [script.revision for script in scripts.walk_revisions()][::-1]
    assert list(migrations.revisions()) == oldest_first
    assert migrations.head() == scripts.get_current_head()


def test_only_an_earlier_schema_or_none_is_older() -> None:
    *earlier, head = migrations.revisions()
    assert all(map(migrations.is_older, [None, *earlier]))
    assert not migrations.is_older(head)
    assert not migrations.is_older("9999")


def test_the_service_does_not_load_what_only_a_migration_needs() -> None:
    needless = "{'alembic', 'sqlalchemy', 'onnxruntime', 'torch'}"
    code = (
        "import sys, app.main, app.drivers.pgvector, app.embedding.engines.openvino; "
        f"print({needless} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
