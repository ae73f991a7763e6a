// Goal: the sample producers add an order and its two entries in one transaction, with the usual
// driver of their language and no more rights than a producer has. Method: each runs against a real
// database from which a real worker delivers; what was committed arrives at both sinks with its
// trace context, and nothing does of what was rolled back.

#include <gmock/gmock.h>

#include "tests/integration/worker_fixture.h"
#include "tests/support/cache_folder.h"
#include "tests/support/http_recorder.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::Contains;
using testing::SizeIs;

const std::string kSamples = OUTFALL_SOURCE_FOLDER "/samples/producers/";
// What a string that is put into SQL or JSON without care would break.
const std::string kCustomer = "O'Brien \"Łódź\"";
const std::string kTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const std::string kTracestate = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";

std::vector<std::string> java_program(const TempFolder& /*folder*/) {
  return {"java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar",
          kSamples + "java/Producer.java"};
}

std::vector<std::string> python_program(const TempFolder& /*folder*/) {
  return {"/usr/bin/python3", "-B", kSamples + "python/producer.py"};
}

// What ops/install-dependencies has fetched for a language.
std::filesystem::path fetched(const std::string& language) {
  const std::filesystem::path folder = cache_folder() / language;
  if (!std::filesystem::exists(folder)) {
    throw std::runtime_error(folder.string() +
                             " is missing: run ops/install-dependencies producers");
  }
  return folder;
}

// Built without the network.
std::vector<std::string> go_program(const TempFolder& folder) {
  const std::string program = (folder / "producer").string();
  const Finished built = run({"/usr/bin/go", "build", "-o", program, "."},
                             {.environment = {{"CGO_ENABLED", "0"},
                                              {"GOCACHE", cache_folder() / "go-build"},
                                              {"GOFLAGS", "-mod=readonly -buildvcs=false"},
                                              {"GOMODCACHE", fetched("go")},
                                              {"GOPROXY", "off"}},
                              .working_folder = kSamples + "go"},
                             std::chrono::minutes(4));
  if (built.status.code != 0) throw std::runtime_error("go build: " + built.error_output);
  return {program};
}

std::vector<std::string> node_program(const TempFolder& /*folder*/) {
  return {"env", "NODE_PATH=" + (fetched("node") / "node_modules").string(), "node",
          kSamples + "node/producer.js"};
}

struct Language {
  std::string name;
  std::vector<std::string> (*program)(const TempFolder& folder);
  std::string url_prefix;
  std::string fence;   // of its page
  std::string source;  // below samples/producers
};

void PrintTo(const Language& language, std::ostream* out) {
  *out << language.name;
}

class Producers : public WorkerTest, public testing::WithParamInterface<Language> {
 protected:
  Producers() {
    PgClient shop = database_.connect();
    shop.exec(read_file(kSamples + "shop.sql"));
    // Roles belong to the server, which the tests share.
    shop.exec(
        "DO $$ BEGIN CREATE ROLE shop LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        "GRANT outbox_producer TO shop;"
        "GRANT SELECT, UPDATE ON customers TO shop; GRANT SELECT, INSERT ON orders TO shop");
    shop.query("INSERT INTO customers (name) VALUES ($1)", {kCustomer});
  }

  [[nodiscard]] WorkerProcess::Options options() const {
    return {.dsn = database_.dsn(),
            .streams = to_file() +
                       "[streams.notifications]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = "
                       "\"webhook\"\nurl = \"" +
                       hooks_.url("/in") + "\"\n"};
  }

  // Places orders and returns the lines that the program wrote.
  std::vector<std::string> place(std::vector<std::string> command,
                                 const std::vector<std::string>& cents,
                                 const std::map<std::string, std::string>& trace) {
    command.push_back(GetParam().url_prefix + std::to_string(database_.server().port()) + "/" +
                      database_.name() + "?user=shop");
    command.push_back(kCustomer);
    command.insert(command.end(), cents.begin(), cents.end());
    ChildOptions child{.without_environment = {"TRACEPARENT", "TRACESTATE"}};
    child.environment = trace;
    const Finished finished = run(std::move(command), child, std::chrono::minutes(1));
    EXPECT_EQ(finished.status.code, 0) << finished.output << finished.error_output;
    std::istringstream in(finished.output);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }

