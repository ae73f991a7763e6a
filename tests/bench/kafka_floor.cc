#include "tests/bench/kafka_floor.h"

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include "emitters/kafka/kafka.h"
#include "emitters/kafka/settings.h"
#include "tests/bench/clock.h"
#include "tests/bench/usage.h"
#include "tests/support/emitter_harness.h"

namespace outfall::bench {

namespace {

using std::chrono::steady_clock;

constexpr int kTimeoutMs = 30'000;
// As many as librdkafka lets wait unless it is told otherwise. More make no larger requests.
constexpr std::int64_t kMostWaiting = 100'000;

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kHeaders{{
    {"ce_specversion", "1.0"},
    {"ce_id", "01935a6e-7c1b-7e3a-9a52-3f8c61d2b7a4"},
    {"ce_source", "/outfall/orders"},
    {"ce_type", "order.created"},
    {"ce_time", "2025-11-21T12:00:00.123456Z"},
    {"content-type", "application/json"},
}};

rd_kafka_t* new_producer(const std::string& brokers, const std::string& topic,
                         std::optional<Milliseconds> linger) {
  test::TestSettings values(kafka_emitter_kind());
  values.text("brokers", brokers).text("topic", topic);
  if (linger) values.number("linger", linger->count());
  const kafka::Settings settings = kafka::read_settings(values.values());
  kafka::Conf conf = kafka::make_conf(settings, settings.batch_bytes);
  rd_kafka_conf_set_events(conf.get(), RD_KAFKA_EVENT_DR);
  std::array<char, 512> error{};
  // A fresh broker's "load in progress" is no news.
  rd_kafka_conf_set(conf.get(), "log_level", "3", error.data(), error.size());
  rd_kafka_t* producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), error.data(), error.size());
  if (producer == nullptr) throw std::runtime_error(error.data());
  static_cast<void>(conf.release());  // It belongs to the producer now.
  return producer;
}

class BareProducer {
 public:
  BareProducer(const std::string& brokers, const std::string& topic, const KafkaLoad& load,
               std::optional<Milliseconds> linger)
      : load_(load),
        payload_(static_cast<std::size_t>(load.payload_bytes), 'x'),
        producer_(new_producer(brokers, topic, linger), rd_kafka_destroy),
        queue_(rd_kafka_queue_get_main(producer_.get()), rd_kafka_queue_destroy),
        topic_(rd_kafka_topic_new(producer_.get(), topic.c_str(), nullptr),
               rd_kafka_topic_destroy) {
    // So that it is connected when the clock starts, as the worker is.
    const struct rd_kafka_metadata* metadata = nullptr;
    const rd_kafka_resp_err_t code =
        rd_kafka_metadata(producer_.get(), 0, topic_.get(), &metadata, kTimeoutMs);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw std::runtime_error(rd_kafka_err2str(code));
    rd_kafka_metadata_destroy(metadata);
  }

  KafkaFloor run() {
    const double cpu_before = cpu_seconds(::getpid());
    const auto begun = steady_clock::now();
    for (std::int64_t i = 0; i < load_.records; ++i) {
      produce(i);
      if (i - acknowledged_ >= kMostWaiting) serve(kTimeoutMs);
      serve(0);
    }
    while (acknowledged_ < load_.records) serve(kTimeoutMs);
    return {.seconds = std::chrono::duration<double>(steady_clock::now() - begun).count(),
            .cpu = cpu_seconds(::getpid()) - cpu_before,
            .records = load_.records};
  }

  std::vector<Commit> run_on_schedule(double per_second) {
    std::vector<Commit> handed_over;
    const auto begin = steady_clock::now();
    for (std::int64_t i = 0; i < load_.records; ++i) {
      wait_until_time(begin + std::chrono::nanoseconds(static_cast<std::int64_t>(
                                  static_cast<double>(i) / per_second * 1e9)));
      handed_over.push_back({i, std::to_string(i), std::chrono::system_clock::now()});
      produce(i, handed_over.back().envelope_id);
      serve(0);
    }
    while (acknowledged_ < load_.records) serve(kTimeoutMs);
    return handed_over;
  }

 private:
  void produce(std::int64_t number, std::string_view id = {}) {
    rd_kafka_headers_t* headers = rd_kafka_headers_new(kHeaders.size());
    for (const auto& [name, usual] : kHeaders) {
      const std::string_view value = name == "ce_id" && !id.empty() ? id : usual;
      rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                          static_cast<ssize_t>(value.size()));
    }
    const std::string key = fmt::format("customer-{}", number * 7919 % load_.keys);
    // Not rd_kafka_producev(), whose macros are no standard C++, and an error for clang.
    std::array<rd_kafka_vu_t, 4> fields{};
    fields[0].vtype = RD_KAFKA_VTYPE_RKT;
    fields[0].u.rkt = topic_.get();
    fields[1].vtype = RD_KAFKA_VTYPE_KEY;
    fields[1].u.mem = {const_cast<char*>(key.data()), key.size()};
    fields[2].vtype = RD_KAFKA_VTYPE_VALUE;
    fields[2].u.mem = {payload_.data(), payload_.size()};
    fields[3].vtype = RD_KAFKA_VTYPE_HEADERS;
    fields[3].u.headers = headers;
    rd_kafka_error_t* const error =
        rd_kafka_produceva(producer_.get(), fields.data(), fields.size());
    if (error == nullptr) return;
    const std::string what = rd_kafka_error_string(error);
    rd_kafka_error_destroy(error);
    rd_kafka_headers_destroy(headers);
    throw std::runtime_error("a record is refused: " + what);
  }

  void serve(int timeout_ms) {
    const std::unique_ptr<rd_kafka_event_t, void (*)(rd_kafka_event_t*)> event(
        rd_kafka_queue_poll(queue_.get(), timeout_ms), rd_kafka_event_destroy);
    if (!event) {
      if (timeout_ms > 0) throw std::runtime_error("the broker acknowledges nothing");
      return;
    }
    if (rd_kafka_event_type(event.get()) != RD_KAFKA_EVENT_DR) return;
    while (const rd_kafka_message_t* message = rd_kafka_event_message_next(event.get())) {
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw std::runtime_error(rd_kafka_err2str(message->err));
      }
      ++acknowledged_;
    }
  }

  const KafkaLoad load_;
  std::string payload_;  // librdkafka wants it not const, and only reads it
  std::int64_t acknowledged_ = 0;
  std::unique_ptr<rd_kafka_t, void (*)(rd_kafka_t*)> producer_;
  std::unique_ptr<rd_kafka_queue_t, void (*)(rd_kafka_queue_t*)> queue_;
  std::unique_ptr<rd_kafka_topic_t, void (*)(rd_kafka_topic_t*)> topic_;
};

}  // namespace

KafkaFloor produce_with_librdkafka(const std::string& brokers, const std::string& topic,
                                   const KafkaLoad& load) {
  return BareProducer(brokers, topic, load, std::nullopt).run();
}

std::vector<Commit> produce_on_schedule(const std::string& brokers, const std::string& topic,
                                        std::optional<Milliseconds> linger, double per_second,
                                        double seconds) {
  const KafkaLoad load{.records = static_cast<std::int64_t>(per_second * seconds)};
  return BareProducer(brokers, topic, load, linger).run_on_schedule(per_second);
}

}  // namespace outfall::bench
