"""Every bound of the gateway in one place: nothing that a client or an engine can grow is without one.

Chosen so that one worker with every bound reached stays within some two gigabytes. Seconds and bytes; they are not settings,
since nobody has an opinion about them before the first incident, and after it the number belongs here.
"""

from __future__ import annotations

from typing import Final

# A client's side
HEADER_BYTES: Final = 64 << 10
BODY_BYTES: Final = 32 << 20
BUFFERED_BYTES: Final = 1 << 30  # request bodies of all connections together
CONNECTIONS: Final = 4096
PIPELINED: Final = 16
HEADER_SECONDS: Final = 10.0
BODY_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 75.0  # longer than load balancers keep a connection, so that they close first
STALLED_SECONDS: Final = 60.0  # a client that reads nothing for so long is gone
LINGER_SECONDS: Final = 5.0  # how long a refused upload may go on while its refusal is being read

# An engine's side
CONNECT_SECONDS: Final = 5.0
FIRST_BYTE_SECONDS: Final = 120.0
BETWEEN_SECONDS: Final = 60.0
TOTAL_SECONDS: Final = 600.0
POOL_IDLE_SECONDS: Final = 4.0  # shorter than engines keep theirs (uvicorn: 5 s), or the race is lost
ANSWER_BYTES: Final = 64 << 20
EVENT_BYTES: Final = 1 << 20
PING_SECONDS: Final = 15.0

# Traces that applications report (OTLP)
MODERATED_CHARACTERS: Final = 1_000_000  # of one request; patterns take about half a second for so many
MODERATIONS_RUNNING: Final = 4
COUNTS_RUNNING: Final = 64  # prompts that engines are counting; they stand outside every model's own bound
TRACES_BYTES: Final = 4 << 20  # as sent
TRACES_INFLATED_BYTES: Final = 8 << 20  # read without a pause: the worst that can be in it holds others up for 0.4 s
TRACES_SPANS: Final = 10_000
TRACES_RUNNING: Final = 2  # requests that are read at the same time; they share the worker with everybody's answers
TRACES_AT_ONCE: Final = 64  # records written before others get a turn

# Retries: a tenth of the traffic, with a stock for the moment a replica dies
TRIES: Final = 3
RETRY_STOCK: Final = 100.0
RETRY_EARNED: Final = 0.1
HOLD_SECONDS: Final = (
    5.0  # how long a request waits for new routing when nobody can answer: a killed engine is back in less
)

# Shadow copies
SHADOWS_RUNNING: Final = 4
SHADOWS_WAITING: Final = 64
SHADOW_BYTES: Final = 64 << 20

SWEEP_SECONDS: Final = 0.25
SNAPSHOT_SECONDS: Final = 0.05
FULL_SECONDS: Final = 1.0  # after a failed write, how long requests are refused before one tries again
