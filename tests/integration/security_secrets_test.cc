// Secrets stay inside: with one in every place where a configuration can have one, at the most
// talkative level, through failures of everything that has been given one, none is in a log, a
// metric, a status, an error that is stored, the output of a command or an argument of a process.

#include <algorithm>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "tests/integration/operate_fixture.h"
#include "tests/integration/security_http.h"
#include "tests/support/http_recorder.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kMarker = "s3cr3t";
// What lets one post to an endpoint.
constexpr const char* kHookPath = "/s3cr3t-path?for=s3cr3t-query";
// The key of a webhook's signature is base64, with another marker in it.
constexpr const char* kKey = "whsec_s3cr3tAAMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

std::string content(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The process and all that it has started.
std::vector<pid_t> with_children(pid_t pid) {
  std::vector<pid_t> all = {pid};
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) continue;
    if (content(entry.path() / "status").find(fmt::format("\nPPid:\t{}\n", pid)) ==
        std::string::npos) {
      continue;
    }
    const auto below = with_children(std::stoi(name));
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

class SecuritySecrets : public OperateTest, public testing::WithParamInterface<const char*> {
 protected:
  SecuritySecrets() {
    // An endpoint that tells everybody what it was sent, and takes nothing.
    hooks_.answer_by([](const HttpRequest& request) {
      const std::string sent = request.header("authorization").value_or("");
      return HttpAnswer{.status = request.header("ce-type") == "refused" ? 422 : 503,
                        .headers = {{"X-Request-Id", "Authorization: " + sent}},
                        .body = "{\"authorization\": \"" + sent + "\"}"};
    });
    folder_.write("proxy", "http://u:s3cr3t-proxy@127.0.0.1:" + std::to_string(free_port()));
    folder_.write("program", "#!/bin/sh\necho \"password=$PGPASS $DATABASE_URL\" >&2\nsleep 60\n");
    std::filesystem::permissions(folder_ / "program", std::filesystem::perms::owner_all);
  }

  // Everything that can hold a secret does.
  void write_configuration() {
    const std::string url = fmt::format("postgresql://postgres:s3cr3t-database@127.0.0.1:{}/{}",
                                        shared_postgres().port(), database_.name());
    configure_url(url, fmt::format(R"([log]
level = "trace"
format = "{}"
[streams.hooks]
emitter = "hooks"
[emitters.hooks]
kind = "webhook"
url = "{}"
secret = ["{}"]
headers = {{ Authorization = "Bearer s3cr3t-header" }}
request_id_header = "x-request-id"
[streams.proxied]
emitter = "proxied"
[emitters.proxied]
kind = "webhook"
url = "https://example.invalid/"
proxy_file = "proxy"
[streams.broker]
emitter = "broker"
[emitters.broker]
kind = "kafka"
brokers = "127.0.0.1:{}"
topic = "t"
sasl.mechanism = "PLAIN"
sasl.username = "u"
sasl.password = "s3cr3t-broker"
tls.enabled = true
tls.key_password = "s3cr3t-key"
librdkafka = {{ "debug" = "all", "sasl.oauthbearer.config" = "principal=s3cr3t-oauth" }}
[streams.program]
emitter = "program"
[emitters.program]
kind = "exec"
command = ["./program"]
timeout = "1s"
[emitters.program.environment]
PGPASS = "s3cr3t-program"
DATABASE_URL = "postgres://u:s3cr3t-url@h/d"
[streams.lanes]
emitter = "lanes"
[emitters.lanes]
kind = "webhook"
url = "{{header.endpoint}}"
allow_hosts = ["127.0.0.1:*"]
)",
                                   GetParam(), hooks_.url(kHookPath), kKey, free_port()));
  }

  void nothing_in(const std::string& what, const std::string& text) {
    SCOPED_TRACE(what);
    const std::size_t at = text.find(kMarker);
    EXPECT_EQ(at, std::string::npos)
        << text.substr(at > 300 ? at - 300 : 0, std::min<std::size_t>(600, text.size()));
  }

  void check_processes(const ChildProcess& worker) {
    for (const pid_t pid : with_children(worker.pid())) {
      nothing_in(fmt::format("the arguments of {}", pid),
                 content(fmt::format("/proc/{}/cmdline", pid)));
      if (pid == worker.pid()) continue;
      EXPECT_THAT(content(fmt::format("/proc/{}/environ", pid)), Not(HasSubstr("OUTFALL_")))
          << "a program gets nothing of the worker's";
    }
  }

  void check_database() {
    nothing_in(
        "stored errors",
        sql_.value("SELECT string_agg(concat(last_error_code, ' ', last_error_message), ' ') "
                   "FROM entries"));
    nothing_in("the dead letter",
               sql_.value("SELECT string_agg(d::text, ' ') FROM dead_letters d"));
    nothing_in("pg_stat_activity",
               sql_.value("SELECT coalesce(string_agg(application_name || ' ' || query, ' '), '') "
                          "FROM pg_stat_activity WHERE pid <> pg_backend_pid()"));
    nothing_in("the leases",
               sql_.value("SELECT coalesce(string_agg(l::text, ' '), '') FROM leases l"));
  }

  void check_commands() {
    for (const std::vector<std::string>& command : {std::vector<std::string>{"print-config"},
                                                    {"check-config"},
                                                    {"check-config", "--connect"},
                                                    {"status"},
                                                    {"entry", "show", envelope_of(1)},
                                                    {"dead-letters", "list"},
                                                    {"dead-letters", "export", "--stream", "hooks"},
                                                    {"destinations", "list"},
                                                    {"doctor"},
                                                    {"top", "--once"},
                                                    {"migrate", "--dry-run"},
                                                    {"migrate"}}) {
      for (const bool json : {false, true}) {
        std::vector<std::string> arguments = command;
        if (json) arguments.emplace_back("--json");
        const Finished finished = outfall(arguments, environment());
        EXPECT_NE(finished.status.code, 64) << command[0] << " " << finished.error_output;
        nothing_in("the output of " + command[0], finished.output + finished.error_output);
      }
    }
    EXPECT_THAT(outfall({"dead-letters", "export", "--stream", "hooks"}, environment()).output,
                HasSubstr("refused"))
        << "there is something to export";
    EXPECT_THAT(outfall({"top", "--once"}, environment()).output, HasSubstr("hooks"));
  }

  // What a secret is part of is not hidden with it.
  void check_what_is_shown() {
    const std::string printed = outfall({"print-config"}, environment()).output;
    EXPECT_THAT(printed, HasSubstr("url = \"" + hooks_.url("/") + "…\""));
    EXPECT_THAT(printed, HasSubstr("url = \"{header.endpoint}\""));
    EXPECT_THAT(printed, HasSubstr("{DATABASE_URL = \"***\", PGPASS = \"***\"}"));
    EXPECT_THAT(printed, HasSubstr("{debug = \"all\", \"sasl.oauthbearer.config\" = \"***\"}"));
  }

  // Without a token: a lane that is a URL by its origin alone.
  void check_lanes(const std::string& url) {
    const std::string shown = fmt::format("\"http://127.0.0.1:{}/…\"", nobody_);
    wait_until([&] { return body_at(url + "/status").find(shown) != std::string::npos; },
               "the breaker of a lane is open");
    for (const char* command : {"status", "doctor"}) {
      EXPECT_THAT(outfall({command}, environment()).output,
                  HasSubstr(fmt::format("http://127.0.0.1:{}/…", nobody_)))
          << command;
    }
  }

  void enqueue_lane() {
    sql_.query(
        "INSERT INTO entries (stream, type, headers, payload) VALUES ('lanes', 't', $1, '{}')",
        {fmt::format(R"({{"endpoint": "http://127.0.0.1:{}/s3cr3t-lane?a=s3cr3t"}})", nobody_)});
  }

  [[nodiscard]] std::map<std::string, std::string> environment() const {
    return {{"OUTFALL_ADMIN__TOKEN", "s3cr3t-admin-token"},
            {"OUTFALL_ADMIN__LISTEN", "127.0.0.1:" + std::to_string(port_)}};
  }

  HttpRecorder hooks_;
  const int port_ = free_port();
  const int nobody_ = free_port();  // where a lane leads
};

TEST_P(SecuritySecrets, StayInside) {
  write_configuration();
  for (const char* stream : {"hooks", "proxied", "broker", "program"}) enqueue(stream, "k");
  sql_.exec("INSERT INTO entries (stream, type, payload) VALUES ('hooks', 'refused', '{}')");
  enqueue_lane();
  ChildProcess worker({OUTFALL_BINARY, "run"},
                      {.environment = environment(), .working_folder = folder_.path()});
  worker.wait_for_output("started");
  wait_until([&] { return hooks_.count() >= 1; }, "the endpoint was called");
  EXPECT_EQ(hooks_.requests().front().header("authorization"), "Bearer s3cr3t-header")
      << "what is looked for is there";
  EXPECT_EQ(hooks_.requests().front().target, kHookPath);
  wait_until(
      [&] {
        return sql_.number("SELECT count(*) FROM entries WHERE last_error_message IS NOT NULL") >=
               2;
      },
      "failures are stored");
  wait_until([&] { return sql_.number("SELECT count(*) FROM dead_letters") == 1; },
             "one has failed for good");
  wait_until([&] { return worker.error_output().find("password=***") != std::string::npos; },
             "the program has spoken");
  const std::string url = "http://127.0.0.1:" + std::to_string(port_);
  check_lanes(url);
  check_processes(worker);
  check_database();
  check_commands();
  check_what_is_shown();
  for (const char* path :
       {"/metrics", "/status", "/livez", "/readyz", "/openapi.json", "/v1/status", "/nothing"}) {
    nothing_in(path, body_at(url + path));
  }

  // A reload says what has changed, and not to what.
  const std::string configured = content(folder_ / "outfall.toml");
  std::string changed = configured;
  changed.replace(changed.find("s3cr3t-header"), 13, "s3cr3t-other!");
  changed.replace(changed.find("s3cr3t-path"), 11, "s3cr3t-away");
  folder_.write("outfall.toml", changed);
  worker.signal(SIGHUP);
  worker.wait_for_output("configuration reloaded");
  // And a mistake in it is told without its text.
  folder_.write("outfall.toml", configured + "\npassword = s3cr3t-typo\n");
  worker.signal(SIGHUP);
  worker.wait_for_output("configuration not reloaded");
  worker.signal(SIGTERM);
  worker.wait();
  nothing_in("the log", worker.error_output());
  nothing_in("the output", worker.output());
}

INSTANTIATE_TEST_SUITE_P(Formats, SecuritySecrets, testing::Values("text", "json"),
                         [](const auto& format) { return std::string(format.param); });

}  // namespace
}  // namespace outfall::test
