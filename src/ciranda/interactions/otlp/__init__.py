"""OpenTelemetry spans and interactions: what an instrumented application reports becomes a record, and a record becomes a span.

    wire         bytes of OTLP <-> spans as values; the one place that knows the library
    conventions  the table: which attribute of which convention and version is which of our fields
    messages     the ways that conventions write a conversation, as OpenAI's messages
    reading      span -> record (metadata, request, response), for the gateway's `/v1/traces`
    writing      interaction -> span in today's convention, for the export

Nothing here touches a socket, a file or a clock.
"""
