"""What ranking wants of a memory as one value, its outline; what changes is told; long texts.

- `outline` has words, speaker, date, form and the signs of the vectors, made by `app/ranking`. It
  is in the primary key's index, where it fits; a longer one is in `long_outline`.
- `memory_changes` tells which memories of whom each transaction changed: triggers fill it, so that
  a service which keeps memories in its own memory knows what it has to look at again.
- `memory_windows` has the vectors of a text longer than the model reads, from the second on, and
  `knowledge_windows` those of knowledge.
"""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alembic import context, op
from app.ranking.outlines import packed
from app.ranking.words import LANGUAGES, VERSION

revision = "0005"
down_revision = "0004"

COLUMN = """
    select typname, atttypmod from pg_attribute join pg_type on pg_type.oid = atttypid
    where attrelid = 'memories'::regclass and attname = 'embedding'
"""
LARGEST_PLAIN_DIMENSION = 1_024
# A tuple of a B-tree has 2,704 bytes at most. Beside an outline there are the id, the owner's, and
# what both are kept with.
LARGEST_TUPLE = 2_600
PAGE = 1_000
ROWS = """
    select user_id, memory_id, conversation_id, content, metadata::text as metadata, created_at,
        substring(bit_send(bits) from 5) as signs
    from memories
    where (user_id, memory_id) > (:user_id, :memory_id) order by user_id, memory_id limit :page
"""
FILL = """
    update memories set outline = :outline, long_outline = :long_outline
    where user_id = :user_id and memory_id = :memory_id
"""
HAS_BTREE_GIN = "select exists (select from pg_extension where extname = 'btree_gin')"
EVENTS = {
    "insert": "referencing new table as changed",
    "update": "referencing new table as changed old table as before",
    "delete": "referencing old table as changed",
    "truncate": "",
}


