"""How the values of `views` are read from a running platform: one module per noun, each a few questions to its owners.

`stored.Stored` is their sum, the `Reader` that pages ask. Nothing here writes; what is away (the collector, a job's folder)
makes a page poorer, never absent.
"""
