"""The few fields of a request that the gateway reads, and the one check that all of it is JSON."""

from __future__ import annotations

import msgspec

from ciranda.errors import Invalid


class StreamOptions(msgspec.Struct, frozen=True):
    """The part of `stream_options` that changes what we do."""

    include_usage: bool | None = None


class Peek(msgspec.Struct, frozen=True):
    """The few fields of a request that the gateway reads."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage chunk itself."""
        return self.stream_options is not None and self.stream_options.include_usage is True


read = msgspec.json.Decoder(Peek).decode


def peek(body: bytes) -> Peek:
    """Read the fields that matter; raises Invalid in words a client's developer understands."""
    try:
        if not body.isascii():
            body.decode()  # msgspec passes over bytes it does not read; the record and the engine must not choke on them
        return read(body)
    except msgspec.ValidationError as error:
        raise Invalid(_explain(str(error)), remedy="see the API reference of chat completions") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"the body is no valid JSON: {error}", remedy="send a JSON object with `model`") from error


def _explain(reason: str) -> str:
    if "missing required field `model`" in reason:
        return "you must provide a model parameter"
    return f"the request is not valid: {reason}"
