"""The statements about a second place of the same tables, in a schema beside the first one's."""

from typing import Any, NamedTuple, Protocol, Self

import asyncpg

from app.drivers.pgvector.sql.knowledge import COLUMNS
from app.drivers.pgvector.sql.recall import MEMORY
from app.errors import ConfigurationError

_MOST_BYTES = 63
"""Of a name in PostgreSQL; a longer one is cut."""

OWN = ("reembedding_services", "reembedding_left", "reembedding_progress")
"""Tables of the second place that the first has not."""


class _Asked(Protocol):
    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...


class Places(NamedTuple):
    """The names of the schemas, quoted: of the first place, the second, and what was replaced."""

    first: str
    second: str
    replaced: str

    @classmethod
    def of(cls, schema: str) -> Self:
        """Raises `ConfigurationError` for a schema whose name is so long that there is no other."""
        names = (schema, f"{schema}_reembedding", f"{schema}_replaced")
        if any(len(name.encode()) > _MOST_BYTES for name in names):
            raise ConfigurationError(f"the schema {schema!r} has too long a name for another model")
        return cls(*map(quoted, names))


def quoted(name: str) -> str:
    """An identifier, as a statement has it."""
    return '"' + name.replace('"', '""') + '"'


SCHEMA = "select current_schema()"

SECOND = """
    select current_schema() as schema, exists (
        select from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = current_schema() || '_reembedding' and relname = 'reembedding_progress'
    ) as ready
"""

# $1 a schema's quoted name
IS_SCHEMA = "select to_regnamespace($1) is not null"


async def second_of(connection: _Asked) -> Places | None:
    """The places, where there is a second one that is ready to be filled."""
    row = await connection.fetchrow(SECOND)
    return Places.of(row["schema"]) if row is not None and row["ready"] else None


async def next_model(connection: _Asked) -> asyncpg.Record | None:
    """The name and the sample of the model that the second place is of, if there is one."""
    places = await second_of(connection)
    if places is None:
        return None
    return await connection.fetchrow(f"select name, sample from {places.second}.embedding_model")


def begin(places: Places) -> str:
    """What makes the second place one, once its tables are there.

    Triggers keep what the second has equal to what the first has: whoever changes or deletes a
    record of the first deletes it in the second, and the second takes only what the first has in
    that version. A row that somebody is changing is left out: whoever fills waits for no writer.
    What was stored or changed since is noted in `reembedding_left`: so once all was looked through,
    nobody has to do so again.
    """
    first, second, _ = places
    return f"""
        create table {second}.reembedding_services (
            id uuid primary key,
            problem text,
            seen_at timestamptz not null default clock_timestamp()
        );
        create table {second}.reembedding_left (
            n bigint generated always as identity primary key,
            user_id text collate "C",
            id uuid not null
        );
        create function {second}.reembedding_changed() returns trigger
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        begin
            if tg_op = 'TRUNCATE' then
                execute format('delete from {second}.%I', tg_table_name);
            elsif tg_table_name = 'memories' then
                delete from {second}.memories as other using gone
                where other.user_id = gone.user_id and other.memory_id = gone.memory_id;
            else
                delete from {second}.global_knowledge as other using gone
                where other.knowledge_id = gone.knowledge_id;
            end if;
            return null;
        end
        $$;
        create function {second}.reembedding_new() returns trigger
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        begin
            if tg_table_name = 'memories' then
                insert into {second}.reembedding_left (user_id, id)
                select user_id, memory_id from made;
            else
                insert into {second}.reembedding_left (id) select knowledge_id from made;
            end if;
            return null;
        end
        $$;
        create function {second}.reembedding_kept() returns trigger
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        begin
            if tg_table_name = 'memories' then
                perform from {first}.memories as own
                where own.user_id = new.user_id and own.memory_id = new.memory_id
                    and own.updated_at = new.updated_at
                for share skip locked;
            else
                perform from {first}.global_knowledge as own
                where own.knowledge_id = new.knowledge_id and own.updated_at = new.updated_at
                for share skip locked;
            end if;
            return case when found then new end;
        end
        $$;
        {"".join(_triggers(first, second, table) for table in ("memories", "global_knowledge"))}
        create table {second}.reembedding_progress (
            began_at timestamptz not null default clock_timestamp(),
            records bigint not null,
            done bigint not null,
            all_seen boolean not null default false
        )
    """


