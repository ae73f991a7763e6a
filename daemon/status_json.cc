#include "daemon/status_json.h"

#include <boost/json.hpp>

#include "core/error_text.h"
#include "daemon/json_text.h"

namespace outfall {

namespace {

boost::json::object stream_json(const StreamDrain::Report& report) {
  boost::json::object stream;
  stream["stream"] = report.stream;
  stream["emitter"] = report.emitter;
  stream["paused"] = report.paused;
  stream["entries_in_flight"] = report.held_entries;
  stream["leases"] = report.leases;
  stream["keys_in_flight"] = report.keys;
  stream["consecutive_failures"] = report.consecutive_failures;
  if (report.last_success == WallTime{}) {
    stream["last_success_timestamp_seconds"] = nullptr;
  } else {
    stream["last_success_timestamp_seconds"] =
        std::chrono::duration<double>(report.last_success.time_since_epoch()).count();
  }
  boost::json::array breakers;
  // It is read without a token, and a lane may be a URL that whoever has it may post to.
  for (const StreamDrain::Report::Lane& lane : report.lanes) {
    breakers.push_back(boost::json::object{{"lane", loggable_lane(lane.name)},
                                           {"state", to_string(lane.state)},
                                           {"error", lane.error},
                                           {"away_seconds", lane.away.count() / 1000}});
  }
  stream["breakers"] = std::move(breakers);
  return stream;
}

double seconds(std::chrono::microseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

boost::json::object look_json(const DatabaseLook& look) {
  boost::json::object object;
  object["taken_at_timestamp_seconds"] = seconds(look.taken_at.time_since_epoch());
  object["counts_end_at"] = look.count_limit;
  boost::json::array streams;
  for (const StreamLook& stream : look.streams) {
    streams.push_back(
        boost::json::object{{"stream", stream.name},
                            {"paused", stream.paused},
                            {"paused_destinations", stream.paused_destinations},
                            {"pending", stream.pending},
                            {"deferred", stream.deferred},
                            {"retryable_failure", stream.retryable_failure},
                            {"held", stream.held},
                            {"dead_letters", stream.dead_letters},
                            {"oldest_due_seconds", seconds(stream.oldest_due)},
                            {"oldest_blocked_seconds", seconds(stream.oldest_blocked)},
                            {"oldest_retried_seconds", seconds(stream.oldest_retried)},
                            {"oldest_deferred_seconds", seconds(stream.oldest_deferred)},
                            {"oldest_created_seconds", seconds(stream.oldest_created)},
                            {"leases_active", stream.leases_active},
                            {"leases_expired", stream.leases_expired}});
  }
  object["streams"] = std::move(streams);
  boost::json::array unbound;
  for (const UnboundStream& stream : look.unbound) {
    unbound.push_back(
        boost::json::object{{"stream", stream.name},
                            {"entries", stream.entries},
                            {"oldest_created_seconds", seconds(stream.oldest_created)}});
  }
  object["unbound"] = std::move(unbound);
  object["receipts_in_default_partition"] = look.receipts_in_default;
  return object;
}

}  // namespace

std::string status_json(const Drain::Snapshot& snapshot, const Uuid& worker,
                        const DatabaseLook* look) {
  boost::json::object status;
  status["worker"] = worker.to_string();
  boost::json::object database;
  database["connected"] = snapshot.connected;
  database["present"] = snapshot.present;
  if (!snapshot.problem.empty()) database["problem"] = snapshot.problem;
  if (!snapshot.hint.empty()) database["hint"] = snapshot.hint;
  status["database"] = std::move(database);
  status["stopping"] = snapshot.stopping;
  status["entries_in_flight"] = snapshot.held_entries;
  status["bytes_in_flight"] = snapshot.held_bytes;
  boost::json::array streams;
  for (const StreamDrain::Report& report : snapshot.streams) streams.push_back(stream_json(report));
  status["streams"] = std::move(streams);
  // Null where another worker samples, and before the first look.
  status["backlog"] =
      look == nullptr ? boost::json::value(nullptr) : boost::json::value(look_json(*look));
  return json_text(status);
}

}  // namespace outfall
