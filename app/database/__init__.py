"""PostgreSQL's life beside the drivers: the embedded server and the migrations."""
