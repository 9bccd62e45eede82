"""Recipes: from the rows of one or more dataset versions to those of another, by steps that can be done again.

    file         the recipe as people write it, in YAML, whole and checked before anything runs
    expressions  the small language of its conditions and values; no Python is evaluated
    functions    Python functions of the installation that a recipe may name, and the digests of their files
    fields       what a condition may read of a row, and what a value may be written to
    steps        what each step does with rows, streamed; those that need all rows first pass over them twice
    spool        rows on disk between two passes
    run          the steps one after the other

The same recipe on the same versions gives the same rows on any machine, in any order of theirs: what is drawn is drawn by the
hash of a seed and of what the row holds, and of rows that say the same the one with the smallest name stays.
"""
