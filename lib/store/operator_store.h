#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "store/store_error.h"

namespace outfall {

// Who asks for a change and why; both are kept with it.
struct Requester {
  std::string actor;
  std::string reason;
};

// One entry, by its envelope id or its entry id. An envelope can be in several streams.
struct EntryTarget {
  std::optional<Uuid> envelope_id;
  std::optional<EntryId> entry_id;
  std::optional<std::string> stream;
};

// The record of a change, as it is kept.
struct OperationRecord {
  std::int64_t operation_id = 0;
  WallTime done_at;
  std::string action;  // "retry_entry"
  std::string stream;
  std::optional<EntryId> entry_id;
  std::optional<Uuid> envelope_id;
  std::string detail;  // JSON: what was there before
};

// Which dead letters; what is not set does not narrow. Times are those of dead-lettering.
struct DeadLetterFilter {
  std::vector<EntryId> ids;
  std::vector<Uuid> envelope_ids;
  std::optional<std::string> stream;
  std::optional<std::string> type;
  std::optional<std::string> key;
  std::optional<std::string> reason_code;
  std::optional<WallTime> since;
  std::optional<WallTime> until;
  std::optional<EntryId> after;  // only those with a higher entry id
};

// One dead letter, without what the entry carries. Times are by the database's clock.
struct DeadLetter {
  EntryId entry_id = 0;
  Uuid envelope_id;
  std::string stream;
  std::optional<std::string> key;
  std::string type;
  std::string reason_code;
  std::string reason;
  std::int32_t attempts = 0;  // counted, over all replays
  std::int32_t replays = 0;   // how often it was sent back into its stream before
  bool holds_key = false;     // later entries of its key wait for its replay or discard
  WallTime created_at;
  WallTime dead_lettered_at;
  std::string last_error_code;  // empty: none
  std::string last_error_message;
};

// A dead letter with all that the producer wrote. For operators who may read payloads; not for
// logs.
struct DeadLetterContent {
  DeadLetter letter;
  std::optional<std::string> source, subject, content_type, data_schema;
  std::optional<WallTime> occurred_at;
  std::string headers;                 // JSON; empty: none
  std::optional<std::string> payload;  // exact bytes; JSON unless it is binary; none: a tombstone
  bool payload_is_binary = false;
};

// Back into the stream as new attempts, or away for good.
enum class DeadLetterAction : std::uint8_t { replay, discard };

// The replay or discard of many dead letters, as the database keeps it.
struct JobRequest {
  DeadLetterAction action = DeadLetterAction::replay;
  DeadLetterFilter filter;
  std::optional<std::int32_t> limit;      // in all
  std::optional<double> per_second;       // no faster
  std::optional<std::int32_t> in_flight;  // of a replay: entries that are unfinished at a time
};

using JobId = std::int64_t;

// Where a job is after a chunk of it. `state`: running, paused, finished, aborted; taken_over when
// another runner has it.
struct JobStep {
  std::string state;
  std::int32_t moved = 0;
  Milliseconds wait{0};  // before the next chunk
  std::int64_t done = 0;
  std::int64_t skipped = 0;
  std::optional<std::int64_t> total;
  std::optional<EntryId> last_id;
  bool more = false;  // some that the filter names are left
  // What kept this chunk from being moved, such as an open transaction's lock; empty: nothing.
  std::string waits_for = {};
};

// Other content for a dead letter; `fields` are those that are replaced, null where nothing is
// given.
struct MendRequest {
  std::optional<Uuid> envelope_id;  // one of the two
  std::optional<EntryId> entry_id;
  std::optional<std::int32_t> replays;  // refused when it has been replayed since
  std::vector<std::string> fields;      // payload, content_type, data_schema, headers
  std::optional<std::string> payload, payload_base64, content_type, data_schema, headers;
};

// What mend() has changed, or would.
struct Mended {
  EntryId entry_id = 0;
  std::vector<std::string> changed;  // those fields that were not so before
};

// Why the database refused; each has its own exit code and HTTP status.
enum class RefusalReason : std::uint8_t {
  leased,       // a worker is delivering the entry, or others have a dead letter locked: try again
  not_found,    // no such entry, dead letter or stream
  ambiguous,    // the envelope is in several streams: name one
  wrong_state,  // the entry's state forbids it
  incomplete,   // the request lacks something: actor, reason, a filter
};

// The database said no, and changed nothing. Message and hint are its own.
class OperatorRefusal : public StoreError {
 public:
  OperatorRefusal(RefusalReason reason, const StoreError& error)
      : StoreError(error), reason_(reason) {}
  [[nodiscard]] RefusalReason reason() const noexcept { return reason_; }

