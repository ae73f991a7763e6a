// SQL injection by settings: whatever the configuration holds that reaches the database is data, or
// is refused before.
//
// These do: database.url (its user and its database), database.schema, worker.instance, the names
// of streams, a stream's lane, which is an emitter's where it is made of a webhook's url or a Kafka
// topic, what an emitter's error quotes of its settings, and OUTFALL_ACTOR.

#include <fmt/format.h>

#include "tests/integration/security_injection.h"
#include "tests/support/http_recorder.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// As a string of TOML.
std::string quoted(const std::string& value) {
  return boost::json::serialize(boost::json::string(value));
}

class SecuritySettings : public SecurityInjection {
 protected:
  // The connection string, which is in the configuration now.
  std::string connect_as(const std::string& user, const std::string& database) {
    const auto value = [](const std::string& text) {
      std::string escaped = "'";
      for (const char c : text) {
        if (c == '\'' || c == '\\') escaped += '\\';
        escaped += c;
      }
      return escaped + "'";
    };
    const std::string url = fmt::format("host=127.0.0.1 port={} dbname={} user={}",
                                        shared_postgres().port(), value(database), value(user));
    const std::string in_toml = quoted(url);
    configure_url(in_toml.substr(1, in_toml.size() - 2), one_stream());
    return url;
  }
};

TEST_F(SecuritySettings, NamesInTheConfigurationAreNames) {
  const std::string before = inventory();
  for (const std::string& text : kTexts) {
    EXPECT_EQ(outfall({"migrate"}, {{"OUTFALL_DATABASE__SCHEMA", text}}).status.code, 78) << text;
  }
  // Taken as they are: an instance's name, and a header that names the lane.
  for (const std::string& text : {kTexts[0], kTexts[6]}) {
    configure("shutdown_timeout = \"0s\"\n[worker]\ninstance = " + quoted(text) +
              "\n[streams.orders]\nemitter = \"slow\"\nlane = " + quoted("header.X " + text) +
              "\n[emitters.slow]\nkind = \"noop\"\nlatency = \"1h\"\n");
    const EntryId id = add(text);
    const auto worker = run_worker();
    wait_until(
        [&] {
          return sql_.number(
                     "SELECT count(*) FROM leases WHERE instance = $1 AND ids @> $2::bigint",
                     {text, std::to_string(id)}) == 1;
        },
        "it is in delivery");
    worker->signal(SIGTERM);
    worker->wait();
  }
  EXPECT_EQ(inventory(), before);
}

// Words of SQL are names of schemas like any other.
TEST_F(SecuritySettings, ASchemaMayBeCalledAsSqlIs) {
  for (const std::string schema : {"select", "_"}) {
    folder_.write("outfall.toml", "[admin]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"" +
                                      database_.dsn() + "\"\nschema = \"" + schema + "\"\n" +
                                      one_stream());
    EXPECT_CODE(outfall({"migrate"}), 0);
    const auto worker = run_worker();
    sql_.query("SELECT \"" + schema + "\".enqueue('orders', $1, '1')", {"in." + schema});
    wait_until(
        [&] {
          return delivered("type") != std::vector<std::string>{} &&
                 delivered("type").back() == "in." + schema;
        },
        "it is delivered");
    EXPECT_EQ(text_of(done({"status"}), "schema"), schema);
    worker->kill();
  }
}

// Names have a form, and what must name something else does not otherwise reach anything.
TEST_F(SecuritySettings, WhatIsNoNameInTheConfigurationIsRefused) {
  for (const std::string& text : kTexts) {
    SCOPED_TRACE(text);
    const std::string name = quoted(text);
    for (const std::string& more :
         {"[streams." + name + "]\nemitter = \"out\"\n[emitters.out]\nkind = \"noop\"\n",
          "[streams.s]\nemitter = " + name + "\n[emitters.out]\nkind = \"noop\"\n",
          "[streams.s]\nemitter = " + name + "\n[emitters." + name + "]\nkind = \"noop\"\n",
          "[streams.s]\nemitter = \"out\"\n[emitters.out]\nkind = " + name + "\n",
          "[streams.s]\nemitter = \"out\"\nlane = " + name +
              "\n[emitters.out]\nkind = \"noop\"\n"}) {
      configure(more);
      EXPECT_CODE(outfall({"check-config"}), 78) << more;
    }
  }
}

// The lane of such a stream is the header that the URL is made of.
TEST_F(SecuritySettings, AHeaderThatAWebhooksUrlNamesIsAName) {
  const std::string before = inventory();
  HttpRecorder server;
  server.answer_always({.status = 410});
  for (const std::string& text : {kTexts[0], kTexts[1], kTexts[3], kTexts[5]}) {
    SCOPED_TRACE(text);
    configure(
        "[streams.orders]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = \"webhook\"\n"
        "url = " +
        quoted(server.url("/{header.X " + text + "}")) + "\n");
    add(text);
    const auto worker = run_worker();
    wait_until(
        [&] {
          return sql_.number("SELECT count(*) FROM destinations WHERE lane = $1", {text}) == 1;
        },
        "its destination is parked");
    worker->signal(SIGTERM);
    worker->wait();
  }
  EXPECT_EQ(inventory(), before);
}

