"""The door that users come through: OpenAI-compatible, stateless, one process per worker, no framework.

Life of a request: `server` parses it, `app` finds the endpoint, `relay` checks the key, routes (`route` on the `snapshot`),
rewrites the model's name (`splice`), sends it through `upstream`, and forwards the answer; the record is in the spool before the
last byte leaves. Everything on this path is a callback on one uvloop: no task and no copy of a body that is not needed.
"""
