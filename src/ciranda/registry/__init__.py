"""Which models there are, their immutable versions, where each came from, and the gates it had to pass.

models     the applied spec of each model
gates      rules on evaluations, verdicts, and the only ways past them
versions   immutable versions, their folders and stages
lineage    from a version back to its causes, and forward to its effects
card       the model card, written from the record
"""
