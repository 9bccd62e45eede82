"""What everything stands on: one clock, one source of ids, one database, and files that are whole or absent."""
