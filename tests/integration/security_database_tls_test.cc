// TLS to the database that is not what database.url asks for: nothing is claimed, nothing is
// delivered, and whoever reads the error learns which setting asks for it.
#include <unistd.h>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/integration/security_http.h"
#include "tests/support/test_authority.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

class SecurityDatabaseTls : public OperateTest {
 protected:
  SecurityDatabaseTls() { enqueue("orders", "k"); }
  ~SecurityDatabaseTls() override {
    shared_postgres().set("ssl", "");
    shared_postgres().reload();
  }

  // From now on the server speaks TLS, too, and shows this certificate.
  static void serve(const TestAuthority::Pair& pair) {
    TempPostgres& server = shared_postgres();
    const auto owner = account_for_child("postgres");
    const std::filesystem::path data = server.folder() / "data";
    const auto copy = [&](const std::filesystem::path& from, const char* name) {
      const std::filesystem::path file = data / name;
      std::filesystem::copy_file(from, file, std::filesystem::copy_options::overwrite_existing);
      std::filesystem::permissions(file, std::filesystem::perms(0600));
      if (!owner) return;
      EXPECT_EQ(::chown(file.c_str(), owner->user, owner->group), 0);
    };
    copy(pair.certificate, "server.crt");
    copy(pair.key, "server.key");
    server.set("ssl", "on");
    server.reload();
  }

  void ask_for(const std::string& tls) {
    configure_url(fmt::format("host=127.0.0.1 port={} dbname={} user=postgres {}",
                              shared_postgres().port(), database_.name(), tls),
                  one_stream());
  }
  [[nodiscard]] std::string verified_by(const TestAuthority& authority) const {
    return "sslmode=verify-full sslrootcert=" + authority.certificate().string();
  }

  [[nodiscard]] std::int64_t sessions() {
    return sql_.number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'outfall%' "
        "AND datname = current_database()");
  }
  [[nodiscard]] static double refused_connections(const ChildProcess& worker) {
    const std::string metrics = body_at(admin_url(worker) + "/metrics");
    const std::string series = "\noutfall_database_errors_total{kind=\"connect\"} ";
    const std::size_t at = metrics.find(series);
    return at == std::string::npos ? 0 : std::stod(metrics.substr(at + series.size()));
  }

  // `words` are libpq's.
  void expect_refused(const std::string& words) {
    const auto named = AllOf(HasSubstr(words), HasSubstr("database.url"));
    for (const std::vector<std::string>& command : {std::vector<std::string>{"migrate"},
                                                    {"check-config", "--connect"},
                                                    {"doctor"},
                                                    {"status"},
                                                    {"dead-letters", "list"}}) {
      const Finished finished = outfall(command);
      EXPECT_NE(finished.status.code, 0) << command[0];
      EXPECT_THAT(finished.output + finished.error_output, named) << command[0];
    }
    const auto worker = run_worker();
    wait_until([&] { return refused_connections(*worker) >= 3; }, "it tries again");
    EXPECT_THAT(worker->error_output(), named);
    EXPECT_EQ(sessions(), 0);
    EXPECT_EQ(sql_.number("SELECT count(*) FROM leases"), 0);
    EXPECT_EQ(sql_.query("SELECT status, attempts FROM entries"), (PgRows{{"pending", "0"}}));
    EXPECT_THAT(delivered("type"), SizeIs(0));
    worker->signal(SIGTERM);
    worker->wait();
  }

  // All was right but for what was refused before.
  void expect_delivered() {
    const auto worker = run_worker();
    wait_until([&] { return delivered("type").size() == 1; }, "it is delivered");
    EXPECT_GT(sessions(), 0);
    EXPECT_EQ(sql_.number("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                          "WHERE application_name LIKE 'outfall%' AND "
                          "datname = current_database() AND NOT ssl"),
              0);
    worker->signal(SIGTERM);
    worker->wait();
  }

  const TestAuthority authority_;
};

TEST_F(SecurityDatabaseTls, AServerWithAnotherNameGetsNoQuery) {
  serve(authority_.issue("other", "DNS:other.example"));
  ask_for(verified_by(authority_));
  expect_refused("does not match host name");
  serve(authority_.issue("server"));
  expect_delivered();
}

TEST_F(SecurityDatabaseTls, AServerOfAnUnknownAuthorityGetsNoQuery) {
  const TestAuthority stranger("stranger");
  serve(stranger.issue("server"));
  ask_for(verified_by(authority_));
  expect_refused("certificate verify failed");
  ask_for(verified_by(stranger));
  expect_delivered();
}

TEST_F(SecurityDatabaseTls, AServerWhoseCertificateHasExpiredGetsNoQuery) {
  serve(authority_.issue("late", "IP:127.0.0.1,DNS:localhost", "10 days ago"));
  ask_for(verified_by(authority_));
  expect_refused("certificate verify failed");
  serve(authority_.issue("server"));
  expect_delivered();
}

TEST_F(SecurityDatabaseTls, AServerWithoutTlsGetsNoQueryWhereItIsRequired) {
  ask_for("sslmode=require");
  expect_refused("SSL was required");
  serve(authority_.issue("server"));
  expect_delivered();
}

}  // namespace
}  // namespace outfall::test
