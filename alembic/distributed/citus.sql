-- Spreads the tables over the nodes of a Citus cluster: memories by user_id, so that every statement
-- of one user runs on one node; what everybody reads is on all of them.
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f alembic/distributed/citus.sql
--
-- At head, on the coordinator, with the nodes added (citus_add_node), citus in
-- shared_preload_libraries everywhere, and pgvector installed everywhere. The service should be
-- stopped: existing rows are moved. The primary key and the indexes already lead with user_id.

create extension if not exists citus;

select create_reference_table('embedding_model');
select create_reference_table('global_knowledge');
select create_distributed_table('memories', 'user_id', shard_count => 32);

-- The rows that the coordinator kept besides are only in the way now.
select truncate_local_data_after_distributing_table('public.memories');
select truncate_local_data_after_distributing_table('public.global_knowledge');
select truncate_local_data_after_distributing_table('public.embedding_model');
