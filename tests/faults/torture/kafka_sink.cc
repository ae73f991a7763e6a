#include <array>
#include <stdexcept>
#include <thread>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

#include "tests/faults/torture/sink.h"
#include "tests/support/wait_until.h"

namespace outfall::torture {

namespace {

constexpr int kPartitions = 4;

using Consumer = std::unique_ptr<rd_kafka_t, void (*)(rd_kafka_t*)>;

Consumer subscribe(const std::string& brokers, const std::string& topic) {
  std::array<char, 512> error{};
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  const std::array<std::pair<const char*, const char*>, 7> settings = {
      {{"bootstrap.servers", brokers.c_str()},
       {"group.id", "torture"},
       {"enable.auto.commit", "false"},
       {"auto.offset.reset", "earliest"},
       {"fetch.wait.max.ms", "10"},
       {"reconnect.backoff.max.ms", "200"},
       {"log_level", "0"}}};
  for (const auto& [name, value] : settings)
    rd_kafka_conf_set(conf, name, value, error.data(), error.size());
  Consumer consumer(rd_kafka_new(RD_KAFKA_CONSUMER, conf, error.data(), error.size()),
                    rd_kafka_destroy);
  if (!consumer) throw std::runtime_error(std::string("no Kafka consumer: ") + error.data());
  rd_kafka_poll_set_consumer(consumer.get());
  rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(kPartitions);
  for (int partition = 0; partition < kPartitions; ++partition) {
    rd_kafka_topic_partition_list_add(list, topic.c_str(), partition)->offset =
        RD_KAFKA_OFFSET_BEGINNING;
  }
  rd_kafka_assign(consumer.get(), list);
  rd_kafka_topic_partition_list_destroy(list);
  return consumer;
}

// A topic of the run's own, read while it is written, past the gate.
class KafkaSink final : public Sink {
 public:
  KafkaSink(const SinkOptions& options, History& history)
      : history_(history),
        slow_(options.slow),
        kafka_(*options.kafka),
        topic_(make_topic(options)),
        consumer_(subscribe(kafka_.brokers(), topic_)),
        reader_([this] { follow(); }) {}
  ~KafkaSink() override {
    ended_ = true;
    reader_.join();
    rd_kafka_consumer_close(consumer_.get());
  }

  std::string emitter(int) const override {
    return fmt::format(
        "kind = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{}\"\ndelivery_timeout = \"{}\"\n",
        kafka_.gated_brokers(), topic_, slow_ ? "60s" : "1s");
  }
  std::vector<test::TcpGate*> gates() override { return {&kafka_.gate()}; }
  void go_away(bool frozen) override {
    frozen_ = frozen;
    frozen ? kafka_.freeze() : kafka_.kill();
  }
  void come_back() override { frozen_ ? kafka_.thaw() : kafka_.start(); }
  void finish() override {
    const std::int64_t all = kafka_.count(topic_);
    test::wait_until([&] { return read_ >= all; }, "all records of the topic to be read");
  }

 private:
  static std::string make_topic(const SinkOptions& options) {
    const std::string topic = "run-" + options.name;
    options.kafka->create_topic(topic, kPartitions, {{"max.message.bytes", "20000"}});
    return topic;
  }

  void follow() {
    while (!ended_) {
      const std::unique_ptr<rd_kafka_message_t, void (*)(rd_kafka_message_t*)> message(
          rd_kafka_consumer_poll(consumer_.get(), 50), rd_kafka_message_destroy);
      if (!message || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
      take(*message);
      ++read_;
    }
  }

  void take(const rd_kafka_message_t& message) {
    Place place{.id = header(message, "ce_id"), .stream = "orders", .key = {}, .n = 0};
    if (message.key != nullptr)
      place.key = std::string(static_cast<const char*>(message.key), message.key_len);
    boost::json::error_code error;
    const boost::json::value body =
        boost::json::parse({static_cast<const char*>(message.payload), message.len}, error);
    if (!error) place.n = body.at("n").to_number<std::int64_t>();
    history_.arrived(kName, place);
  }

  static std::string header(const rd_kafka_message_t& message, const char* name) {
    rd_kafka_headers_t* headers = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
      return {};
    return {static_cast<const char*>(value), size};
  }

  History& history_;
  const bool slow_;
  test::TempKafka& kafka_;
  const std::string topic_;
  bool frozen_ = false;
  Consumer consumer_;
  std::atomic<std::int64_t> read_{0};
  std::atomic<bool> ended_{false};
  std::thread reader_;
};

}  // namespace

std::unique_ptr<Sink> make_kafka_sink(const SinkOptions& options, History& history) {
  return std::make_unique<KafkaSink>(options, history);
}

}  // namespace outfall::torture
