"""The limit of ingest does the work that training reads."""
