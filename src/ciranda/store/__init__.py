"""What everything stands on: one clock, one source of ids, one database, files that are whole or absent, content-addressed blobs."""
