"""An application that is instrumented already: the real OpenAI client, a real instrumentation, the real OTLP exporter.

python tests/instrumented.py INSTRUMENTATION --engine URL --model NAME --traces URL --key SECRET [--twice] [--service NAME]
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from typing import Any

TOOL = {"type": "function", "function": {"name": "light", "description": "switches", "parameters": {"type": "object"}}}


def instrument(name: str, provider: Any) -> None:
    """Each in its own way; all patch the client, so a process has one of them."""
    if name == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor as Inference

        Inference().instrument(tracer_provider=provider)
    elif name == "traceloop":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Traceloop

        Traceloop().instrument(tracer_provider=provider)
    else:
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as Official

        Official().instrument(tracer_provider=provider)


def talk(engine: str, model: str, key: str) -> None:
    """A whole answer, a streamed one, one after a tool, a failed one, and an embedding, inside a span of the application."""
    import openai

    client = openai.OpenAI(base_url=f"{engine}/v1", api_key=key, max_retries=0)
    system: Any = {"role": "system", "content": "be brief"}

    def chat(*said: Any, **more: Any) -> Any:
        return client.chat.completions.create(model=model, messages=[system, *said], **more)

    chat({"role": "user", "content": "hello"}, temperature=0.5)
    for _ in chat({"role": "user", "content": "hello stream"}, stream=True, stream_options={"include_usage": True}):
        pass
    called = {"id": "call_1", "type": "function", "function": {"name": "light", "arguments": '{"on": true}'}}
    chat(
        {"role": "user", "content": "light please"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        tools=[TOOL],
    )
    with suppress(openai.RateLimitError):
        chat({"role": "user", "content": "fake:429"})
    client.embeddings.create(model=model, input=["one", "two"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("instrumentation")
    for name in ("--engine", "--model", "--traces", "--key", "--service"):
        parser.add_argument(name, default="app")
    parser.add_argument("--twice", action="store_true")
    given = parser.parse_args()

    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": given.service}))
    headers = {"authorization": f"Bearer {given.key}"}
    for _ in range(2 if given.twice else 1):
        exporter = OTLPSpanExporter(f"{given.traces}/v1/traces", headers=headers, compression=Compression.Gzip)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    instrument(given.instrumentation, provider)
    with provider.get_tracer("app").start_as_current_span("handle a request"):
        talk(given.engine, given.model, given.key)
    provider.shutdown()


if __name__ == "__main__":
    main()
