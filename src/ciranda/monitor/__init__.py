"""What live answers say: figures, quality, drift, and the messages that somebody must see.

    vectors    a text as numbers, without any model
    language   which language a text is in
    bets       PairBet: has the stream of messages changed? with a bound on false alarms, at every moment
    rates      the same for a share of bad answers or bad votes
    explain    what grew, what shrank, by how much, since when, with examples
    drift      the channels of one model as a value: observe(state, messages) -> (state, alarms)
    watch      keeps those states in the database, exactly once, and says when a turn should start
    quality    cheap scorers on every answer, and pairs and singles for rollouts
    metrics    live figures for pages and command line
    alerts     what was raised, who has seen it; `delivery` brings it to them
"""
