"""The table: which attribute of which convention, since which version of it, is which of our fields.

Names still move, so they are read wherever they stand: for each field the first attribute of this table that a span has counts,
newest names first. Applications mix conventions freely (Traceloop writes OpenTelemetry's names beside its own), so no span is
held to one. Writing uses the newest row of `genai` alone. A new name is a new row here, and a line in `docs/opentelemetry.md`,
which is made from this table. `VERSION` goes up with every change, and each exported span names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ciranda.interactions.otlp.wire import Attributes, Value

VERSION = 1
GENAI, OPENINFERENCE, TRACELOOP, CIRANDA = "genai", "openinference", "traceloop", "ciranda"


@dataclass(frozen=True)
class Row:
    """One attribute. A name that ends in `.*` is a prefix, `event:` a span's event, `resource:` an attribute of the resource."""

    field: str
    attribute: str
    convention: str
    since: str
    until: str = ""


TABLE = (
    Row("kind", "gen_ai.operation.name", GENAI, "1.27"),
    Row("kind", "openinference.span.kind", OPENINFERENCE, "0.1"),
    Row("kind", "llm.request.type", TRACELOOP, "0.1", "0.51"),
    Row("model", "ciranda.model", CIRANDA, "1"),
    Row("model", "resource:ciranda.model", CIRANDA, "1"),
    Row("requested", "gen_ai.request.model", GENAI, "1.27"),
    Row("requested", "llm.request.model", TRACELOOP, "0.1", "0.5"),
    Row("requested", "embedding.model_name", OPENINFERENCE, "0.1"),
    Row("requested", "llm.model_name", OPENINFERENCE, "0.1"),
    Row("answered", "gen_ai.response.model", GENAI, "1.27"),
    Row("answered", "llm.response.model", TRACELOOP, "0.1", "0.5"),
    Row("answered", "llm.model_name", OPENINFERENCE, "0.1"),
    Row("answered", "embedding.model_name", OPENINFERENCE, "0.1"),
    Row("provider", "gen_ai.provider.name", GENAI, "1.37"),
    Row("provider", "gen_ai.system", GENAI, "1.27", "1.36"),
    Row("provider", "llm.provider", OPENINFERENCE, "0.1"),
    Row("provider", "llm.system", OPENINFERENCE, "0.1"),
    Row("provider", "llm.vendor", TRACELOOP, "0.1", "0.5"),
    Row("prompt_tokens", "gen_ai.usage.input_tokens", GENAI, "1.28"),
    Row("prompt_tokens", "gen_ai.usage.prompt_tokens", GENAI, "1.27", "1.27"),
    Row("prompt_tokens", "llm.token_count.prompt", OPENINFERENCE, "0.1"),
    Row("prompt_tokens", "llm.usage.prompt_tokens", TRACELOOP, "0.1", "0.5"),
    Row("completion_tokens", "gen_ai.usage.output_tokens", GENAI, "1.28"),
    Row("completion_tokens", "gen_ai.usage.completion_tokens", GENAI, "1.27", "1.27"),
    Row("completion_tokens", "llm.token_count.completion", OPENINFERENCE, "0.1"),
    Row("completion_tokens", "llm.usage.completion_tokens", TRACELOOP, "0.1", "0.5"),
    Row("finish_reason", "gen_ai.response.finish_reasons", GENAI, "1.27"),
    Row("finish_reason", "llm.finish_reason", OPENINFERENCE, "0.1"),
    Row("finish_reason", "gen_ai.completion.0.finish_reason", TRACELOOP, "0.5", "0.51"),
    Row("finish_reason", "llm.response.finish_reason", TRACELOOP, "0.1", "0.5"),
    Row("response_id", "gen_ai.response.id", GENAI, "1.27"),
    Row("user", "enduser.id", GENAI, "1.27"),
    Row("user", "user.id", OPENINFERENCE, "0.1"),
    Row("user", "gen_ai.user", TRACELOOP, "0.52"),
    Row("user", "llm.user", TRACELOOP, "0.1", "0.51"),
    Row("user", "traceloop.association.properties.user_id", TRACELOOP, "0.1"),
    Row("conversation", "gen_ai.conversation.id", GENAI, "1.34"),
    Row("conversation", "session.id", OPENINFERENCE, "0.1"),
    Row("conversation", "traceloop.association.properties.session_id", TRACELOOP, "0.1"),
    Row("stream", "gen_ai.request.stream", GENAI, "1.40"),
    Row("stream", "gen_ai.is_streaming", TRACELOOP, "0.52"),
    Row("stream", "llm.is_streaming", TRACELOOP, "0.1", "0.51"),
    Row("first_chunk_s", "gen_ai.response.time_to_first_chunk", GENAI, "1.40"),
    Row("error", "error.type", GENAI, "1.27"),
    Row("http_status", "http.response.status_code", GENAI, "1.27"),
    Row("system", "gen_ai.system_instructions", GENAI, "1.37"),
    Row("tools", "gen_ai.tool.definitions", GENAI, "1.38"),
    Row("parameters", "gen_ai.request.*", GENAI, "1.27"),
    Row("parameters", "llm.invocation_parameters", OPENINFERENCE, "0.1"),
    Row("input", "gen_ai.input.messages", GENAI, "1.37"),
    Row("input", "event:gen_ai.client.inference.operation.details", GENAI, "1.37"),
    Row("input", "event:gen_ai.*.message", GENAI, "1.28", "1.36"),
    Row("input", "event:gen_ai.content.prompt", GENAI, "1.27", "1.27"),
    Row("input", "input.value", OPENINFERENCE, "0.1"),
    Row("input", "llm.input_messages.*", OPENINFERENCE, "0.1"),
    Row("input", "embedding.embeddings.*", OPENINFERENCE, "0.1"),
    Row("input", "gen_ai.prompt.*", TRACELOOP, "0.5", "0.51"),
    Row("input", "llm.prompts.*", TRACELOOP, "0.1", "0.5"),
    Row("output", "gen_ai.output.messages", GENAI, "1.37"),
    Row("output", "event:gen_ai.client.inference.operation.details", GENAI, "1.37"),
    Row("output", "event:gen_ai.choice", GENAI, "1.28", "1.36"),
    Row("output", "event:gen_ai.content.completion", GENAI, "1.27", "1.27"),
    Row("output", "output.value", OPENINFERENCE, "0.1"),
    Row("output", "llm.output_messages.*", OPENINFERENCE, "0.1"),
    Row("output", "gen_ai.completion.*", TRACELOOP, "0.5", "0.51"),
    Row("output", "llm.completions.*", TRACELOOP, "0.1", "0.5"),
)
NAMES: dict[str, tuple[str, ...]] = {
    field: tuple(row.attribute for row in TABLE if row.field == field)
    for field in dict.fromkeys(r.field for r in TABLE)
}
# What each convention calls a call of a model; everything else (chains, tools, agents, retrieval) is none.
ENDPOINTS = {
    "chat": "/v1/chat/completions", "generate_content": "/v1/chat/completions", "llm": "/v1/chat/completions",
    "text_completion": "/v1/completions", "completion": "/v1/completions",
    "embeddings": "/v1/embeddings", "embedding": "/v1/embeddings",
}  # fmt: skip
PARAMETERS = ("temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty")


