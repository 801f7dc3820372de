-- Spreads the tables over the nodes of a Citus cluster: memories by user_id, so that every statement
-- of one user runs on one node; what everybody reads is on all of them.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f alembic/distributed/citus.sql
--
-- At head, on the coordinator, with the nodes added (citus_add_node), citus in
-- shared_preload_libraries everywhere, and pgvector installed everywhere. The service should be
-- stopped: existing rows are moved. The primary keys and the indexes already lead with user_id.
--
-- Citus distributes no table that has triggers, so those of memories go. The service sees that they
-- are gone, and keeps nobody's memories in its own memory: every recall reads them. memory_changes,
-- which they filled, stays on the coordinator, as the service looks for it; nothing comes into it
-- but the service's own marks. What the triggers did for memory_windows a foreign key does: the
-- windows of a memory go with it. Not tried: Citus could not be had where this was written.

create extension if not exists citus;

drop trigger memories_insert on memories;
drop trigger memories_update on memories;
drop trigger memories_delete on memories;
drop trigger memories_truncate on memories;
drop function memories_changed();

select create_reference_table('embedding_model');
select create_reference_table('global_knowledge');
select create_reference_table('knowledge_windows');
select create_distributed_table('memories', 'user_id', shard_count => 32);
select create_distributed_table('memory_windows', 'user_id', colocate_with => 'memories');

-- The rows that the coordinator kept besides are only in the way now.
select truncate_local_data_after_distributing_table('public.memories');
select truncate_local_data_after_distributing_table('public.memory_windows');
select truncate_local_data_after_distributing_table('public.knowledge_windows');
select truncate_local_data_after_distributing_table('public.global_knowledge');
select truncate_local_data_after_distributing_table('public.embedding_model');

alter table memory_windows add constraint memory_windows_memory
    foreign key (user_id, memory_id) references memories (user_id, memory_id) on delete cascade;