def _fill(connection: Connection, language: str) -> None:
    """Give the stored memories what new ones get when they are stored."""
    last: dict[str, Any] = {"user_id": "", "memory_id": UUID(int=0), "page": PAGE}
    while rows := connection.execute(text(ROWS), last).all():
        filled = []
        for row in rows:
            outline = packed(
                row.content,
                json.loads(row.metadata),
                row.conversation_id,
                row.created_at,
                row.signs.ljust(-(-len(row.signs) // 8) * 8, b"\0"),
                language,
            )
            fits = len(outline) + len(row.user_id.encode()) <= LARGEST_TUPLE
            filled.append(
                {
                    "user_id": row.user_id,
                    "memory_id": row.memory_id,
                    "outline": outline if fits else None,
                    "long_outline": None if fits else outline,
                }
            )
        connection.execute(text(FILL), filled)
        last |= {"user_id": rows[-1].user_id, "memory_id": rows[-1].memory_id}


def _language(connection: Connection) -> str:
    """The language of the words from now on: PostgreSQL may know some that we do not."""
    connection.execute(
        text("alter table embedding_model add column words integer not null default 0")
    )
    known = connection.execute(text("select language from embedding_model")).scalar()
    language = known if known in LANGUAGES else "simple" if known else "english"
    connection.execute(
        text("update embedding_model set language = :language, words = :words"),
        {"language": language, "words": VERSION},
    )
    connection.execute(
        text(f"alter table embedding_model alter column words set default {VERSION}")
    )
    return str(language)


def upgrade() -> None:
    connection = op.get_bind()
    kind, dimension = connection.execute(text(COLUMN)).one()
    schema = connection.execute(text("select quote_ident(current_schema())")).scalar_one()
    op.execute("alter table memories add column outline bytea, add column long_outline bytea")
    op.execute("alter table memories alter column outline set storage plain")
    _fill(connection, _language(connection))
    op.execute("drop index memories_words")
    op.execute(
        """
        alter table memories
            drop constraint memories_pkey,
            drop column words, drop column bits, drop column speaker, drop column occurred_at,
            drop column asks,
            add constraint memories_outline check ((outline is null) <> (long_outline is null)),
            add primary key (user_id, memory_id) include (outline)
        """
    )
    op.execute("create index memories_long on memories (user_id, memory_id) where outline is null")
    op.execute(
        f"""
        create table memory_windows (
            user_id text collate "C" not null,
            memory_id uuid not null,
            n smallint not null,
            embedding {kind}({dimension}) not null,
            primary key (user_id, memory_id, n)
        )
        """
    )
    if dimension <= LARGEST_PLAIN_DIMENSION:
        op.execute("alter table memory_windows alter column embedding set storage plain")
    _create_knowledge_windows(kind, dimension)
    op.execute(
        """
        create table memory_changes (
            user_id text collate "C" not null,
            written xid8 not null default pg_current_xact_id(),
            memory_id uuid,
            marked_at timestamptz
        )
        """
    )
    op.execute("create index memory_changes_written on memory_changes (user_id, written)")
    # The first mark: nothing after it was forgotten.
    op.execute(
        """
        insert into memory_changes (user_id, written, marked_at)
        values ('', pg_snapshot_xmin(pg_current_snapshot()), now())
        """
    )
    # Whoever may change memories need not have a right to these tables.
    op.execute(
        f"""
        create function memories_changed() returns trigger
        language plpgsql security definer set search_path = {schema}, pg_temp as $$
        begin
            if tg_op = 'TRUNCATE' then
                execute format(
                    'insert into memory_changes (user_id) select distinct user_id from %s',
                    tg_relid::regclass
                );
                execute format(
                    'delete from memory_windows where user_id in (select user_id from %s)',
                    tg_relid::regclass
                );
                return null;
            end if;
            insert into memory_changes (user_id, memory_id)
            select user_id, unnest(
                case when count(*) > 1000 then array[null::uuid] else array_agg(memory_id) end
            ) from changed group by user_id;
            if tg_op = 'UPDATE' then
                insert into memory_changes (user_id, memory_id)
                select user_id, memory_id from before
                except select user_id, memory_id from changed;
                delete from memory_windows using before, changed
                where (before.user_id, before.memory_id) = (changed.user_id, changed.memory_id)
                    and before.content <> changed.content
                    and memory_windows.user_id = before.user_id
                    and memory_windows.memory_id = before.memory_id;
            elsif tg_op = 'DELETE' then
                delete from memory_windows using changed
                where memory_windows.user_id = changed.user_id
                    and memory_windows.memory_id = changed.memory_id;
            end if;
            return null;
        end
        $$
        """  # noqa: S608
    )
    for event, tables in EVENTS.items():
        when = "before" if event == "truncate" else "after"
        op.execute(
            f"""
            create trigger memories_{event} {when} {event} on memories {tables}
            for each statement execute function memories_changed()
            """
        )
        # What a session writes that has session_replication_role = replica is a change, too.
        op.execute(f"alter table memories enable always trigger memories_{event}")
    attributes = context.config.attributes
    attributes["rewritten"] = tuple({*attributes.get("rewritten", ()), "memories"})


def _create_knowledge_windows(kind: str, dimension: int) -> None:
    op.execute(
        f"""
        create table knowledge_windows (
            knowledge_id uuid not null references global_knowledge on delete cascade,
            n smallint not null,
            category text collate "C" not null,
            embedding {kind}({dimension}) not null,
            primary key (knowledge_id, n)
        )
        """
    )
    if dimension <= LARGEST_PLAIN_DIMENSION:
        op.execute("alter table knowledge_windows alter column embedding set storage plain")
    op.execute("create index knowledge_windows_category on knowledge_windows (category)")
    # Unlike an ivfflat index it is right for any number of rows, and is never built anew.
    op.execute(
        f"""
        create index knowledge_windows_embedding on knowledge_windows
            using hnsw ((embedding::halfvec({dimension})) halfvec_cosine_ops)
        """
    )


def downgrade() -> None:
    """Give the version before its words and its evidence, as near as SQL can make them."""
    connection = op.get_bind()
    _, dimension = connection.execute(text(COLUMN)).one()
    for event in EVENTS:
        op.execute(f"drop trigger memories_{event} on memories")
    op.execute("drop function memories_changed()")
    op.execute("drop table memory_changes")
    op.execute("drop table knowledge_windows")
    op.execute("drop table memory_windows")
    op.execute("drop index memories_long")
    op.execute(
        f"""
        alter table memories
            drop constraint memories_pkey,
            drop constraint memories_outline,
            drop column outline, drop column long_outline,
            add column words tsvector,
            add column bits bit({dimension}) not null
                generated always as (binary_quantize(embedding)::bit({dimension})) stored,
            add column speaker text,
            add column occurred_at timestamptz,
            add column asks boolean,
            add primary key (user_id, memory_id) include (conversation_id, bits)
        """
    )
    connection.execute(
        text(
            """
            update memories set speaker = metadata ->> 'speaker', occurred_at = created_at,
                asks = content ~ :asks,
                words = to_tsvector(
                    (select language from embedding_model)::regconfig, left(content, 8192)
                )
            """
        ),
        {"asks": r"[?\uff1f\u061f]\s*$"},
    )
    op.execute(
        """
        alter table memories
            alter column words set not null,
            alter column occurred_at set not null,
            alter column asks set not null
        """
    )
    if connection.execute(text(HAS_BTREE_GIN)).scalar_one():
        op.execute("create index memories_words on memories using gin (user_id, words)")
    else:
        op.execute("create index memories_words on memories using gin (words)")
    op.execute("alter table embedding_model drop column words")
