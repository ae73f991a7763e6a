#include "tests/bench/outage_destinations.h"

#include <array>

#include <fmt/format.h>

#include "tests/bench/kafka_stream.h"
#include "tests/bench/webhook_stream.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_kafka.h"

namespace outfall::bench {

namespace {

using test::Admission;
using test::Direction;
using test::Ending;
using test::TcpGate;
using test::Traffic;

// What happens to an endpoint, or to the way to it, and how it ends.
struct EndpointFault {
  void (*begin)(HttpSink&, TcpGate&);
  void (*end)(HttpSink&, TcpGate&);
};

constexpr EndpointFault kRefuses{[](HttpSink&, TcpGate& gate) {
                                   gate.admit(Admission::refuse);
                                   gate.end_connections(Ending::reset);
                                 },
                                 [](HttpSink&, TcpGate& gate) { gate.admit(Admission::accept); }};

constexpr EndpointFault kResets{
    [](HttpSink&, TcpGate& gate) {
      gate.cut_after(Direction::to_server, 1);
      gate.end_connections(Ending::reset);
    },
    [](HttpSink&, TcpGate& gate) { gate.cut_after(Direction::to_server, std::nullopt); }};

// Connections that it knew nothing of any more are reset when it comes back, as by a machine that
// was switched off.
constexpr EndpointFault kSilent{[](HttpSink&, TcpGate& gate) { gate.traffic(Traffic::drop); },
                                [](HttpSink&, TcpGate& gate) {
                                  gate.traffic(Traffic::pass);
                                  gate.end_connections(Ending::reset);
                                }};

// Nobody ever tells the client that what it sent meanwhile is lost.
constexpr EndpointFault kSilentAndLost{
    [](HttpSink&, TcpGate& gate) { gate.traffic(Traffic::drop); },
    [](HttpSink&, TcpGate& gate) { gate.traffic(Traffic::pass); }};

// Everything that was sent meanwhile arrives after all.
constexpr EndpointFault kFrozen{[](HttpSink&, TcpGate& gate) { gate.traffic(Traffic::stall); },
                                [](HttpSink&, TcpGate& gate) { gate.traffic(Traffic::pass); }};

constexpr EndpointFault kAnswers503{[](HttpSink& sink, TcpGate&) { sink.fail(true); },
                                    [](HttpSink& sink, TcpGate&) { sink.fail(false); }};

class Endpoint : public Destination {
 public:
  explicit Endpoint(const EndpointFault& fault) : fault_(fault) {}

  [[nodiscard]] std::string settings() const override {
    return webhook_stream(fmt::format("http://127.0.0.1:{}/hooks", gate_.port()));
  }
  void go_away() override { fault_.begin(sink_, gate_); }
  void come_back() override { fault_.end(sink_, gate_); }
  [[nodiscard]] std::vector<Receipt> take_receipts() override { return sink_.take_receipts(); }

 private:
  const EndpointFault& fault_;
  HttpSink sink_{{.records = true}};
  TcpGate gate_{sink_.port()};
};

template <const EndpointFault& kFault>
std::unique_ptr<Destination> endpoint() {
  return std::make_unique<Endpoint>(kFault);
}

struct BrokerFault {
  void (*begin)(test::TempKafka&);
  void (*end)(test::TempKafka&);
  bool is_at_the_gate = false;
};

constexpr BrokerFault kKilled{[](test::TempKafka& kafka) { kafka.kill(); },
                              [](test::TempKafka& kafka) { kafka.start(); }};

constexpr BrokerFault kStopped{[](test::TempKafka& kafka) { kafka.freeze(); },
                               [](test::TempKafka& kafka) { kafka.thaw(); }};

constexpr BrokerFault kCut{
    [](test::TempKafka& kafka) {
      kafka.gate().cut_after(Direction::to_server, 1);
      kafka.gate().end_connections(Ending::reset);
    },
    [](test::TempKafka& kafka) { kafka.gate().cut_after(Direction::to_server, std::nullopt); },
    true};

class Broker : public Destination {
 public:
  explicit Broker(const BrokerFault& fault) : fault_(fault), kafka_(options_of(fault)) {
    kafka_.create_topic(kTopic, 4, append_time());
  }

  [[nodiscard]] std::string settings() const override {
    return kafka_stream(fault_.is_at_the_gate ? kafka_.gated_brokers() : kafka_.brokers(), kTopic);
  }
  void go_away() override { fault_.begin(kafka_); }
  void come_back() override { fault_.end(kafka_); }
  [[nodiscard]] std::vector<Receipt> take_receipts() override {
    return receipts_of(kafka_, kTopic);
  }

 private:
  static constexpr auto kTopic = "shop";

  static test::KafkaOptions options_of(const BrokerFault& fault) {
    test::KafkaOptions options = broker_options();
    options.gate = fault.is_at_the_gate;
    return options;
  }

  const BrokerFault& fault_;
  test::TempKafka kafka_;
};

template <const BrokerFault& kFault>
std::unique_ptr<Destination> broker() {
  return std::make_unique<Broker>(kFault);
}

// As many failures as open the breaker, as shipped; each of them has spent an attempt.
constexpr std::int64_t kOpensBreaker = 5;

constexpr std::array kCases{
    OutageCase{.name = "endpoint refuses", .make = &endpoint<kRefuses>, .in_smoke = true},
    OutageCase{.name = "endpoint resets", .make = &endpoint<kResets>},
    OutageCase{.name = "endpoint silent", .make = &endpoint<kSilent>, .in_smoke = true},
    OutageCase{.name = "endpoint silent and lost", .make = &endpoint<kSilentAndLost>},
    OutageCase{.name = "endpoint frozen", .make = &endpoint<kFrozen>},
    OutageCase{.name = "endpoint answers 503",
               .make = &endpoint<kAnswers503>,
               .attempts = kOpensBreaker,
               .in_smoke = true},
    OutageCase{.name = "broker killed", .make = &broker<kKilled>, .in_smoke = true},
    OutageCase{.name = "broker frozen", .make = &broker<kStopped>},
    OutageCase{.name = "broker resets", .make = &broker<kCut>},
};

}  // namespace

std::span<const OutageCase> outage_cases() {
  return kCases;
}

}  // namespace outfall::bench
