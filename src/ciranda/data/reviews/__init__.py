"""Review: people look at answers one at a time, and what they say becomes rows.

    queues     a queue: which model's answers or which dataset's rows, what labels become, how many are asked twice
    items      what waits in it and why; one person at a time gets one, by a lease that expires; labels, skips, undo
    agreement  how far annotators agree beyond chance, with an interval
    taught     what the labels of an item come to: rows to add, rows to take out

Items hold references, not texts: what is looked at is read when it is looked at, so that erasure and policies reach it. A label's
correction is text of the annotator's own; it is kept until it is a row, and forgotten with its item.
"""