def found(field: str, attributes: Attributes, resource: Attributes) -> Value:
    """The value of a field: that of its first attribute that is there and says something; None without one."""
    for name in NAMES[field]:
        holder = resource if name.startswith("resource:") else attributes
        value = holder.get(name.removeprefix("resource:"))
        if value is not None and value != "" and value != []:
            return value
    return None


def endpoint(attributes: Attributes) -> str:
    """The path of our API that a span's call amounts to; empty when it is no call of a model."""
    kind = next((attributes[name] for name in NAMES["kind"] if name in attributes), None)
    if kind is None:
        named = "gen_ai.request.model" in attributes and "traceloop.span.kind" not in attributes
        return ENDPOINTS["chat"] if named and ("gen_ai.system" in attributes or "llm.vendor" in attributes) else ""
    return ENDPOINTS.get(str(kind).lower(), "")


def convention(attributes: Attributes) -> str:
    """Under which convention a span was written, by the names that only one has."""
    if "openinference.span.kind" in attributes:
        return OPENINFERENCE
    theirs = (
        "llm.request.type",
        "gen_ai.is_streaming",
        "llm.is_streaming",
        "gen_ai.prompt.0.role",
        "traceloop.entity.name",
    )
    return TRACELOOP if any(name in attributes for name in theirs) else GENAI


def documented() -> Iterator[tuple[str, str, str, str]]:
    """The table as docs show it: field, attribute, convention, versions."""
    for row in TABLE:
        yield (
            row.field,
            row.attribute,
            row.convention,
            f"{row.since} to {row.until}" if row.until else f"since {row.since}",
        )
