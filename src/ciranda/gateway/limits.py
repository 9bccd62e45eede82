"""Every bound of the gateway in one place: nothing that a client or an engine can grow is without one.

Chosen so that one worker with every bound reached stays within some two gigabytes. Seconds and bytes; they are not settings,
since nobody has an opinion about them before the first incident, and after it the number belongs here.
"""

from __future__ import annotations

# A client's side
HEADER_BYTES = 64 << 10
BODY_BYTES = 32 << 20
BUFFERED_BYTES = 1 << 30  # request bodies of all connections together
CONNECTIONS = 4096
PIPELINED = 16
HEADER_SECONDS = 10.0
BODY_SECONDS = 60.0
IDLE_SECONDS = 75.0  # longer than load balancers keep a connection, so that they close first
STALLED_SECONDS = 60.0  # a client that reads nothing for so long is gone
LINGER_SECONDS = 5.0  # how long a refused upload may go on while its refusal is being read

# An engine's side
CONNECT_SECONDS = 5.0
FIRST_BYTE_SECONDS = 120.0
BETWEEN_SECONDS = 60.0
TOTAL_SECONDS = 600.0
POOL_IDLE_SECONDS = 4.0  # shorter than engines keep theirs (uvicorn: 5 s), or the race is lost
ANSWER_BYTES = 64 << 20
EVENT_BYTES = 1 << 20
PING_SECONDS = 15.0

# Traces that applications report (OTLP)
MODERATED_CHARACTERS = 1_000_000  # of one request; patterns take about half a second for so many
MODERATIONS_RUNNING = 4
COUNTS_RUNNING = 64  # prompts that engines are counting; they stand outside every model's own bound
TRACES_BYTES = 4 << 20  # as sent
TRACES_INFLATED_BYTES = 8 << 20  # read without a pause: the worst that can be in it holds others up for 0.4 s
TRACES_SPANS = 10_000
TRACES_RUNNING = 2  # requests that are read at the same time; they share the worker with everybody's answers
TRACES_AT_ONCE = 64  # records written before others get a turn

# Retries: a tenth of the traffic, with a stock for the moment a replica dies
TRIES = 3
RETRY_STOCK = 100.0
RETRY_EARNED = 0.1
HOLD_SECONDS = 5.0  # how long a request waits for new routing when nobody can answer: a killed engine is back in less

# Shadow copies
SHADOWS_RUNNING = 4
SHADOWS_WAITING = 64
SHADOW_BYTES = 64 << 20

SWEEP_SECONDS = 0.25
SNAPSHOT_SECONDS = 0.05
FULL_SECONDS = 1.0  # after a failed write, how long requests are refused before one tries again
