#include "tests/support/temp_kafka.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <sstream>
#include <stdexcept>

#include <librdkafka/rdkafka.h>

#include "tests/support/cache_folder.h"

namespace outfall::test {

namespace {

constexpr int kTimeoutMs = 30'000;
constexpr const char* kClusterId = "MkU3OEVBNTcwNTJENDM2Qk";
constexpr const char* kOwnNames = "IP:127.0.0.1,DNS:localhost";

std::vector<std::string> java(std::vector<std::string> arguments) {
  std::vector<std::string> command = {
      "java",         "-Xmx256m", "-XX:+UseSerialGC",     "-XX:TieredStopAtLevel=1",
      "-Xshare:auto", "-cp",      TempKafka::class_path()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

using Client = std::unique_ptr<rd_kafka_t, void (*)(rd_kafka_t*)>;

Client new_client(rd_kafka_type_t type, const std::string& brokers,
                  const std::map<std::string, std::string>& settings = {}) {
  std::array<char, 512> error{};
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  std::map<std::string, std::string> all = {{"bootstrap.servers", brokers}, {"log_level", "0"}};
  all.insert(settings.begin(), settings.end());
  for (const auto& [name, value] : all) {
    rd_kafka_conf_set(conf, name.c_str(), value.c_str(), error.data(), error.size());
  }
  Client client(rd_kafka_new(type, conf, error.data(), error.size()), rd_kafka_destroy);
  if (client) return client;
  rd_kafka_conf_destroy(conf);
  throw std::runtime_error(std::string("no Kafka client: ") + error.data());
}

void check(rd_kafka_resp_err_t code, const std::string& what) {
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    throw std::runtime_error(what + ": " + rd_kafka_err2str(code));
  }
}

// Runs one request of the admin API and hands its answer to `judge`.
void ask(rd_kafka_t* client, const std::string& what,
         const std::function<void(rd_kafka_queue_t*)>& request,
         const std::function<void(rd_kafka_event_t*)>& judge) {
  rd_kafka_queue_t* queue = rd_kafka_queue_new(client);
  request(queue);
  rd_kafka_event_t* event = rd_kafka_queue_poll(queue, kTimeoutMs);
  rd_kafka_queue_destroy(queue);
  if (event == nullptr) throw std::runtime_error(what + ": no answer");
  const std::unique_ptr<rd_kafka_event_t, void (*)(rd_kafka_event_t*)> owner(
      event, rd_kafka_event_destroy);
  check(rd_kafka_event_error(event), what);
  judge(event);
}

void check_topics(const rd_kafka_topic_result_t** topics, std::size_t count,
                  const std::string& what) {
  for (std::size_t i = 0; i < count; ++i) check(rd_kafka_topic_result_error(topics[i]), what);
}

// Partitions of a topic; 0 where there is no such topic.
int partitions_of(rd_kafka_t* client, const std::string& topic) {
  rd_kafka_topic_t* handle = rd_kafka_topic_new(client, topic.c_str(), nullptr);
  const struct rd_kafka_metadata* metadata = nullptr;
  const auto code = rd_kafka_metadata(client, 0, handle, &metadata, kTimeoutMs);
  rd_kafka_topic_destroy(handle);
  check(code, "metadata of " + topic);
  const int count = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
  rd_kafka_metadata_destroy(metadata);
  return count;
}

KafkaRecord record_of(const rd_kafka_message_t& message) {
  const auto text = [](const void* data, std::size_t size) {
    return data == nullptr ? std::nullopt
                           : std::optional(std::string(static_cast<const char*>(data), size));
  };
  KafkaRecord record;
  record.partition = message.partition;
  record.offset = message.offset;
  record.timestamp_ms = rd_kafka_message_timestamp(&message, nullptr);
  record.key = text(message.key, message.key_len);
  record.value = text(message.payload, message.len);
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return record;
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  for (std::size_t i = 0;
       rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
       ++i) {
    record.headers.emplace_back(name, text(value, size));
  }
  return record;
}

void run_or_throw(const std::vector<std::string>& command, const ChildOptions& options) {
  const Finished finished = run(command, options, std::chrono::minutes(2));
  if (finished.status.code != 0) {
    throw std::runtime_error(command.front() + " failed: " + finished.output +
                             finished.error_output);
  }
}

// In this folder; where a time is given in the words of faketime, at that time.
void openssl(const std::filesystem::path& folder, std::vector<std::string> arguments,
             const std::string& time = {}) {
  arguments.insert(arguments.begin(), "openssl");
  if (!time.empty()) arguments.insert(arguments.begin(), {"faketime", time});
  ChildOptions options;
  options.working_folder = folder;
  run_or_throw(arguments, options);
}

}  // namespace

std::string KafkaRecord::header(const std::string& name) const {
  for (const auto& [each, text] : headers) {
    if (each == name) return text.value_or("");
  }
  return {};
}

std::string TempKafka::class_path() {
  const std::string folder = cache_folder() / "kafka-4.1.1";
  if (!std::filesystem::exists(folder)) {
    throw std::runtime_error("no Kafka in " + folder + ": run ops/install-dependencies kafka");
  }
  return folder + "/*";
}

TempKafka::TempKafka(const KafkaOptions& options)
    : options_(options),
      port_(free_port()),
      controller_port_(free_port()),
      admin_(nullptr, rd_kafka_destroy) {
  settings_ = {
      {"process.roles", "broker,controller"},
      {"node.id", "1"},
      {"controller.quorum.voters", "1@" + address(controller_port_)},
      {"controller.listener.names", "CONTROLLER"},
      {"inter.broker.listener.name", "PLAINTEXT"},
      {"listeners", "PLAINTEXT://" + address(port_) + ",CONTROLLER://" + address(controller_port_)},
      {"advertised.listeners", "PLAINTEXT://" + address(port_)},
      {"listener.security.protocol.map",
       "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GATED:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,"
       "MISNAMED:SSL,EXPIRED:SSL"},
      {"log.dirs", folder_ / "data"},
      {"offsets.topic.replication.factor", "1"},
      {"transaction.state.log.replication.factor", "1"},
      {"transaction.state.log.min.isr", "1"},
      // A killed broker may come back only when its old session is over.
      {"broker.session.timeout.ms", "2000"},
      {"broker.heartbeat.interval.ms", "200"},
      {"group.initial.rebalance.delay.ms", "0"},
      // Records get times of long ago; half a minute after its start the broker would delete them.
      {"log.retention.ms", "-1"},
      {"num.partitions", "4"},
      {"auto.create.topics.enable", "false"},
      {"num.network.threads", "1"},
      {"num.io.threads", "2"},
      {"log.cleaner.dedupe.buffer.size", "8388608"},
  };
  if (options_.joins != nullptr) join(*options_.joins);
  if (options_.gate) {
    gated_port_ = free_port();
    gate_ = std::make_unique<TcpGate>(gated_port_);
    settings_["listeners"] += ",GATED://" + address(gated_port_);
    settings_["advertised.listeners"] += ",GATED://" + address(gate_->port());
  }
  if (options_.sasl) add_sasl();
  if (options_.tls) add_tls();
  if (options_.wrong_tls) add_wrong_tls();
  for (const auto& [name, value] : options_.settings) settings_[name] = value;
  write_settings();
  format();
  start();
}

TempKafka::~TempKafka() {
  admin_.reset();
  if (server_) {
    thaw();
    server_->kill();
  }
}

void TempKafka::join(const TempKafka& first) {
  settings_["process.roles"] = "broker";
  settings_["node.id"] = "2";
  settings_["controller.quorum.voters"] = first.settings_.at("controller.quorum.voters");
  settings_["listeners"] = settings_["advertised.listeners"];
}

void TempKafka::add_sasl() {
  sasl_port_ = free_port();
  settings_["listeners"] += ",SASL://" + address(sasl_port_);
  settings_["advertised.listeners"] += ",SASL://" + address(sasl_port_);
  settings_["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
  settings_["super.users"] = "User:ANONYMOUS;User:admin;User:CN=client";
  settings_["listener.name.sasl.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512";
  for (const std::string mechanism : {"256", "512"}) {
    settings_["listener.name.sasl.scram-sha-" + mechanism + ".sasl.jaas.config"] =
        "org.apache.kafka.common.security.scram.ScramLoginModule required;";
  }
  std::string login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
  for (const std::string user : {"admin", "alice", "bob"}) {
    login += " user_" + user + "=\"" + kPassword + "\"";
  }
  settings_["listener.name.sasl.plain.sasl.jaas.config"] = login + ";";
}

void TempKafka::make_authorities() {
  for (const std::string name : {"ca", "stranger-ca"}) {
    openssl(folder_.path(),
            {"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=outfall-test-" + name, "-keyout", name + ".key", "-out", name + ".pem"});
  }
}

// For two days from now on, or from the time that is given in the words of faketime.
void TempKafka::make_certificate(const std::string& name, const std::string& alternatives,
                                 const std::string& from) {
  folder_.write(name + ".cnf", "subjectAltName=" + alternatives + "\n");
  openssl(folder_.path(), {"req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name,
                           "-keyout", name + ".key", "-out", name + ".csr"});
  openssl(folder_.path(),
          {"x509", "-req", "-days", "2", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
           "-CAcreateserial", "-extfile", name + ".cnf", "-out", name + ".pem"},
          from);
}

// Its port.
int TempKafka::add_tls_listener(const std::string& listener, const std::string& certificate) {
  folder_.write(certificate + "-all.pem", read_file(folder_ / (certificate + ".key")) +
                                              read_file(folder_ / (certificate + ".pem")));
  const int port = free_port();
  settings_["listeners"] += "," + listener + "://" + address(port);
  settings_["advertised.listeners"] += "," + listener + "://localhost:" + std::to_string(port);
  std::string prefix = "listener.name." + listener + ".ssl.";
  std::ranges::transform(prefix, prefix.begin(), [](unsigned char c) { return std::tolower(c); });
  settings_[prefix + "keystore.type"] = "PEM";
  settings_[prefix + "keystore.location"] = folder_ / (certificate + "-all.pem");
  settings_[prefix + "truststore.type"] = "PEM";
  settings_[prefix + "truststore.location"] = folder_ / "ca.pem";
  settings_[prefix + "client.auth"] = "required";
  return port;
}

void TempKafka::add_tls() {
  make_authorities();
  for (const char* name : {"server", "client"}) make_certificate(name, kOwnNames);
  tls_port_ = add_tls_listener("TLS", "server");
}

void TempKafka::add_wrong_tls() {
  make_certificate("misnamed", "DNS:other.example");
  misnamed_port_ = add_tls_listener("MISNAMED", "misnamed");
  make_certificate("expired", kOwnNames, "10 days ago");
  expired_port_ = add_tls_listener("EXPIRED", "expired");
}

void TempKafka::write_settings() {
  std::ostringstream lines;
  for (const auto& [name, value] : settings_) lines << name << "=" << value << "\n";
  folder_.write("server.properties", lines.str());
}

void TempKafka::format() {
  std::vector<std::string> command = {
      "kafka.tools.StorageTool", "format", "-t", kClusterId, "-c", folder_ / "server.properties"};
  if (options_.sasl) {
    const auto add = [&](const std::string& mechanism, const std::string& user) {
      command.insert(command.end(), {"--add-scram", mechanism + "=[name=" + user + ",password=" +
                                                        std::string(kPassword) + "]"});
    };
    add("SCRAM-SHA-512", "alice");
    add("SCRAM-SHA-256", "carol");
    add("SCRAM-SHA-512", "carol");
  }
  ChildOptions options;
  options.working_folder = folder_.path();
  run_or_throw(java(command), options);
}

void TempKafka::start() {
  ChildOptions options;
  options.working_folder = folder_.path();
  options.output_file = folder_ / "server.log";
  options.error_file = folder_ / "server.log";
  server_ =
      std::make_unique<ChildProcess>(java({"kafka.Kafka", folder_ / "server.properties"}), options);
  bool ended = false;
  const bool answers = holds_within(
      [&] {
        ended = !server_->running();
        if (ended) return true;
        return brokers_up() > 0;
      },
      std::chrono::minutes(2));
  if (ended || !answers) throw std::runtime_error("Kafka did not start: " + log());
}

void TempKafka::kill() {
  server_->kill();
}

void TempKafka::stop() {
  server_->signal(SIGTERM);
  server_->wait(std::chrono::minutes(1));
}

std::string TempKafka::log() const {
  return read_file(folder_ / "server.log");
}

rd_kafka_t* TempKafka::admin() const {
  if (!admin_) {
    admin_ = new_client(RD_KAFKA_PRODUCER, brokers(), {{"reconnect.backoff.max.ms", "200"}});
  }
  return admin_.get();
}

void TempKafka::create_topic(const std::string& topic, int partitions,
                             const std::map<std::string, std::string>& settings,
                             std::vector<std::int32_t> replicas) {
  const std::string what = "create topic " + topic;
  rd_kafka_NewTopic_t* wanted =
      rd_kafka_NewTopic_new(topic.c_str(), partitions, replicas.empty() ? 1 : -1, nullptr, 0);
  for (int partition = 0; partition < partitions && !replicas.empty(); ++partition) {
    rd_kafka_NewTopic_set_replica_assignment(wanted, partition, replicas.data(), replicas.size(),
                                             nullptr, 0);
  }
  for (const auto& [name, value] : settings) {
    rd_kafka_NewTopic_set_config(wanted, name.c_str(), value.c_str());
  }
  ask(
      admin(), what,
      [&](rd_kafka_queue_t* queue) {
        rd_kafka_CreateTopics(admin(), &wanted, 1, nullptr, queue);
        rd_kafka_NewTopic_destroy(wanted);
      },
      [&](rd_kafka_event_t* event) {
        std::size_t count = 0;
        check_topics(
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count),
            count, what);
      });
  wait_until([&] { return partitions_of(admin(), topic) == partitions; }, what);
  static_cast<void>(count(topic));  // once it answers, each partition has its leader
}

void TempKafka::grow_topic(const std::string& topic, int partitions) {
  const std::string what = "partitions of topic " + topic;
  std::array<char, 512> error{};
  rd_kafka_NewPartitions_t* wanted = rd_kafka_NewPartitions_new(
      topic.c_str(), static_cast<std::size_t>(partitions), error.data(), error.size());
  if (wanted == nullptr) throw std::runtime_error(what + ": " + error.data());
  ask(
      admin(), what,
      [&](rd_kafka_queue_t* queue) {
        rd_kafka_CreatePartitions(admin(), &wanted, 1, nullptr, queue);
        rd_kafka_NewPartitions_destroy(wanted);
      },
      [&](rd_kafka_event_t* event) {
        std::size_t count = 0;
        check_topics(rd_kafka_CreatePartitions_result_topics(
                         rd_kafka_event_CreatePartitions_result(event), &count),
                     count, what);
      });
  wait_until([&] { return partitions_of(admin(), topic) == partitions; }, what);
}

void TempKafka::delete_topic(const std::string& topic) {
  const std::string what = "delete topic " + topic;
  rd_kafka_DeleteTopic_t* unwanted = rd_kafka_DeleteTopic_new(topic.c_str());
  ask(
      admin(), what,
      [&](rd_kafka_queue_t* queue) {
        rd_kafka_DeleteTopics(admin(), &unwanted, 1, nullptr, queue);
        rd_kafka_DeleteTopic_destroy(unwanted);
      },
      [&](rd_kafka_event_t* event) {
        std::size_t count = 0;
        check_topics(
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count),
            count, what);
      });
  wait_until([&] { return partitions_of(admin(), topic) == 0; }, what);
}

void TempKafka::set_topic(const std::string& topic,
                          const std::map<std::string, std::string>& settings) {
  const std::string what = "settings of topic " + topic;
  rd_kafka_ConfigResource_t* resource =
      rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str());
  for (const auto& [name, value] : settings) {
    rd_kafka_ConfigResource_set_config(resource, name.c_str(), value.c_str());
  }
  ask(
      admin(), what,
      [&](rd_kafka_queue_t* queue) {
        rd_kafka_AlterConfigs(admin(), &resource, 1, nullptr, queue);
        rd_kafka_ConfigResource_destroy(resource);
      },
      [&](rd_kafka_event_t* event) {
        std::size_t count = 0;
        const auto* const* resources = rd_kafka_AlterConfigs_result_resources(
            rd_kafka_event_AlterConfigs_result(event), &count);
        for (std::size_t i = 0; i < count; ++i) {
          check(rd_kafka_ConfigResource_error(resources[i]), what);
        }
      });
}

void TempKafka::acl(const std::string& user, const std::string& topic, Rights rights,
                    bool allowed) {
  const std::string what = "ACL of " + user + " on " + topic;
  std::array<char, 512> error{};
  std::vector<rd_kafka_AclOperation_t> operations = {RD_KAFKA_ACL_OPERATION_WRITE,
                                                     RD_KAFKA_ACL_OPERATION_DESCRIBE};
  if (rights == Rights::all) operations.push_back(RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS);
  for (const auto operation : operations) {
    const std::string principal = "User:" + user;
    const auto make = allowed ? rd_kafka_AclBinding_new : rd_kafka_AclBindingFilter_new;
    rd_kafka_AclBinding_t* binding =
        make(RD_KAFKA_RESOURCE_TOPIC, topic.c_str(), RD_KAFKA_RESOURCE_PATTERN_LITERAL,
             principal.c_str(), "*", operation, RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, error.data(),
             error.size());
    if (binding == nullptr) throw std::runtime_error(what + ": " + error.data());
    ask(
        admin(), what,
        [&](rd_kafka_queue_t* queue) {
          (allowed ? rd_kafka_CreateAcls : rd_kafka_DeleteAcls)(admin(), &binding, 1, nullptr,
                                                                queue);
          rd_kafka_AclBinding_destroy(binding);
        },
        [](rd_kafka_event_t*) {});
  }
}

void TempKafka::allow(const std::string& user, const std::string& topic) {
  acl(user, topic, Rights::all, true);
}

void TempKafka::allow_writing(const std::string& user, const std::string& topic) {
  acl(user, topic, Rights::writing, true);
}

void TempKafka::forbid(const std::string& user, const std::string& topic) {
  acl(user, topic, Rights::all, false);
}

std::int64_t TempKafka::count(const std::string& topic) const {
  std::int64_t sum = 0;
  const int partitions = partitions_of(admin(), topic);
  for (int partition = 0; partition < partitions; ++partition) {
    std::int64_t low = 0;
    std::int64_t high = 0;
    // A new partition, or one of a broker that has just come back, has no leader at first.
    wait_until(
        [&] {
          return rd_kafka_query_watermark_offsets(admin(), topic.c_str(), partition, &low, &high,
                                                  kTimeoutMs) == RD_KAFKA_RESP_ERR_NO_ERROR;
        },
        "offsets of " + topic);
    sum += high - low;
  }
  return sum;
}

int TempKafka::brokers_up() const {
  const struct rd_kafka_metadata* metadata = nullptr;
  if (rd_kafka_metadata(admin(), 0, nullptr, &metadata, 200) != 0) return 0;
  const int count = metadata->broker_cnt;
  rd_kafka_metadata_destroy(metadata);
  return count;
}

std::vector<KafkaRecord> TempKafka::records(const std::string& topic) const {
  const Client consumer = new_client(RD_KAFKA_CONSUMER, brokers(),
                                     {{"group.id", "test"},
                                      {"fetch.wait.max.ms", "10"},
                                      {"enable.auto.commit", "false"},
                                      {"auto.offset.reset", "earliest"}});
  rd_kafka_poll_set_consumer(consumer.get());
  const std::int64_t expected = count(topic);
  const int partitions = partitions_of(consumer.get(), topic);
  rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(partitions);
  for (int partition = 0; partition < partitions; ++partition) {
    rd_kafka_topic_partition_list_add(list, topic.c_str(), partition)->offset =
        RD_KAFKA_OFFSET_BEGINNING;
  }
  check(rd_kafka_assign(consumer.get(), list), "assign " + topic);
  rd_kafka_topic_partition_list_destroy(list);
  std::map<std::int32_t, std::vector<KafkaRecord>> found;
  for (std::int64_t left = expected; left > 0;) {
    const std::unique_ptr<rd_kafka_message_t, void (*)(rd_kafka_message_t*)> message(
        rd_kafka_consumer_poll(consumer.get(), kTimeoutMs), rd_kafka_message_destroy);
    if (!message) throw std::runtime_error("not all can be read of " + topic);
    check(message->err, "read " + topic);
    found[message->partition].push_back(record_of(*message));
    --left;
  }
  std::vector<KafkaRecord> all;
  for (auto& [partition, records] : found) {
    all.insert(all.end(), std::make_move_iterator(records.begin()),
               std::make_move_iterator(records.end()));
  }
  return all;
}

}  // namespace outfall::test
