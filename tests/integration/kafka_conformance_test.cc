// The conformance suite against a real broker: one topic, a template, one record of a key at a
// time, and structured mode.
#include "tests/integration/kafka_fixture.h"
#include "tests/support/emitter_conformance.h"

namespace outfall {
namespace {

using test::ConformanceCase;
using test::make_emitter;
using test::shared_kafka;

class KafkaSubject : public test::ConformanceSubject {
 public:
  // `suffix` of the topic; a rejected type where the topic is made of the type.
  explicit KafkaSubject(std::string suffix = {}) : suffix_(std::move(suffix)) {
    shared_kafka().create_topic(topic_ + (suffix_.empty() ? "" : ".test.entry"), 4,
                                {{"max.message.bytes", "4000000"}});
    settings_ = test::kafka_settings(topic_ + suffix_);
    settings_.text("brokers", shared_kafka().gated_brokers());
  }
  ~KafkaSubject() override { release(); }

  std::unique_ptr<Emitter> create(CompletionSink& sink) override {
    return make_emitter(kafka_emitter_kind(), settings_, sink);
  }
  std::optional<std::vector<Received>> received() override {
    std::vector<Received> all;
    for (auto& record : shared_kafka().records(topic_ + (suffix_.empty() ? "" : ".test.entry"))) {
      all.push_back({*Uuid::parse(record.header("ce_id")), std::move(record.value)});
    }
    return all;
  }
  bool stall() override {
    shared_kafka().gate().traffic(test::Traffic::stall);
    return true;
  }
  void release() override { shared_kafka().gate().traffic(test::Traffic::pass); }
  std::string rejected_type() override { return suffix_.empty() ? "" : "no/topic"; }

 protected:
  const std::string topic_ = test::fresh_topic_name();
  const std::string suffix_;
  test::TestSettings settings_{kafka_emitter_kind()};
};

class OneOfAKey final : public KafkaSubject {
 public:
  OneOfAKey() { settings_.number("key_window", 1); }
};

class Structured final : public KafkaSubject {
 public:
  Structured() { settings_.text("format", "structured"); }
  // The JSON event is for the CloudEvents SDK to judge, in kafka_judges_test.
  std::optional<std::vector<Received>> received() override { return std::nullopt; }
};

ConformanceCase subject(std::string name,
                        std::function<std::unique_ptr<test::ConformanceSubject>()> make) {
  return {std::move(name), std::move(make)};
}

OUTFALL_EMITTER_CONFORMANCE(Kafka,
                            subject("OneTopic", [] { return std::make_unique<KafkaSubject>(); }),
                            subject("TopicByType",
                                    [] { return std::make_unique<KafkaSubject>(".{type}"); }),
                            subject("OneOfAKey", [] { return std::make_unique<OneOfAKey>(); }),
                            subject("Structured", [] { return std::make_unique<Structured>(); }));

}  // namespace
}  // namespace outfall
