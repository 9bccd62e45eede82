"""What live answers say: figures, quality, drift, and the messages that somebody must see.

vectors    a text as numbers, without any model
language   which language a text is in
reference  what a stream is compared with, frozen at promotion
bets       PairBet: has the stream of messages changed? with a bound on false alarms, at every moment
rates      the same for a share of bad answers or bad votes
explain    what grew, what shrank, by how much, with examples
streams    one stream as a value: observe(stream, messages) -> (stream, alarms)
look       one look at a model: interactions and votes in, states and alarms out
signals    what the loop may act upon, kept until it is taken
drift      keeps it all in the database, exactly once, for every model
quality    cheap scorers on every answer
metrics    live figures for pages and command line
alerts     what was raised, who has seen it; `delivery` brings it to them
"""
