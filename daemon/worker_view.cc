#include "daemon/worker_view.h"

#include <algorithm>

#include <fmt/format.h>

#include "daemon/admin/client.h"
#include "daemon/json_fields.h"
#include "daemon/text_output.h"
#include "daemon/wiring.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr Milliseconds kWorkerTimeout{1000};

// Throws where the document is not a worker's, as of another program at that address.
json::array breakers_of(const std::string& address, const json::object& status) {
  json::array rows;
  for (const json::value& value : array_field(status, "streams")) {
    const json::object& stream = value.as_object();
    for (const json::value& one : array_field(stream, "breakers")) {
      const json::object& breaker = one.as_object();
      rows.push_back(json::object{{"address", address},
                                  {"stream", text_field(stream, "stream")},
                                  {"lane", text_field(breaker, "lane")},
                                  {"state", text_field(breaker, "state")},
                                  {"away_seconds", integer_field(breaker, "away_seconds")},
                                  {"error", text_field(breaker, "error")}});
    }
  }
  return rows;
}

json::array asked(const std::vector<WorkerView>& workers) {
  json::array rows;
  for (const WorkerView& worker : workers) {
    json::object row{{"address", worker.address}, {"answers", worker.id.has_value()}};
    if (worker.id) row["worker"] = *worker.id;
    if (!worker.problem.empty()) row["problem"] = worker.problem;
    rows.push_back(std::move(row));
  }
  return rows;
}

WorkerView ask_worker(const std::string& address) {
  WorkerView view{.address = address, .id = {}, .breakers = {}, .problem = {}};
  try {
    const json::object status =
        json::parse(admin_get(address, "/status", kWorkerTimeout)).as_object();
    view.breakers = breakers_of(address, status);
    view.id = text_field(status, "worker");
  } catch (const std::exception& error) {
    view.problem = error.what();
  }
  return view;
}

}  // namespace

void add_worker_option(CLI::App& command, std::vector<std::string>& workers) {
  command
      .add_option("--worker", workers,
                  "A worker to ask for its breakers, again for each; default: admin.listen")
      ->type_name("HOST:PORT");
}

void check_workers(const std::vector<std::string>& named) {
  for (const std::string& worker : named) {
    if (worker.find(':') == std::string::npos) {
      throw CommandError(ExitCode::usage, fmt::format("--worker: \"{}\" has no port", worker),
                         "write HOST:PORT, as admin.listen of that worker says");
    }
  }
}

std::vector<std::string> workers_to_ask(const std::vector<std::string>& named,
                                        const Config& config) {
  check_workers(named);
  if (!named.empty()) return named;
  const std::string own = own_worker(config);
  return own.empty() ? std::vector<std::string>{} : std::vector{own};
}

std::vector<WorkerView> ask_workers(const std::vector<std::string>& addresses) {
  std::vector<WorkerView> views;
  for (const std::string& address : addresses) views.push_back(ask_worker(address));
  return views;
}

void add_worker_views(json::object& document, const std::vector<WorkerView>& workers) {
  json::array breakers;
  for (const WorkerView& worker : workers)
    breakers.insert(breakers.end(), worker.breakers.begin(), worker.breakers.end());
  document["breakers"] = std::move(breakers);
  document["asked_workers"] = asked(workers);
}

void write_breakers(std::ostream& out, const json::object& document) {
  for (const json::value& value : array_field(document, "asked_workers")) {
    const json::object& worker = value.as_object();
    if (flag_field(worker, "answers")) continue;
    out << fmt::format("breakers: no worker answers at {} ({})\n", text_field(worker, "address"),
                       printable(text_field(worker, "problem")));
  }
  TextTable table({{"BREAKER"}, {"LANE"}, {"STATE"}, {"AWAY", true}, {"WORKER AT"}, {"ERROR"}});
  for (const json::value& value : array_field(document, "breakers")) {
    const json::object& breaker = value.as_object();
    const std::string lane = text_field(breaker, "lane");
    table.add({text_field(breaker, "stream"), lane.empty() ? "-" : lane,
               text_field(breaker, "state"), age_of_seconds(number_field(breaker, "away_seconds")),
               text_field(breaker, "address"), text_field(breaker, "error")});
  }
  if (!table.empty()) table.write(out);
}

bool a_worker_answers(const json::object& document) {
  return std::ranges::any_of(array_field(document, "asked_workers"), [](const json::value& worker) {
    return flag_field(worker.as_object(), "answers");
  });
}

}  // namespace outfall