// What cannot be delivered for want of a header says of which, and what cannot be started says
// what.
TEST_F(SecuritySettings, ErrorsThatQuoteSettingsAreStoredAsTheyAre) {
  const std::string before = inventory();
  std::string more;
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    const std::string program = "program-" + std::to_string(i);
    const std::string broker = "broker-" + std::to_string(i);
    more += fmt::format(
        "[streams.{0}]\nemitter = \"{0}\"\n[emitters.{0}]\nkind = \"exec\"\n"
        "command = [{1}]\n",
        program, quoted("./no such program " + kTexts[i]));
    enqueue(program, "k");
    if (kTexts[i].find_first_of("{}") != std::string::npos) continue;
    more += fmt::format(
        "[streams.{0}]\nemitter = \"{0}\"\n[emitters.{0}]\nkind = \"kafka\"\n"
        "brokers = \"127.0.0.1:{1}\"\ntopic = {2}\n",
        broker, free_port(), quoted("{header." + kTexts[i] + "}"));
    enqueue(broker, "k");
  }
  configure(more);
  const auto worker = run_worker();
  const auto told = [&](const std::string& stream, const std::string& text) {
    return sql_.number(
               "SELECT count(*) FROM (SELECT stream, last_error_message FROM entries UNION ALL "
               "SELECT stream, reason FROM dead_letters) e WHERE stream = $1 AND "
               "strpos(last_error_message, $2) > 0",
               {stream, text}) == 1;
  };
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    SCOPED_TRACE(kTexts[i]);
    const std::string number = std::to_string(i);
    wait_until([&] { return told("program-" + number, kTexts[i]); }, "the program's error");
    if (kTexts[i].find_first_of("{}") != std::string::npos) continue;
    wait_until([&] { return told("broker-" + number, kTexts[i]); }, "the record's error");
  }
  worker->signal(SIGTERM);
  worker->wait();
  EXPECT_EQ(inventory(), before);
}

// A worker and an operator that log in by such a name; and what it may not do is told with the name
// as SQL quotes it, to be pasted.
TEST_F(SecuritySettings, TheUserOfTheDatabasesUrlIsAName) {
  const std::string before = inventory();
  for (const std::string& text : {kTexts[0], kTexts[1], kTexts[3], kTexts[5]}) {
    SCOPED_TRACE(text);
    const std::string role = sql_.value("SELECT quote_ident($1)", {text});
    sql_.exec("CREATE ROLE " + role + " LOGIN");
    connect_as(text, database_.name());
    EXPECT_THAT(outfall({"doctor"}).output, HasSubstr("TO " + role));
    sql_.exec("GRANT outbox_worker, outbox_operator TO " + role);
    const std::size_t so_far = delivered("type").size();
    add(text);
    const auto worker = run_worker();
    wait_until([&] { return delivered("type").size() == so_far + 1; }, "it is delivered");
    done({"streams", "pause", "orders", "--reason", "x", "--actor", "x"});
    done({"streams", "resume", "orders", "--reason", "x", "--actor", "x"});
    EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE database_user = $1", {text}), 2);
    worker->signal(SIGTERM);
    worker->wait();
    sql_.exec("DROP ROLE " + role);
  }
  EXPECT_EQ(inventory(), before);
}

TEST_F(SecuritySettings, TheDatabaseOfTheUrlIsAName) {
  const std::string before = inventory();
  for (const std::string& text : {kTexts[0], kTexts[1], kTexts[3]}) {
    SCOPED_TRACE(text);
    const std::string name = sql_.value("SELECT quote_ident($1)", {text});
    sql_.exec("CREATE DATABASE " + name + " TEMPLATE " + migrated_template());
    PgClient other(connect_as("postgres", text));
    other.query("SELECT outbox.enqueue('orders', $1, '1')", {text});
    const std::size_t so_far = delivered("type").size();
    const auto worker = run_worker();
    wait_until([&] { return delivered("type").size() == so_far + 1; }, "it is delivered");
    EXPECT_EQ(done({"migrate"}).at("steps").as_array().size(), 0U);
    const Finished doctor = outfall({"doctor"});
    EXPECT_THAT(doctor.output + doctor.error_output, Not(HasSubstr("SQLSTATE")));
    worker->signal(SIGTERM);
    worker->wait();
    sql_.exec("DROP DATABASE " + name + " WITH (FORCE)");
  }
  EXPECT_EQ(inventory(), before);
}

TEST_F(SecuritySettings, TheActorOfTheEnvironmentIsData) {
  const std::string before = inventory();
  enqueue("orders", "k");
  for (const std::string& text : kFewTexts) {
    EXPECT_CODE(outfall({"destinations", "pause", "orders", "a", "--reason", "x"},
                        {{"OUTFALL_ACTOR", text}}),
                0);
    EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE actor = $1", {text}), 1);
    done({"destinations", "resume", "orders", "a", "--reason", "x", "--actor", "x"});
  }
  EXPECT_EQ(inventory(), before);
}

}  // namespace
}  // namespace outfall::test
