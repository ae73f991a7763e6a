#include "emitters/kafka/statistics.h"

#include <array>
#include <utility>

#include <boost/json.hpp>

namespace outfall::kafka {
namespace {

namespace json = boost::json;

constexpr auto kMetrics = std::to_array<EmitterMetricSpec>({
    {.name = "queue_messages", .help = "Records at the producer that no broker has acknowledged"},
    {.name = "queue_bytes", .help = "Their bytes"},
    {.name = "broker_up", .label = "broker", .help = "Whether the connection to the broker stands"},
    {.name = "broker_in_flight_requests",
     .label = "broker",
     .help = "Requests that the broker has not answered"},
    {.name = "broker_rtt_seconds",
     .label = "broker",
     .help = "Round trip to the broker, 99th percentile of the last seconds"},
    {.name = "broker_throttle_seconds",
     .label = "broker",
     .help = "For how long at most the broker's quota held answers back in the last seconds"},
    {.name = "producers_total",
     .counter = true,
     .help = "Producers that were made; more than one means that one had to be replaced"},
    {.name = "isolated_records_total",
     .counter = true,
     .help = "Records that were sent apart because the broker had rejected their batch or a time "
             "seemed too far ahead"},
});

double number_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return 0;
  return value->to_number<double>();
}

double window_at(const json::object& object, std::string_view window, std::string_view name) {
  const json::value* value = object.if_contains(window);
  return value != nullptr && value->is_object() ? number_at(value->get_object(), name) : 0;
}

}  // namespace

std::span<const EmitterMetricSpec> metric_specs() noexcept {
  return kMetrics;
}

void Statistics::take(std::string_view text) {
  boost::system::error_code error;
  const json::value document = json::parse(text, error);
  if (error || !document.is_object()) return;
  const json::object& all = document.get_object();
  reporter_.set(kQueueMessages, number_at(all, "msg_cnt"));
  reporter_.set(kQueueBytes, number_at(all, "msg_size"));
  std::set<std::string> seen;
  const json::value* brokers = all.if_contains("brokers");
  if (brokers == nullptr || !brokers->is_object()) return;
  for (const auto& [name, value] : brokers->get_object()) {
    if (!value.is_object()) continue;
    const json::object& broker = value.get_object();
    const json::value* node = broker.if_contains("nodename");
    // Those below 0 are the addresses of the configuration, before anybody answered.
    if (number_at(broker, "nodeid") < 0 || node == nullptr || !node->is_string()) continue;
    const std::string label(node->get_string());
    const json::value* state = broker.if_contains("state");
    const bool up = state != nullptr && state->is_string() && state->get_string() == "UP";
    reporter_.set(kBrokerUp, up ? 1 : 0, label);
    reporter_.set(kBrokerInFlight, number_at(broker, "waitresp_cnt"), label);
    reporter_.set(kBrokerRttSeconds, window_at(broker, "rtt", "p99") / 1e6, label);
    reporter_.set(kBrokerThrottleSeconds, window_at(broker, "throttle", "max") / 1e3, label);
    seen.insert(label);
  }
  for (const std::string& label : brokers_) {
    if (seen.contains(label)) continue;
    for (const auto metric :
         {kBrokerUp, kBrokerInFlight, kBrokerRttSeconds, kBrokerThrottleSeconds}) {
      reporter_.forget(metric, label);
    }
  }
  brokers_ = std::move(seen);
}

}  // namespace outfall::kafka