_EVENTS = (
    ("before truncate", "", "changed"),
    ("after insert", "referencing new table as made", "new"),
    ("after update", "referencing old table as gone", "changed"),
    ("after update", "referencing new table as made", "new"),
    ("after delete", "referencing old table as gone", "changed"),
)


def _triggers(first: str, second: str, table: str) -> str:
    made = ""
    for n, (event, referencing, function) in enumerate(_EVENTS):
        name = f"{table}_reembedding_{n}"
        made += f"""
        create trigger {name} {event} on {first}.{table} {referencing}
            for each statement execute function {second}.reembedding_{function}();
        alter table {first}.{table} enable always trigger {name};"""
    return f"""{made}
        create trigger {table}_reembedding before insert on {second}.{table}
            for each row execute function {second}.reembedding_kept();
        alter table {second}.{table} enable always trigger {table}_reembedding;
    """


def _lacking(places: Places, table: str, key: str) -> str:
    """That the second place lacks the row `own` of the first."""
    same = " and ".join(f"other.{column} = own.{column}" for column in key.split(", "))
    return f"""not exists (
        select from {places.second}.{table} as other
        where {same} and other.updated_at = own.updated_at
    )"""


def _memories_lacking(places: Places) -> str:
    return _lacking(places, "memories", "user_id, memory_id")


def _knowledge_lacking(places: Places) -> str:
    return _lacking(places, "global_knowledge", "knowledge_id")


def missing_memories(places: Places) -> str:
    """A page of memories that the second place lacks, behind $1 a user and $2 an id; $3 how many.

    What has expired and is not deleted yet is among them.
    """
    return f"""
        select {MEMORY} from {places.first}.memories as own
        where (user_id, memory_id) > ($1, $2) and {_memories_lacking(places)}
        order by user_id, memory_id limit $3
    """


def missing_knowledge(places: Places) -> str:
    """The same of the knowledge: behind $1 an id; $2 how many."""
    return f"""
        select {COLUMNS}, null::float8 as score from {places.first}.global_knowledge as own
        where knowledge_id > $1 and {_knowledge_lacking(places)}
        order by knowledge_id limit $2
    """


def left(places: Places) -> str:
    """What was noted as stored or changed, behind the number $1; $2 how many."""
    return f"""
        select n, user_id, id from {places.second}.reembedding_left where n > $1
        order by n limit $2
    """


def left_memories(places: Places) -> str:
    """Of $1 users and $2 ids, in pairs, the memories that the second place lacks."""
    return f"""
        select {", ".join(f"own.{column}" for column in MEMORY.split(", "))}
        from (select distinct * from unnest($1::text[], $2::uuid[])) as noted (owner, id)
        join {places.first}.memories as own on user_id = owner and memory_id = id
        where {_memories_lacking(places)}
    """


def left_knowledge(places: Places) -> str:
    """Of the ids $1 the knowledge that the second place lacks."""
    return f"""
        select {COLUMNS}, null::float8 as score from {places.first}.global_knowledge as own
        where knowledge_id = any($1::uuid[]) and {_knowledge_lacking(places)}
    """


def settle(places: Places) -> str:
    """Forget what was noted under the numbers $1, but for what the second place lacks still."""
    return f"""
        delete from {places.second}.reembedding_left as noted where n = any($1::bigint[])
            and not exists (
                select from {places.first}.memories as own
                where own.user_id = noted.user_id and own.memory_id = noted.id
                    and {_memories_lacking(places)}
            )
            and (noted.user_id is not null or not exists (
                select from {places.first}.global_knowledge as own
                where own.knowledge_id = noted.id and {_knowledge_lacking(places)}
            ))
    """


