"""Backups of the embedded server's database, and restoring them: see docs/backups.md."""
