#include "daemon/operator_routes.h"

namespace outfall {

// A test holds every answer that it sees against these. Objects without additionalProperties say
// all that there is; documents of the database may grow members.
const char* const kAnswerSchemas = R"json({
  "Alive": {
    "type": "object", "required": ["alive", "reasons"], "additionalProperties": false,
    "properties": {
      "alive": {"type": "boolean"},
      "reasons": {"type": "array", "items": {"type": "string"}}}},
  "Ready": {
    "type": "object", "required": ["ready", "reasons"], "additionalProperties": false,
    "properties": {
      "ready": {"type": "boolean"},
      "reasons": {"type": "array", "items": {"type": "string"}}}},
  "Document": {
    "type": "object", "required": ["openapi", "info", "paths", "components"]},
  "WorkerStatus": {
    "type": "object", "description": "What this worker holds now.",
    "required": ["worker", "database", "stopping", "entries_in_flight", "bytes_in_flight", "streams",
                 "backlog"],
    "properties": {
      "worker": {"type": "string"},
      "database": {"type": "object", "required": ["connected", "present"]},
      "stopping": {"type": "boolean"},
      "entries_in_flight": {"type": "integer"},
      "bytes_in_flight": {"type": "integer"},
      "streams": {"type": "array", "items": {"type": "object", "required": ["stream", "emitter"]}},
      "backlog": {"type": ["object", "null"]}}},
  "Status": {
    "type": "object",
    "description": "As `outfall status --json`, without its breakers: those of this worker are in `/status`.",
    "required": ["taken_at", "counts_end_at", "streams", "unbound", "workers", "database", "schema"],
    "properties": {
      "taken_at": {"type": "string"},
      "counts_end_at": {"type": "integer", "description": "Nothing is counted beyond."},
      "streams": {"type": "array", "items": {
        "type": "object", "required": ["stream", "paused", "pending", "held", "dead_letters", "served"],
        "properties": {
          "stream": {"type": "string"},
          "paused": {"type": "boolean"},
          "pending": {"type": "integer"},
          "deferred": {"type": "integer"},
          "retryable_failure": {"type": "integer"},
          "held": {"type": "integer"},
          "dead_letters": {"type": "integer"},
          "oldest_due_seconds": {"type": "number"},
          "oldest_blocked_seconds": {"type": "number"},
          "oldest_retried_seconds": {"type": "number"},
          "oldest_deferred_seconds": {"type": "number"},
          "served": {"type": ["boolean", "null"]}}}},
      "unbound": {"type": "array", "items": {"type": "object", "required": ["stream"]}},
      "workers": {"type": "array", "items": {"type": "object", "required": ["instance", "worker"]}},
      "database": {"type": "object"},
      "schema": {"type": "string"}}},
  "Streams": {
    "type": "object", "description": "As `outfall streams list --json`.",
    "required": ["streams"], "additionalProperties": false,
    "properties": {"streams": {"type": "array", "items": {
      "type": "object", "additionalProperties": false,
      "required": ["stream", "configured", "registered", "paused", "paused_destinations", "served"],
      "properties": {
        "stream": {"type": "string"},
        "configured": {"type": "boolean", "description": "Whether this worker's configuration has it."},
        "registered": {"type": "boolean"},
        "paused": {"type": "boolean"},
        "paused_at": {"type": "string"},
        "paused_by": {"type": "string"},
        "paused_reason": {"type": "string"},
        "paused_destinations": {"type": "integer"},
        "served": {"type": ["boolean", "null"],
                   "description": "By a running worker; null where that cannot be seen."}}}}}},
  "Destinations": {
    "type": "object", "description": "As `outfall destinations list --json`.",
    "required": ["destinations"], "additionalProperties": false,
    "properties": {"destinations": {"type": "array", "items": {
      "type": "object", "additionalProperties": false,
      "required": ["stream", "lane", "paused_at", "paused_by", "paused_reason"],
      "properties": {
        "stream": {"type": "string"},
        "lane": {"type": "string"},
        "paused_at": {"type": "string"},
        "paused_by": {"type": "string"},
        "paused_reason": {"type": "string"}}}}}},
  "Operation": {
    "type": "object", "description": "The record of a change, as outbox.operations has it.",
    "additionalProperties": false,
    "required": ["operation_id", "at", "action", "actor", "reason", "stream"],
    "properties": {
      "operation_id": {"type": "integer"},
      "at": {"type": "string"},
      "action": {"type": "string"},
      "actor": {"type": "string"},
      "reason": {"type": "string"},
      "stream": {"type": "string"},
      "entry_id": {"type": "integer"},
      "envelope_id": {"type": "string"},
      "detail": {"type": "object", "description": "What was there before."}}},
  "Entry": {
    "type": "object", "description": "As `outfall entry show --json`, the document of explain_entry().",
    "required": ["envelope_id", "found", "summary", "entries"],
    "properties": {
      "envelope_id": {"type": "string"},
      "asked_at": {"type": "string"},
      "found": {"type": "boolean"},
      "summary": {"type": "string"},
      "entries": {"type": "array", "items": {
        "type": "object", "required": ["summary", "where", "entry_id", "stream", "type", "status"],
        "properties": {
          "summary": {"type": "string"},
          "where": {"type": "string", "enum": ["entries", "dead_letters", "receipts"]},
          "entry_id": {"type": "integer"},
          "stream": {"type": "string"},
          "key": {"type": "string"},
          "type": {"type": "string"},
          "status": {"type": "string"},
          "code": {"type": "integer"},
          "attempts": {"type": "integer"}}}},
      "operations": {"type": "array", "items": {
        "type": "object", "required": ["at", "action", "actor", "reason"]}}}},
  "LastError": {
    "type": "object", "required": ["code", "message"], "additionalProperties": false,
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}}},
  "DeadLetter": {
    "type": "object", "additionalProperties": false,
    "required": ["entry_id", "envelope_id", "stream", "key", "type", "reason_code", "reason", "attempts",
                 "replays", "holds_key", "created_at", "dead_lettered_at"],
    "properties": {
      "entry_id": {"type": "integer"},
      "envelope_id": {"type": "string"},
      "stream": {"type": "string"},
      "key": {"type": ["string", "null"]},
      "type": {"type": "string"},
      "reason_code": {"type": "string"},
      "reason": {"type": "string"},
      "attempts": {"type": "integer"},
      "replays": {"type": "integer"},
      "holds_key": {"type": "boolean"},
      "created_at": {"type": "string"},
      "dead_lettered_at": {"type": "string"},
      "last_error": {"$ref": "#/components/schemas/LastError"}}},
  "DeadLetters": {
    "type": "object", "description": "As `outfall dead-letters list --json`.",
    "required": ["dead_letters", "more"], "additionalProperties": false,
    "properties": {
      "dead_letters": {"type": "array", "items": {"$ref": "#/components/schemas/DeadLetter"}},
      "more": {"type": "boolean", "description": "The limit left some: go on with `after`."}}},
  "DeadLetterContent": {
    "type": "object", "description": "As `outfall dead-letters show --json`.",
    "additionalProperties": false,
    "required": ["entry_id", "envelope_id", "stream", "key", "type", "reason_code", "reason", "attempts",
                 "replays", "holds_key", "created_at", "dead_lettered_at"],
    "properties": {
      "entry_id": {"type": "integer"},
      "envelope_id": {"type": "string"},
      "stream": {"type": "string"},
      "key": {"type": ["string", "null"]},
      "type": {"type": "string"},
      "reason_code": {"type": "string"},
      "reason": {"type": "string"},
      "attempts": {"type": "integer"},
      "replays": {"type": "integer"},
      "holds_key": {"type": "boolean"},
      "created_at": {"type": "string"},
      "dead_lettered_at": {"type": "string"},
      "last_error": {"$ref": "#/components/schemas/LastError"},
      "source": {"type": "string"},
      "subject": {"type": "string"},
      "content_type": {"type": "string"},
      "data_schema": {"type": "string"},
      "occurred_at": {"type": "string"},
      "headers": {"type": "object"},
      "payload": {"type": "string", "description": "The exact text of a payload that is JSON."},
      "payload_base64": {"type": "string"}}},
  "Counts": {
    "type": "array", "items": {
      "type": "object", "required": ["reason_code", "count"], "additionalProperties": false,
      "properties": {"reason_code": {"type": "string"}, "count": {"type": "integer"}}}},
  "DryRun": {
    "type": "object", "description": "As `outfall dead-letters replay --dry-run --json`.",
    "additionalProperties": false,
    "required": ["action", "dry_run", "total", "skipped", "more", "until", "by_reason", "by_key"],
    "properties": {
      "action": {"type": "string", "enum": ["replay", "discard"]},
      "dry_run": {"type": "boolean"},
      "total": {"type": "integer"},
      "replayed": {"type": "integer", "description": "How many would be."},
      "discarded": {"type": "integer", "description": "How many would be."},
      "skipped": {"type": "integer"},
      "conflicts": {"type": "integer", "description": "Their envelopes are in the stream again."},
      "hold_keys": {"type": "integer"},
      "without_key": {"type": "integer"},
      "oldest": {"type": ["string", "null"]},
      "newest": {"type": ["string", "null"]},
      "first_entry_id": {"type": ["integer", "null"]},
      "last_entry_id": {"type": ["integer", "null"]},
      "keys": {"type": "integer"},
      "more": {"type": "boolean"},
      "until": {"type": "string"},
      "by_reason": {"$ref": "#/components/schemas/Counts"},
      "by_key": {"type": "array", "items": {
        "type": "object", "required": ["stream", "key", "count"], "additionalProperties": false,
        "properties": {
          "stream": {"type": "string"}, "key": {"type": "string"}, "count": {"type": "integer"}}}}}},
  "Job": {
    "type": "object", "description": "As `outfall dead-letters jobs show --json`.",
    "additionalProperties": false,
    "required": ["job_id", "action", "state", "interrupted", "actor", "reason", "created_at", "filter",
                 "total", "done", "skipped", "more", "by_reason", "changes"],
    "properties": {
      "job_id": {"type": "integer"},
      "action": {"type": "string", "enum": ["replay", "discard"]},
      "state": {"type": "string", "enum": ["running", "paused", "finished", "aborted"]},
      "interrupted": {"type": "boolean", "description": "It is running, and nobody has run it for 15 seconds."},
      "actor": {"type": "string"},
      "reason": {"type": "string"},
      "database_user": {"type": "string"},
      "created_at": {"type": "string"},
      "ran_at": {"type": "string"},
      "ended_at": {"type": ["string", "null"]},
      "filter": {"type": "object"},
      "limit": {"type": ["integer", "null"]},
      "per_second": {"type": ["number", "null"]},
      "in_flight": {"type": ["integer", "null"]},
      "total": {"type": ["integer", "null"], "description": "Counted at its start; null: over a million."},
      "done": {"type": "integer"},
      "skipped": {"type": "integer"},
      "last_entry_id": {"type": ["integer", "null"]},
      "more": {"type": "boolean"},
      "by_reason": {"$ref": "#/components/schemas/Counts"},
      "live": {"type": "integer"},
      "dead_letters_again": {"type": "integer"},
      "changes": {"type": "array", "items": {
        "type": "object", "additionalProperties": false,
        "required": ["at", "action", "actor", "reason", "database_user", "done"],
        "properties": {
          "at": {"type": "string"},
          "action": {"type": "string"},
          "actor": {"type": "string"},
          "reason": {"type": "string"},
          "database_user": {"type": "string"},
          "done": {"type": "integer"}}}}}},
  "Jobs": {
    "type": "object", "description": "As `outfall dead-letters jobs list --json`.",
    "required": ["jobs"], "additionalProperties": false,
    "properties": {"jobs": {"type": "array", "items": {
      "type": "object", "additionalProperties": false,
      "required": ["job_id", "action", "state", "interrupted", "actor", "reason", "created_at", "filter",
                   "total", "done", "skipped", "more"],
      "properties": {
        "job_id": {"type": "integer"},
        "action": {"type": "string", "enum": ["replay", "discard"]},
        "state": {"type": "string", "enum": ["running", "paused", "finished", "aborted"]},
        "interrupted": {"type": "boolean"},
        "actor": {"type": "string"},
        "reason": {"type": "string"},
        "database_user": {"type": "string"},
        "created_at": {"type": "string"},
        "ran_at": {"type": "string"},
        "ended_at": {"type": ["string", "null"]},
        "filter": {"type": "object"},
        "limit": {"type": ["integer", "null"]},
        "per_second": {"type": ["number", "null"]},
        "in_flight": {"type": ["integer", "null"]},
        "total": {"type": ["integer", "null"]},
        "done": {"type": "integer"},
        "skipped": {"type": "integer"},
        "last_entry_id": {"type": ["integer", "null"]},
        "more": {"type": "boolean"}}}}}}
})json";

}  // namespace outfall
