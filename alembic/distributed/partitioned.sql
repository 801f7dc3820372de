-- Makes `memories` a table of 32 partitions by hash of user_id, on one PostgreSQL.
--
--     psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1 -f alembic/distributed/partitioned.sql
--
-- At head, with the service stopped: all rows are copied under a lock, so there must be room for
-- them twice. Columns, generated ones too, indexes, triggers and owner are those of the table as it
-- is. The partitions have the triggers too: those of the whole do not see what is written into one.

do $$
declare
    definitions text[];
    names text;
    definition text;
    key text;
    named text;
    name text;
    owner regrole;
    triggers text[];
    part regclass;
begin
    if (select relkind from pg_class where oid = 'memories'::regclass) = 'p' then
        raise exception 'memories is partitioned already';
    end if;
    lock table memories in access exclusive mode;
    select coalesce(array_agg(pg_get_indexdef(indexrelid)), '{}') into definitions
    from pg_index where indrelid = 'memories'::regclass and not indisprimary;
    select pg_get_constraintdef(oid) into key
    from pg_constraint where conrelid = 'memories'::regclass and contype = 'p';
    select coalesce(array_agg(pg_get_triggerdef(pg_trigger.oid)), '{}') into triggers
    from pg_trigger where tgrelid = 'memories'::regclass and not tgisinternal;
    select format(' ON %I.memories ', nspname), relowner::regrole into named, owner
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid = 'memories'::regclass;
    select string_agg(quote_ident(attname), ', ') into names
    from pg_attribute
    where attrelid = 'memories'::regclass and attnum > 0 and not attisdropped
        and attgenerated = '';

    create table memories_partitioned (like memories including all excluding indexes)
        partition by hash (user_id);
    for n in 0..31 loop
        execute format(
            'create table memories_%s partition of memories_partitioned'
            ' for values with (modulus 32, remainder %s)', n, n
        );
    end loop;
    execute format('insert into memories_partitioned (%s) select %s from memories', names, names);

    drop table memories;
    alter table memories_partitioned rename to memories;
    execute 'alter table memories add constraint memories_pkey ' || key;
    foreach definition in array definitions loop
        execute definition;
    end loop;
    for part in select relid from pg_partition_tree('memories') loop
        execute format('alter table %s owner to %s', part, owner);
        foreach definition in array triggers loop
            execute replace(definition, named, format(' ON %s ', part));
        end loop;
    end loop;
    for part, name in
        select tgrelid, tgname from pg_trigger
        where tgrelid in (select relid from pg_partition_tree('memories')) and not tgisinternal
    loop
        execute format('alter table %s enable always trigger %I', part, name);
    end loop;
end
$$;

analyze memories;
