#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/temp_folder.h"

using rd_kafka_t = struct rd_kafka_s;

namespace outfall::test {

class TempKafka;

struct KafkaOptions {
  // Lines of server.properties on top of the tests' defaults.
  std::map<std::string, std::string> settings = {};
  bool gate = false;  // one more listener, behind a TcpGate
  bool sasl = false;  // one with SASL/PLAIN and SCRAM; and ACLs, which bind only its users
  bool tls = false;   // one with TLS that wants a client certificate
  // Two more like it, with certificates that no client may take.
  bool wrong_tls = false;
  // Becomes node 2 of this one's cluster, which is node 1 and outlives it.
  const TempKafka* joins = nullptr;
};

// A record as a consumer sees it.
struct KafkaRecord {
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  std::int64_t timestamp_ms = 0;
  std::optional<std::string> key;
  std::optional<std::string> value;  // absent: a tombstone
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
  // The first header of that name; empty where there is none.
  [[nodiscard]] std::string header(const std::string& name) const;
};

// A private Kafka 4.1.1 of one node in a temporary folder, on free ports of 127.0.0.1, from the
// jars that `ops/install-dependencies kafka` fetched; or a second broker of such a cluster. Stopped
// and removed by the destructor, or by the reaper when the test crashes.
//
// The constructor and start() block until the broker answers (about four seconds, and half a
// gigabyte of memory: share one in a test binary) and throw with the broker's log when it does not.
// One thread at a time; addresses from any.
class TempKafka {
 public:
  static constexpr const char* kPassword = "correct-horse";  // of every SASL user

  explicit TempKafka(const KafkaOptions& options = {});
  ~TempKafka();
  TempKafka(const TempKafka&) = delete;
  TempKafka& operator=(const TempKafka&) = delete;

  [[nodiscard]] std::string brokers() const { return address(port_); }
  // Behind the gate, whose address the broker names to clients that came through it.
  [[nodiscard]] std::string gated_brokers() const { return address(gate_->port()); }
  [[nodiscard]] TcpGate& gate() { return *gate_; }
  // Users: "admin", who may do everything, and "alice", "bob" and "carol", who may do what allow()
  // says. "alice" may also log in by SCRAM-SHA-512, and "carol" by SCRAM only, of both kinds.
  [[nodiscard]] std::string sasl_brokers() const { return address(sasl_port_); }
  // The client certificate may do everything. By name, since librdkafka 2.0 verifies no addresses.
  // Files: "ca.pem", "client.pem",
  // "client.key", "stranger-ca.pem".
  [[nodiscard]] std::string tls_brokers() const { return "localhost:" + std::to_string(tls_port_); }
  // Of the same authority, for another name, and one whose time is over.
  [[nodiscard]] std::string misnamed_brokers() const {
    return "localhost:" + std::to_string(misnamed_port_);
  }
  [[nodiscard]] std::string expired_brokers() const {
    return "localhost:" + std::to_string(expired_port_);
  }
  [[nodiscard]] std::string tls_file(const std::string& name) const { return folder_ / name; }

  // Each partition is kept by the nodes `replicas`, of which the first leads; empty: by any one.
  void create_topic(const std::string& topic, int partitions = 4,
                    const std::map<std::string, std::string>& settings = {},
                    std::vector<std::int32_t> replicas = {});
  void delete_topic(const std::string& topic);
  // Adds partitions until there are so many.
  void grow_topic(const std::string& topic, int partitions);
  // Replaces the topic's settings.
  void set_topic(const std::string& topic, const std::map<std::string, std::string>& settings);
  // Whether `user` may write to the topic and describe it and its settings.
  void allow(const std::string& user, const std::string& topic);
  // The same without its settings.
  void allow_writing(const std::string& user, const std::string& topic);
  void forbid(const std::string& user, const std::string& topic);

  // Everything that the topic holds, by partition and offset.
  [[nodiscard]] std::vector<KafkaRecord> records(const std::string& topic) const;
  // How many records its partitions hold, without reading them.
  [[nodiscard]] std::int64_t count(const std::string& topic) const;
  // How many brokers the cluster has, but for those that it has given up.
  [[nodiscard]] int brokers_up() const;

  void start();  // on the same data and ports
  void kill();   // SIGKILL
  void stop();   // a clean shutdown
  void freeze() { server_->signal(SIGSTOP); }
  void thaw() { server_->signal(SIGCONT); }
  [[nodiscard]] pid_t pid() const noexcept { return server_ ? server_->pid() : 0; }
  [[nodiscard]] std::string log() const;
  [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_.path(); }

  // The jars, for tests that run Java against the broker: `-cp <this>`.
  [[nodiscard]] static std::string class_path();

 private:
  [[nodiscard]] static std::string address(int port) { return "127.0.0.1:" + std::to_string(port); }
  void join(const TempKafka& first);
  void add_sasl();
  void make_authorities();
  void make_certificate(const std::string& name, const std::string& alternatives,
                        const std::string& from = {});
  int add_tls_listener(const std::string& listener, const std::string& certificate);
  void add_tls();
  void add_wrong_tls();
  void write_settings();
  void format();
  [[nodiscard]] rd_kafka_t* admin() const;
  enum class Rights : std::uint8_t { all, writing };
  void acl(const std::string& user, const std::string& topic, Rights rights, bool allowed);

  TempFolder folder_;
  KafkaOptions options_;
  int port_;
  int controller_port_;
  int gated_port_ = 0;
  int sasl_port_ = 0;
  int tls_port_ = 0;
  int misnamed_port_ = 0;
  int expired_port_ = 0;
  std::unique_ptr<TcpGate> gate_;
  std::map<std::string, std::string> settings_;
  std::unique_ptr<ChildProcess> server_;
  mutable std::unique_ptr<rd_kafka_t, void (*)(rd_kafka_t*)> admin_;
};

}  // namespace outfall::test
