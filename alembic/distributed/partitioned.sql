-- Makes `memories` a table of 32 partitions by hash of user_id, on one PostgreSQL.
--
--     psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1 -f alembic/distributed/partitioned.sql
--
-- At head, with the service stopped: all rows are copied under a lock, so there must be room for
-- them twice. Columns, generated ones too, and indexes are those of the table as it is.

do $$
declare
    definitions text[];
    names text;
    definition text;
begin
    if (select relkind from pg_class where oid = 'memories'::regclass) = 'p' then
        raise exception 'memories is partitioned already';
    end if;
    lock table memories in access exclusive mode;
    select coalesce(array_agg(pg_get_indexdef(indexrelid)), '{}') into definitions
    from pg_index where indrelid = 'memories'::regclass and not indisprimary;
    select string_agg(quote_ident(attname), ', ') into names
    from pg_attribute
    where attrelid = 'memories'::regclass and attnum > 0 and not attisdropped
        and attgenerated = '';

    create table memories_partitioned (like memories including all excluding indexes)
        partition by hash (user_id);
    for part in 0..31 loop
        execute format(
            'create table memories_%s partition of memories_partitioned'
            ' for values with (modulus 32, remainder %s)', part, part
        );
    end loop;
    execute format('insert into memories_partitioned (%s) select %s from memories', names, names);

    drop table memories;
    alter table memories_partitioned rename to memories;
    alter table memories add constraint memories_pkey primary key (user_id, memory_id);
    foreach definition in array definitions loop
        execute definition;
    end loop;
end
$$;

analyze memories;
