#include "daemon/status_json.h"

#include <boost/json.hpp>

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
  for (const auto& [lane, state] : report.lanes) {
    breakers.push_back(boost::json::object{{"lane", lane}, {"state", to_string(state)}});
  }
  stream["breakers"] = std::move(breakers);
  return stream;
}

}  // namespace

std::string status_json(const Drain::Snapshot& snapshot, const Uuid& worker) {
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
  return boost::json::serialize(status);
}

}  // namespace outfall
