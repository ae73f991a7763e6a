// Goal: docs/operating/keys-and-certificates.md is right about Kafka: a worker keeps what it read
// at its start, check-config sees every mistake before a restart, and a mistake costs no entry.
#include <set>

#include "tests/integration/worker_fixture.h"
#include "tests/support/cache_folder.h"
#include "tests/support/temp_kafka.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

class KafkaRotationTest : public WorkerTest {
 protected:
  KafkaRotationTest() : broker_({.sasl = true, .tls = true}) { broker_.create_topic("orders"); }

  [[nodiscard]] std::string file(const std::string& name) const { return folder_ / name; }
  void copy(const std::string& from, const std::string& to) {
    (void)folder_.write(to, read_file(broker_.tls_file(from)));
  }

  WorkerProcess::Options options(const std::string& emitter) {
    return {.dsn = database_.dsn(),
            .streams =
                "[streams.orders]\nemitter = \"bus\"\n[emitters.bus]\nkind = \"kafka\"\n"
                "topic = \"orders\"\ndelivery_timeout = \"2s\"\n" +
                emitter};
  }

  // With `environment_`, as the workers of a test that sets it.
  Finished check(const WorkerProcess& worker) {
    return run({OUTFALL_BINARY, "check-config", "--connect", "--config",
                worker.file("outfall.toml").string()},
               {.environment = environment_}, std::chrono::minutes(1));
  }
  void expect_refused(const WorkerProcess& worker, int code, const std::string& words) {
    const Finished checked = check(worker);
    EXPECT_EQ(checked.status.code, code);
    EXPECT_THAT(checked.error_output, HasSubstr(words));
  }
  void deliver_one() {
    enqueue("orders", "ana");
    wait_until_empty("orders");
  }
  static void restart(WorkerProcess& worker) {
    EXPECT_EQ(worker.stop(), 0);
    worker.start();
  }

  // A second certificate of the same subject, with a key of its own.
  void issue(const std::string& name) {
    const auto openssl = [&](std::vector<std::string> arguments) {
      arguments.insert(arguments.begin(), "openssl");
      const Finished done = run(arguments, {.working_folder = folder_.path()});
      if (done.status.code != 0) throw std::runtime_error("openssl: " + done.error_output);
    };
    openssl({"req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=client", "-keyout",
             name + ".key", "-out", name + ".csr"});
    openssl({"x509", "-req", "-days", "2", "-in", name + ".csr", "-CA", broker_.tls_file("ca.pem"),
             "-CAkey", broker_.tls_file("ca.key"), "-set_serial", "77", "-out", name + ".pem"});
  }

  // Without the copies that a time-out on a busy machine makes.
  std::size_t entries_there() {
    std::set<std::string> ids;
    for (const KafkaRecord& record : broker_.records("orders")) ids.insert(record.header("ce_id"));
    return ids.size();
  }

  // A password that is changed for a wrong one and back.
  void expect_to_wait_for_the_right_password(const std::string& user, const std::string& mechanism);

  TempKafka broker_;
  TempFolder folder_;
  std::map<std::string, std::string> environment_;
};

void KafkaRotationTest::expect_to_wait_for_the_right_password(const std::string& user,
                                                              const std::string& mechanism) {
  broker_.allow(user, "orders");
  const std::size_t before = entries_there();
  (void)folder_.write("password", TempKafka::kPassword);
  WorkerProcess::Options wanted = options(
      "brokers = \"" + broker_.sasl_brokers() + "\"\nsasl.mechanism = \"" + mechanism +
      "\"\nsasl.username = \"" + user + "\"\nsasl.password_file = \"" + file("password") + "\"\n");
  wanted.environment = environment_;
  WorkerProcess worker(wanted);
  deliver_one();
  (void)folder_.write("password", "another");
  expect_refused(worker, 69, "SASL authentication error");
  deliver_one();
  restart(worker);
  enqueue("orders", "ana");
  worker.process().wait_for_output("breaker=open");
  EXPECT_EQ(live("orders"), 1);
  (void)folder_.write("password", TempKafka::kPassword);
  EXPECT_EQ(check(worker).status.code, 0);
  restart(worker);
  wait_until_empty("orders");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM dead_letters"), 0);
  EXPECT_EQ(entries_there(), before + 3);
}

TEST_F(KafkaRotationTest, AClientCertificateIsChangedByARestart) {
  copy("client.pem", "my.pem");
  copy("client.key", "my.key");
  WorkerProcess worker(options("brokers = \"" + broker_.tls_brokers() + "\"\ntls.enabled = true\n" +
                               "tls.ca_file = \"" + broker_.tls_file("ca.pem") +
                               "\"\ntls.certificate_file = \"" + file("my.pem") +
                               "\"\ntls.key_file = \"" + file("my.key") + "\"\n"));
  deliver_one();
  issue("new");
  (void)folder_.write("my.pem", read_file(file("new.pem")));
  expect_refused(worker, 78, "key values mismatch");
  // The worker has what it has read, also for a new connection.
  broker_.stop();
  broker_.start();
  deliver_one();
  (void)folder_.write("my.key", read_file(file("new.key")));
  EXPECT_EQ(check(worker).status.code, 0);
  restart(worker);
  deliver_one();
  (void)folder_.write("my.pem", "no certificate");
  expect_refused(worker, 78, "ssl.certificate.location failed");
  EXPECT_EQ(worker.stop(), 0);
  EXPECT_EQ(sql_.number("SELECT max(attempts) FROM delivered"), 1);
  EXPECT_EQ(broker_.count("orders"), 3);
}

TEST_F(KafkaRotationTest, AWrongPasswordMakesEntriesWaitAndCostsNoAttempt) {
  expect_to_wait_for_the_right_password("alice", "PLAIN");
}

// With a librdkafka that can, as one that an operator installs beside Debian's.
TEST_F(KafkaRotationTest, AWrongPasswordOfScramMakesEntriesWaitAndCostsNoAttempt) {
  const std::filesystem::path library = cache_folder() / "librdkafka-2.16";
  ASSERT_TRUE(std::filesystem::exists(library)) << "run ops/install-dependencies judges";
  environment_["LD_LIBRARY_PATH"] = library;
  for (const char* mechanism : {"SCRAM-SHA-256", "SCRAM-SHA-512"}) {
    SCOPED_TRACE(mechanism);
    expect_to_wait_for_the_right_password("carol", mechanism);
  }
}

}  // namespace
}  // namespace outfall::test
