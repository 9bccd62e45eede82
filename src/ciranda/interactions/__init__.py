"""Every request and its answer, written once: the spool on disk, the tables behind it, and the questions asked of them.

    gateway -> spool -> collector (segments, intake, ingestion, sink) -> tables
    pages, monitors, rollouts, data -> query -> the collector's door, or a ClickHouse server

`table` says what each field means; `query` is what the rest of the platform imports.
"""