  static boost::json::object order(int number, int cents) {
    return {{"customer", kCustomer}, {"number", number}, {"cents", cents}};
  }

  HttpRecorder hooks_;
  TempFolder folder_;
};

std::string attribute(const boost::json::object& event, const std::string& name) {
  return event.contains(name) ? std::string(event.at(name).as_string()) : "none";
}

TEST_P(Producers, EntriesAreDeliveredWithTheirTransactionAndNotWithoutIt) {
  const std::vector<std::string> program = GetParam().program(folder_);
  WorkerProcess worker(options());
  const std::vector<std::string> lines =
      place(program, {"4200", "999999", "100"},
            {{"TRACEPARENT", kTraceparent}, {"TRACESTATE", kTracestate}});
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[1], "order of 999999 cents refused");

  wait_until([&] { return delivered() >= 4; }, "both orders are delivered to both sinks");
  const std::vector<HttpRequest> sent = hooks_.requests();
  const std::vector<boost::json::object> events = worker.events("events");
  ASSERT_THAT(events, SizeIs(2));
  ASSERT_THAT(sent, SizeIs(2));
  const std::vector<boost::json::object> orders = {order(1, 4200), order(2, 100)};
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(attribute(events[i], "type"), "order.placed");
    EXPECT_EQ(attribute(events[i], "partitionkey"), kCustomer);
    EXPECT_EQ(attribute(events[i], "traceparent"), kTraceparent);
    EXPECT_EQ(attribute(events[i], "tracestate"), kTracestate);
    EXPECT_EQ(events[i].at("data"), boost::json::value(orders[i]));

    EXPECT_EQ(sent[i].header("ce-type"), "order.confirmed");
    EXPECT_EQ(sent[i].header("traceparent"), kTraceparent);
    EXPECT_EQ(sent[i].header("tracestate"), kTracestate);
    EXPECT_EQ(boost::json::parse(sent[i].body), boost::json::value(orders[i]));
    EXPECT_THAT(lines, Contains("order " + std::to_string(i + 1) + " placed, notification " +
                                sent[i].header("webhook-id").value_or("none")));
  }
  // The refused order had added its two entries: their ids are used up, and nothing else is left.
  EXPECT_EQ(sql_.number("SELECT last_value FROM entries_id_seq"), 6);
  EXPECT_EQ(sql_.query("SELECT number, cents FROM public.orders ORDER BY number"),
            (PgRows{{"1", "4200"}, {"2", "100"}}));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM all_entries WHERE status <> 'delivered'"), 0);

  // Without a trace there is none to hand on.
  place(program, {"1"}, {});
  EXPECT_EQ(hooks_.wait_for(3)[2].header("traceparent"), std::nullopt);
  wait_until([&] { return delivered() >= 6; }, "the order without a trace is delivered");
  const std::vector<boost::json::object> all = worker.events("events");
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_EQ(attribute(all[2], "traceparent"), "none");
  EXPECT_EQ(attribute(all[2], "tracestate"), "none");
  EXPECT_EQ(worker.stop(), 0);
}

class ProducerPages : public testing::TestWithParam<Language> {};

TEST_P(ProducerPages, ShowTheProgram) {
  const Language& language = GetParam();
  const std::string page =
      read_file(OUTFALL_SOURCE_FOLDER "/docs/start/producers-" + language.name + ".md");
  const std::string shown = "```" + language.fence + "\n" + read_file(kSamples + language.source);
  EXPECT_TRUE(page.find(shown + "```\n") != std::string::npos) << language.source;
}

const std::vector<Language> kLanguages = {
    {"java", java_program, "jdbc:postgresql://127.0.0.1:", "java", "java/Producer.java"},
    {"python", python_program, "postgresql://127.0.0.1:", "python", "python/producer.py"},
    {"go", go_program, "postgresql://127.0.0.1:", "go", "go/main.go"},
    {"node", node_program, "postgresql://127.0.0.1:", "js", "node/producer.js"}};

std::string name_of(const testing::TestParamInfo<Language>& language) {
  return language.param.name;
}

INSTANTIATE_TEST_SUITE_P(Languages, Producers, testing::ValuesIn(kLanguages), name_of);
INSTANTIATE_TEST_SUITE_P(Languages, ProducerPages, testing::ValuesIn(kLanguages), name_of);

}  // namespace
}  // namespace outfall::test