 private:
  RefusalReason reason_;
};

// What people do with an outbox, for the command line and HTTP; each a call of the SQL API. One
// thread at a time. Every call blocks for one round trip, bounded by the configured timeouts, and
// throws OperatorRefusal or another StoreError. Changes are in force and recorded when a call
// returns. Streams, where asked for, are those of the configuration: nullptr when it has none.
class OperatorStore {
 public:
  using Streams = std::span<const std::string>;
  virtual ~OperatorStore() = default;

  // Whether the server follows another one: what it shows may be old, and it takes no changes.
  [[nodiscard]] virtual bool standby() const = 0;
  [[nodiscard]] virtual WallTime now() = 0;  // the database's clock
  // Who this session is at the database, quoted as the database writes it.
  [[nodiscard]] virtual std::string role() = 0;
  // The documents of status() and explain_entry(), as JSON.
  [[nodiscard]] virtual std::string status(std::optional<Streams> streams) = 0;
  [[nodiscard]] virtual std::string explain(const Uuid& envelope_id,
                                            std::optional<Streams> streams) = 0;
  [[nodiscard]] virtual std::optional<Uuid> envelope_of(EntryId entry_id) = 0;
  // Those that a running worker serves; nullopt where that cannot be seen (a transaction pooler,
  // a standby).
  [[nodiscard]] virtual std::optional<std::vector<std::string>> served(Streams streams) = 0;

  // Live entries. retry: due at once, but for what it is held behind; dead_letter: given up by
  // hand, with `hold_key` so that its key waits; discard: deleted.
  virtual OperationRecord retry(const EntryTarget& entry, const Requester& by) = 0;
  virtual OperationRecord dead_letter(const EntryTarget& entry, bool hold_key,
                                      const Requester& by) = 0;
  virtual OperationRecord discard(const EntryTarget& entry, const Requester& by) = 0;
  // Nothing of a paused stream or destination is claimed by any worker, until it is resumed.
  virtual OperationRecord pause_stream(const std::string& stream, const Requester& by) = 0;
  virtual OperationRecord resume_stream(const std::string& stream, const Requester& by) = 0;
  virtual OperationRecord pause_destination(const std::string& stream, const std::string& lane,
                                            const Requester& by) = 0;
  virtual OperationRecord resume_destination(const std::string& stream, const std::string& lane,
                                             const Requester& by) = 0;

  // In ascending order of entry ids, at most `limit`.
  [[nodiscard]] virtual std::vector<DeadLetter> dead_letters(const DeadLetterFilter& filter,
                                                             std::int32_t limit) = 0;
  // Refused as not_found or ambiguous where the target names none or several.
  [[nodiscard]] virtual DeadLetterContent dead_letter_content(const EntryTarget& entry) = 0;

  // The document of count_dead_letters(), as JSON.
  [[nodiscard]] virtual std::string count_dead_letters(const DeadLetterFilter& filter,
                                                       std::optional<std::int32_t> limit) = 0;
  // The next ones in ascending order of entry ids, some MiB at most; none: there are no more.
  [[nodiscard]] virtual std::vector<DeadLetterContent> export_dead_letters(
      const DeadLetterFilter& filter, std::int32_t limit) = 0;
  // A dry run changes nothing and refuses what would be refused.
  virtual Mended mend(const MendRequest& request, bool dry_run, const Requester& by) = 0;

  // Jobs: documents of create_job(), show_job() and so on, as JSON. A runner is a random id: who
  // resumes a job with its own takes it over from the one before.
  virtual std::string create_job(const JobRequest& request, const Uuid& runner,
                                 const Requester& by) = 0;
  // One chunk. When its answer is lost, the next call says how far the job is.
  virtual JobStep run_job(JobId job, const Uuid& runner) = 0;
  // A paused job moves nothing until it is resumed; an aborted one is over. What it has moved
  // stays.
  virtual std::string pause_job(JobId job, const Requester& by) = 0;
  virtual std::string resume_job(JobId job, const Uuid& runner, std::optional<double> per_second,
                                 std::optional<std::int32_t> in_flight, const Requester& by) = 0;
  virtual std::string abort_job(JobId job, const Requester& by) = 0;
  [[nodiscard]] virtual std::string job(JobId job) = 0;
  // The newest first, each a document; an empty state is any.
  [[nodiscard]] virtual std::vector<std::string> jobs(const std::string& state,
                                                      std::int32_t limit) = 0;
};

}  // namespace outfall
