"""The first shape: every table of the loop, and an audit log that cannot be edited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_1f33f4de"
down_revision = None
branch_labels = None
depends_on = None

GUARDS = {
    "sqlite": """
        CREATE TRIGGER audit_events_no_{verb} BEFORE {VERB} ON audit_events
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    "postgresql": """
        CREATE TRIGGER audit_events_no_{verb} BEFORE {VERB} ON audit_events
        FOR EACH ROW EXECUTE FUNCTION audit_events_refuse()
    """,
}


def upgrade() -> None:
    """Make every table, then guard the log."""
    tables()
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_events_refuse() RETURNS trigger AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$ LANGUAGE plpgsql"
        )
    for verb in ("update", "delete"):
        op.execute(GUARDS[dialect].format(verb=verb, VERB=verb.upper()))


def tables() -> None:
    """As the modules declared them on the day of this migration."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("event", sa.String(length=300), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("turn", sa.String(length=200), nullable=False),
        sa.Column("acknowledged_by", sa.String(length=200), nullable=False),
        sa.Column("acknowledged_at", sa.String(length=32), nullable=False),
        sa.Column("closed_at", sa.String(length=32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("event", name=op.f("uq_alerts_event")),
    )
    op.create_index(op.f("ix_alerts_model"), "alerts", ["model"], unique=False)
    op.create_index(op.f("ix_alerts_state"), "alerts", ["state"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("verdict", sa.String(length=40), nullable=False),
        sa.Column("said", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_approvals")),
        sa.UniqueConstraint("id", name=op.f("uq_approvals_id")),
    )
    op.create_index(op.f("ix_approvals_model"), "approvals", ["model"], unique=False)
    op.create_index(op.f("ix_approvals_version"), "approvals", ["version"], unique=False)
    op.create_table(
        "audit_events",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_events_hash")),
    )
    op.create_index(op.f("ix_audit_events_action"), "audit_events", ["action"], unique=False)
    op.create_index(op.f("ix_audit_events_subject"), "audit_events", ["subject"], unique=False)
    op.create_table(
        "contaminations",
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("suite", sa.String(length=500), nullable=False),
        sa.Column("suite_digest", sa.String(length=71), nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("ways", sa.JSON(), nullable=False),
        sa.Column("examples", sa.JSON(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("version", "suite", name=op.f("pk_contaminations")),
    )
    op.create_index(op.f("ix_contaminations_found"), "contaminations", ["found"], unique=False)
    op.create_table(
        "data_descriptions",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("field", sa.String(length=120), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=False),
        sa.Column("sensitivity", sa.String(length=16), nullable=False),
        sa.Column("every_s", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "field", name=op.f("pk_data_descriptions")),
    )
    op.create_table(
        "data_exports",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("what", sa.String(length=80), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("policies", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_exports")),
    )
    op.create_index(op.f("ix_data_exports_at"), "data_exports", ["at"], unique=False)
    op.create_index(op.f("ix_data_exports_what"), "data_exports", ["what"], unique=False)
    op.create_table(
        "data_tags",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("field", sa.String(length=120), nullable=False),
        sa.Column("tag", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "field", "tag", name=op.f("pk_data_tags")),
    )
    op.create_index(op.f("ix_data_tags_tag"), "data_tags", ["tag"], unique=False)
    op.create_table(
        "dataset_redactions",
        sa.Column("erasure", sa.String(length=60), nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("before", sa.String(length=71), nullable=False),
        sa.Column("after", sa.String(length=71), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("erasure", "dataset", "number", name=op.f("pk_dataset_redactions")),
    )
    op.create_index(op.f("ix_dataset_redactions_after"), "dataset_redactions", ["after"], unique=False)
    op.create_table(
        "dataset_statistics",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("counted_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "number", name=op.f("pk_dataset_statistics")),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("pool", sa.String(length=63), nullable=False),
        sa.Column("branched_from", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datasets")),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("engine", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=200), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("version", name=op.f("uq_deployments_version")),
    )
    op.create_index(op.f("ix_deployments_model"), "deployments", ["model"], unique=False)
    op.create_table(
        "drift_references",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("channel", sa.String(length=20), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("reference", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("model", "channel", name=op.f("pk_drift_references")),
    )
    op.create_table(
        "drift_states",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("channel", sa.String(length=20), nullable=False),
        sa.Column("version", sa.String(length=140), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("model", "channel", name=op.f("pk_drift_states")),
    )
    op.create_table(
        "ended_sessions",
        sa.Column("session", sa.String(length=50), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_ended_sessions")),
    )
    op.create_index(op.f("ix_ended_sessions_expires_at"), "ended_sessions", ["expires_at"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("mark", sa.String(length=60), nullable=False),
        sa.Column("step", sa.String(length=20), nullable=False),
        sa.Column("target", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("receipt", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("waits", sa.String(length=300), nullable=False),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.Column("asked_by", sa.String(length=200), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_index(op.f("ix_erasures_mark"), "erasures", ["mark"], unique=False)
    op.create_index(op.f("ix_erasures_step"), "erasures", ["step"], unique=False)
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(length=120), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("suite", sa.String(length=500), nullable=False),
        sa.Column("suite_digest", sa.String(length=71), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("scorers", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("slices", sa.JSON(), nullable=False),
        sa.Column("report", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
    )
    op.create_index(op.f("ix_evaluations_model"), "evaluations", ["model"], unique=False)
    op.create_index(op.f("ix_evaluations_version"), "evaluations", ["version"], unique=False)
    op.create_table(
        "exports",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("cursor", sa.String(length=40), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_exports")),
    )
    op.create_table(
        "feeds",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.String(length=32), nullable=False),
        sa.Column("applied_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("dataset", name=op.f("pk_feeds")),
    )
    op.create_table(
        "glossary_terms",
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("term", sa.String(length=80), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("synonyms", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_glossary_terms")),
    )
    op.create_table(
        "ingestion_requests",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("window", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", name=op.f("pk_ingestion_requests")),
    )
    op.create_table(
        "ingestions",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("window", sa.JSON(), nullable=False),
        sa.Column("rows_in", sa.Integer(), nullable=False),
        sa.Column("rows_checked", sa.Integer(), nullable=False),
        sa.Column("rows_kept", sa.Integer(), nullable=False),
        sa.Column("rows_bad", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("cursor_before", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=False),
        sa.Column("told_at", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingestions")),
    )
    op.create_index(op.f("ix_ingestions_dataset"), "ingestions", ["dataset"], unique=False)
    op.create_index(op.f("ix_ingestions_run"), "ingestions", ["run"], unique=False)
    op.create_table(
        "judge_calibrations",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("judge", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("pairs", sa.JSON(), nullable=False),
        sa.Column("silent", sa.Integer(), nullable=False),
        sa.Column("served", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("valid_until", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge_calibrations")),
    )
    op.create_index(op.f("ix_judge_calibrations_judge"), "judge_calibrations", ["judge"], unique=False)
    op.create_table(
        "judge_samples",
        sa.Column("job", sa.String(length=200), nullable=False),
        sa.Column("judge", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_judge_samples")),
    )
    op.create_index("ix_judge_samples_place", "judge_samples", ["judge", "model", "at"], unique=False)
    op.create_table(
        "judgements",
        sa.Column("id", sa.String(length=71), nullable=False),
        sa.Column("judge", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("against", sa.String(length=80), nullable=False),
        sa.Column("suite", sa.String(length=500), nullable=False),
        sa.Column("report", sa.String(length=200), nullable=False),
        sa.Column("against_report", sa.String(length=200), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("silent", sa.Integer(), nullable=False),
        sa.Column("served", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgements")),
    )
    op.create_index(op.f("ix_judgements_judge"), "judgements", ["judge"], unique=False)
    op.create_table(
        "judges",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_judges")),
    )
    op.create_index(op.f("ix_judges_name"), "judges", ["name"], unique=False)
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("public", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("revoked_at", sa.String(length=32), nullable=True),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_keys_digest")),
    )
    op.create_table(
        "limit_shares",
        sa.Column("bucket", sa.String(length=300), nullable=False),
        sa.Column("machine", sa.String(length=40), nullable=False),
        sa.Column("share", sa.BigInteger(), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("renewed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "machine", name=op.f("pk_limit_shares")),
    )
    op.create_table(
        "models",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.String(length=32), nullable=False),
        sa.Column("applied_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_models")),
    )
    op.create_table(
        "partial_uploads",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("mime_type", sa.String(length=200), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("keep_s", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("file", sa.String(length=60), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("claimed_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partial_uploads")),
    )
    op.create_index(op.f("ix_partial_uploads_state"), "partial_uploads", ["state"], unique=False)
    op.create_index(op.f("ix_partial_uploads_tenant"), "partial_uploads", ["tenant"], unique=False)
    op.create_table(
        "policies",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", "revision", name=op.f("pk_policies")),
    )
    op.create_table(
        "quality_states",
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("scored", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_quality_states")),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("origin", sa.String(length=2000), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("first_at", sa.String(length=32), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_dataset"), "quarantine", ["dataset"], unique=False)
    op.create_table(
        "registered_models",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_registered_models")),
    )
    op.create_table(
        "registered_versions",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("ref", sa.String(length=100), nullable=True),
        sa.Column("turn", sa.String(length=200), nullable=True),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "number", name=op.f("pk_registered_versions")),
    )
    op.create_index(op.f("ix_registered_versions_ref"), "registered_versions", ["ref"], unique=False)
    op.create_table(
        "replays",
        sa.Column("id", sa.String(length=120), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("champion", sa.String(length=80), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("suite_digest", sa.String(length=71), nullable=False),
        sa.Column("judge", sa.String(length=63), nullable=False),
        sa.Column("job", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evaluation", sa.String(length=120), nullable=False),
        sa.Column("champion_evaluation", sa.String(length=120), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replays")),
    )
    op.create_index(op.f("ix_replays_model"), "replays", ["model"], unique=False)
    op.create_index(op.f("ix_replays_state"), "replays", ["state"], unique=False)
    op.create_table(
        "reproductions",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("job", sa.String(length=200), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.Column("asked_by", sa.String(length=200), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reproductions")),
    )
    op.create_index(op.f("ix_reproductions_model"), "reproductions", ["model"], unique=False)
    op.create_index(op.f("ix_reproductions_state"), "reproductions", ["state"], unique=False)
    op.create_index(op.f("ix_reproductions_version"), "reproductions", ["version"], unique=False)
    op.create_table(
        "retraining_flags",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("erasure", sa.String(length=60), nullable=False),
        sa.Column("dataset", sa.String(length=200), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.Column("ended_by", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "number", "erasure", name=op.f("pk_retraining_flags")),
    )
    op.create_table(
        "review_queues",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("makes", sa.String(length=16), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("twice", sa.Float(), nullable=False),
        sa.Column("random", sa.Float(), nullable=False),
        sa.Column("lease_s", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_review_queues")),
    )
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("candidate", sa.String(length=80), nullable=False),
        sa.Column("champion", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=40), nullable=False),
        sa.Column("stages", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("reading", sa.JSON(), nullable=False),
        sa.Column("e_values", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("turn", sa.String(length=200), nullable=False),
        sa.Column("started_by", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=False),
        sa.Column("stage_at", sa.String(length=32), nullable=False),
        sa.Column("unready_at", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    op.create_index(op.f("ix_rollouts_model"), "rollouts", ["model"], unique=False)
    op.create_index(op.f("ix_rollouts_state"), "rollouts", ["state"], unique=False)
    op.create_table(
        "searches",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("dataset", sa.String(length=100), nullable=False),
        sa.Column("turn", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("objective", sa.String(length=60), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("best", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("worked_s", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
    )
    op.create_index(op.f("ix_searches_model"), "searches", ["model"], unique=False)
    op.create_index(op.f("ix_searches_started_at"), "searches", ["started_at"], unique=False)
    op.create_index(op.f("ix_searches_state"), "searches", ["state"], unique=False)
    op.create_table(
        "segments",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("sealed_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_segments")),
    )
    op.create_index(op.f("ix_segments_sealed_at"), "segments", ["sealed_at"], unique=False)
    op.create_table(
        "signals",
        sa.Column("event_id", sa.String(length=300), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("alert", sa.String(length=48), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("taken_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_signals")),
    )
    op.create_index(op.f("ix_signals_model"), "signals", ["model"], unique=False)
    op.create_index(op.f("ix_signals_taken_at"), "signals", ["taken_at"], unique=False)
    op.create_table(
        "source_files",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("file", sa.String(length=1100), nullable=False),
        sa.Column("mark", sa.String(length=200), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("read_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "source", "file", name=op.f("pk_source_files")),
    )
    op.create_table(
        "suite_versions",
        sa.Column("suite", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("content", sa.String(length=71), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("slices", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(length=500), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("redacted", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("suite", "number", name=op.f("pk_suite_versions")),
    )
    op.create_index(op.f("ix_suite_versions_digest"), "suite_versions", ["digest"], unique=False)
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.create_table(
        "tracked_experiments",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("lifecycle", sa.String(length=10), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number", name=op.f("pk_tracked_experiments")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_tracked_experiments_tenant_name")),
    )
    op.create_table(
        "tracked_models",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("kind", sa.String(length=500), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=30), nullable=False),
        sa.Column("lifecycle", sa.String(length=10), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracked_models")),
    )
    op.create_index(
        "ix_tracked_models_place", "tracked_models", ["tenant", "experiment", "created_ms", "id"], unique=False
    )
    op.create_table(
        "tracked_runs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("user", sa.String(length=256), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("lifecycle", sa.String(length=10), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracked_runs")),
    )
    op.create_index("ix_tracked_runs_place", "tracked_runs", ["tenant", "experiment", "started_ms", "id"], unique=False)
    op.create_table(
        "tunings",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("method", sa.String(length=20), nullable=False),
        sa.Column("training_file", sa.String(length=60), nullable=False),
        sa.Column("validation_file", sa.String(length=60), nullable=True),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("suffix", sa.String(length=64), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("turn", sa.String(length=200), nullable=True),
        sa.Column("version", sa.String(length=100), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("result_file", sa.String(length=60), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tunings")),
    )
    op.create_index(op.f("ix_tunings_model"), "tunings", ["model"], unique=False)
    op.create_index(op.f("ix_tunings_state"), "tunings", ["state"], unique=False)
    op.create_index(op.f("ix_tunings_turn"), "tunings", ["turn"], unique=False)
    op.create_table(
        "turns",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("event", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=30), nullable=False),
        sa.Column("step", sa.String(length=40), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("next_actor", sa.String(length=200), nullable=False),
        sa.Column("dataset", sa.String(length=100), nullable=True),
        sa.Column("version", sa.String(length=100), nullable=True),
        sa.Column("rollout", sa.String(length=60), nullable=True),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.Column("asked_by", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=True),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_turns")),
    )
    op.create_index(op.f("ix_turns_model"), "turns", ["model"], unique=False)
    op.create_index(op.f("ix_turns_state"), "turns", ["state"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=True),
        sa.Column("deleted_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_tenant"), "uploads", ["tenant"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("champion", sa.String(length=80), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("turn", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_verdicts")),
        sa.UniqueConstraint("id", name=op.f("uq_verdicts_id")),
    )
    op.create_index(op.f("ix_verdicts_model"), "verdicts", ["model"], unique=False)
    op.create_index(op.f("ix_verdicts_version"), "verdicts", ["version"], unique=False)
    op.create_table(
        "version_aliases",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("set_at", sa.String(length=32), nullable=False),
        sa.Column("set_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_version_aliases")),
    )
    op.create_table(
        "version_stages",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_version_stages")),
    )
    op.create_index(op.f("ix_version_stages_model"), "version_stages", ["model"], unique=False)
    op.create_table(
        "alert_deliveries",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("alert", sa.String(length=48), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("next_at", sa.String(length=32), nullable=False),
        sa.Column("sent_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["alert"], ["alerts.id"], name=op.f("fk_alert_deliveries_alert")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_deliveries")),
    )
    op.create_index(op.f("ix_alert_deliveries_alert"), "alert_deliveries", ["alert"], unique=False)
    op.create_index(op.f("ix_alert_deliveries_state"), "alert_deliveries", ["state"], unique=False)
    op.create_table(
        "data_terms",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("field", sa.String(length=120), nullable=False),
        sa.Column("term", sa.String(length=160), nullable=False),
        sa.ForeignKeyConstraint(["term"], ["glossary_terms.key"], name=op.f("fk_data_terms_term")),
        sa.PrimaryKeyConstraint("dataset", "field", "term", name=op.f("pk_data_terms")),
    )
    op.create_index(op.f("ix_data_terms_term"), "data_terms", ["term"], unique=False)
    op.create_table(
        "dataset_versions",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("parents", sa.JSON(), nullable=False),
        sa.Column("transformation", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("lance_version", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("collected_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["datasets.name"], name=op.f("fk_dataset_versions_dataset")),
        sa.PrimaryKeyConstraint("dataset", "number", name=op.f("pk_dataset_versions")),
    )
    op.create_index(op.f("ix_dataset_versions_digest"), "dataset_versions", ["digest"], unique=False)
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("deployment", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(length=300), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("ready_at", sa.String(length=32), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["deployment"], ["deployments.id"], name=op.f("fk_replicas_deployment")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_index(op.f("ix_replicas_deployment"), "replicas", ["deployment"], unique=False)
    op.create_table(
        "review_items",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ref", sa.String(length=240), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("why", sa.JSON(), nullable=False),
        sa.Column("chance", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["queue"], ["review_queues.name"], name=op.f("fk_review_items_queue")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_items")),
        sa.UniqueConstraint("queue", "ref", name=op.f("uq_review_items_queue_ref")),
    )
    op.create_index("ix_review_items_waiting", "review_items", ["queue", "state", "priority"], unique=False)
    op.create_table(
        "tracked_metrics",
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["tracked_runs.id"], name=op.f("fk_tracked_metrics_run")),
        sa.PrimaryKeyConstraint("run", "key", "at_ms", "step", "value", name=op.f("pk_tracked_metrics")),
    )
    op.create_table(
        "tracked_uses",
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("model", sa.String(length=40), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["tracked_models.id"], name=op.f("fk_tracked_uses_model")),
        sa.ForeignKeyConstraint(["run"], ["tracked_runs.id"], name=op.f("fk_tracked_uses_run")),
        sa.PrimaryKeyConstraint("run", "kind", "model", name=op.f("pk_tracked_uses")),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.String(length=210), nullable=False),
        sa.Column("search", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("base", sa.String(length=300), nullable=False),
        sa.Column("mix", sa.String(length=63), nullable=False),
        sa.Column("objective", sa.Float(), nullable=True),
        sa.Column("loss", sa.Float(), nullable=True),
        sa.Column("loss_curve", sa.JSON(), nullable=False),
        sa.Column("checks", sa.JSON(), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("job", sa.String(length=200), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=True),
        sa.Column("worked_s", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["search"], ["searches.id"], name=op.f("fk_trials_search")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.UniqueConstraint("search", "number", name=op.f("uq_trials_search_number")),
    )
    op.create_table(
        "tuning_events",
        sa.Column("job", sa.String(length=60), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["job"], ["tunings.id"], name=op.f("fk_tuning_events_job")),
        sa.PrimaryKeyConstraint("job", "sequence", name=op.f("pk_tuning_events")),
    )
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("upload", sa.String(length=60), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["upload"], ["partial_uploads.id"], name=op.f("fk_upload_parts_upload")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_parts")),
    )
    op.create_index(op.f("ix_upload_parts_upload"), "upload_parts", ["upload"], unique=False)
    op.create_table(
        "versions",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("dataset", sa.String(length=200), nullable=False),
        sa.Column("dataset_digest", sa.String(length=80), nullable=False),
        sa.Column("base", sa.String(length=300), nullable=False),
        sa.Column("base_digest", sa.String(length=80), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("tuning", sa.String(length=10), nullable=False),
        sa.Column("adapter_digest", sa.String(length=80), nullable=False),
        sa.Column("evaluation", sa.JSON(), nullable=False),
        sa.Column("policies", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("folder", sa.String(length=500), nullable=False),
        sa.Column("trial", sa.String(length=200), nullable=False),
        sa.Column("turn", sa.String(length=200), nullable=False),
        sa.Column("origin", sa.JSON(), nullable=False),
        sa.Column("removed_at", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.model"], name=op.f("fk_versions_model")),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_versions")),
        sa.UniqueConstraint("model", "digest", name=op.f("uq_versions_model_digest")),
    )
    op.create_index(op.f("ix_versions_stage"), "versions", ["stage"], unique=False)
    op.create_table(
        "dataset_aliases",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fixed", sa.Boolean(), nullable=False),
        sa.Column("set_at", sa.String(length=32), nullable=False),
        sa.Column("set_by", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset", "number"],
            ["dataset_versions.dataset", "dataset_versions.number"],
            name=op.f("fk_dataset_aliases_dataset_number"),
        ),
        sa.PrimaryKeyConstraint("dataset", "name", name=op.f("pk_dataset_aliases")),
    )
    op.create_table(
        "dataset_parents",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset", "number"],
            ["dataset_versions.dataset", "dataset_versions.number"],
            name=op.f("fk_dataset_parents_dataset_number"),
        ),
        sa.PrimaryKeyConstraint("dataset", "number", "parent", name=op.f("pk_dataset_parents")),
    )
    op.create_index(op.f("ix_dataset_parents_parent"), "dataset_parents", ["parent"], unique=False)
    op.create_table(
        "review_labels",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("item", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("annotator", sa.String(length=100), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("correction", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("once", sa.String(length=100), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("undone_at", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_labels_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_labels")),
        sa.UniqueConstraint("key", "once", name=op.f("uq_review_labels_key_once")),
    )
    op.create_index(op.f("ix_review_labels_item"), "review_labels", ["item"], unique=False)
    op.create_index(op.f("ix_review_labels_queue"), "review_labels", ["queue"], unique=False)
    op.create_table(
        "review_leases",
        sa.Column("item", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=63), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_leases_item")),
        sa.PrimaryKeyConstraint("item", "key", name=op.f("pk_review_leases")),
    )
    op.create_index(op.f("ix_review_leases_queue"), "review_leases", ["queue"], unique=False)
