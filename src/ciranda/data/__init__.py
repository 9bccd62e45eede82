"""Rows and where they come from: sources bring them in, checks judge them, versions keep them, the catalogue finds them.

sources.ingest(…) -> rows      checks.run(rows, policy) -> kept rows and a report
versions.commit(…) -> `name@2`  versions.read(home, "name@2", split="train") -> rows
"""
