"""From a registered version to traffic.

plan       what `apply` would do, as a value
apply      deployments and replicas: the desired state, and what is observed of it
bets       fair bets against a claim
evidence   what is known of a candidate, and what follows
rollout    shadow, steps, promotion, rollback: level-triggered
routing    the snapshot that gateways route by
child      one child process, from spawn to end
supervise  the process tree of one machine
"""
