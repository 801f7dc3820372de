"""Nothing: stands for the memories' migration until it is merged. Drop this file then."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