def note_memories(places: Places) -> str:
    """Note of $1 users and $2 ids, in pairs, those that the second place lacks."""
    return f"""
        insert into {places.second}.reembedding_left (user_id, id)
        select user_id, memory_id from unnest($1::text[], $2::uuid[]) as noted (owner, id)
        join {places.first}.memories as own on user_id = owner and memory_id = id
        where {_memories_lacking(places)}
    """


def note_knowledge(places: Places) -> str:
    """Note of the ids $1 the knowledge that the second place lacks."""
    return f"""
        insert into {places.second}.reembedding_left (id)
        select knowledge_id from {places.first}.global_knowledge as own
        where knowledge_id = any($1::uuid[]) and {_knowledge_lacking(places)}
    """


def all_seen(places: Places) -> str:
    """Whether all records were looked through: what is missing since then is noted."""
    return f"select all_seen from {places.second}.reembedding_progress"


def see_all(places: Places) -> str:
    """All records were looked through."""
    return f"update {places.second}.reembedding_progress set all_seen = true"


def count(schema: str) -> str:
    """How many records there are in a place."""
    return f"""
        select (select count(*) from {schema}.memories)
            + (select count(*) from {schema}.global_knowledge)
    """


def told(places: Places) -> str:
    """How far it is, and to which model, for the services."""
    return f"""
        select name, sample, records, done from {places.second}.embedding_model
        cross join {places.second}.reembedding_progress
    """


def heartbeat(places: Places) -> str:
    """A service is there: $1 its id, $2 why it can't take the model yet."""
    return f"""
        insert into {places.second}.reembedding_services (id, problem) values ($1, $2)
        on conflict (id) do update set problem = excluded.problem, seen_at = clock_timestamp()
    """


def problems(places: Places) -> str:
    """Since when it goes on, in seconds, and the problems of services seen in the last $1."""
    return f"""
        select extract(epoch from clock_timestamp() - began_at)::float8 as seconds, array(
            select problem from {places.second}.reembedding_services
            where problem is not null
                and seen_at > clock_timestamp() - make_interval(secs => $1)
            order by id
        ) as problems
        from {places.second}.reembedding_progress
    """


def first_progress(places: Places) -> str:
    """It begins now, with $1 records; whoever sees that may fill it."""
    return f"insert into {places.second}.reembedding_progress (records, done) values ($1, 0)"


def progress(places: Places) -> str:
    """Keep how many records there are, $1, and how many are done, $2."""
    return f"update {places.second}.reembedding_progress set records = $1, done = $2"


def remember_model(places: Places) -> str:
    """The second place is of the model $1, of dimension $2, that makes $3 of the sample."""
    return f"""
        insert into {places.second}.embedding_model (
            name, dimension, sample, language, words, generation, previous_name, previous_sample
        )
        select $1, $2, $3, language, words, generation + 1, name, sample
        from {places.first}.embedding_model
    """


def more_done(places: Places) -> str:
    """So many more are done, $1."""
    return f"update {places.second}.reembedding_progress set done = least(records, done + $1)"


# $1 the first schema: tables of records that can't be exchanged, and why
UNFIT = """
    select relname, case when relkind <> 'r' then 'is partitioned'
        else 'belongs to another role' end as why
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = $1 and relname in ('memories', 'global_knowledge')
        and (relkind <> 'r' or not pg_has_role(relowner, 'usage'))
    order by relname
"""

# $1 a schema's quoted name
TABLES_OF = """
    select relname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where relkind = 'r' and '"' || replace(nspname, '"', '""') || '"' = $1
    order by relname
"""


def version(schema: str) -> str:
    """The version of a place's schema, and which words its memories have."""
    return f"""
        select version_num, language, words from {schema}.alembic_version
        cross join {schema}.embedding_model
    """
