"""Which model the vectors are of, by a number: another model's vectors take their place as a whole.

- `generation` counts the models that the database had. Every statement that compares or keeps
  vectors asks `of_model` whether they are of the generation that the service works with.
- `previous_name` and `previous_sample` are the model before: a service that is configured with that
  one follows.
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        """
        alter table embedding_model
            add column generation integer not null default 1,
            add column previous_name text,
            add column previous_sample vector
        """
    )
    op.execute(
        """
        create function of_model(wanted integer) returns boolean
        language plpgsql stable parallel safe as $$
        begin
            if wanted is distinct from (select generation from embedding_model) then
                raise exception 'the vectors are of another model' using errcode = 'MDG01';
            end if;
            return true;
        end
        $$
        """
    )


def downgrade() -> None:
    op.execute("drop function of_model(integer)")
    op.execute(
        """
        alter table embedding_model
            drop column generation, drop column previous_name, drop column previous_sample
        """
    )
