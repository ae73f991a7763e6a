// `outfall streams` and `outfall destinations`.

#include "tests/integration/operate_fixture.h"

namespace outfall::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using CliStreams = OperateTest;

TEST_F(CliStreams, ListShowsConfiguredAndRegisteredOnes) {
  Worker(database_.dsn()).session().register_streams(std::vector<std::string>{"mails"});
  const boost::json::value streams = done({"streams", "list"}).at("streams");
  EXPECT_EQ(streams, boost::json::parse(R"([
      {"stream": "mails", "configured": false, "registered": true, "paused": false,
       "paused_destinations": 0, "served": false},
      {"stream": "orders", "configured": true, "registered": false, "paused": false,
       "paused_destinations": 0, "served": false}])"));
  EXPECT_THAT(outfall({"streams", "list"}).output,
              AllOf(HasSubstr("STREAM  CONFIGURED  SERVED"), HasSubstr("orders  yes         no")));
}

TEST_F(CliStreams, APausedStreamIsNotClaimedUntilItIsResumed) {
  const EntryId id = enqueue("orders");
  Worker worker(database_.dsn());
  const boost::json::object record =
      done({"streams", "pause", "orders", "--actor", "anna", "--reason", "moving"});
  EXPECT_EQ(record.at("action"), "pause_stream");
  EXPECT_EQ(record.at("detail").at("was_paused"), false);
  EXPECT_TRUE(worker.claim("orders").entries.empty());
  const boost::json::value stream = done({"streams", "list"}).at("streams").at(0);
  EXPECT_EQ(stream.at("paused_by"), "anna");
  EXPECT_EQ(stream.at("paused_reason"), "moving");
  EXPECT_THAT(outfall({"streams", "pause", "orders", "--reason", "again"}).output,
              HasSubstr("stream orders was already paused\n"));

  EXPECT_EQ(outfall({"streams", "resume", "orders", "--reason", "moved"}).output,
            "stream orders is now running\n");
  EXPECT_THAT(worker.drain("orders"), ElementsAre(id));
}

TEST_F(CliStreams, AnUnknownStreamAndMissingArgumentsAreRefused) {
  enqueue("orders");
  done({"streams", "pause", "orders", "--reason", "x"});
  EXPECT_EQ(refused(69, {"streams", "pause", "order", "--reason", "x"}).at("hint"),
            "There are: orders.");
  refused(64, {"streams", "pause", "--reason", "x"});
  refused(64, {"streams", "resume", "orders"});
  refused(64, {"destinations", "pause", "orders", "--reason", "x"});
  refused(69, {"destinations", "pause", "nope", "lane", "--reason", "x"});
}

TEST_F(CliStreams, APausedDestinationHoldsItsLaneOnly) {
  const auto add = [&](const std::string& subject) {
    return sql_.number(
        "INSERT INTO entries (stream, type, subject) VALUES ('orders', 't', $1) "
        "RETURNING id",
        {subject});
  };
  const EntryId first = add("https://a.example/in");
  const EntryId second = add("https://b.example/in");
  Worker worker(database_.dsn());
  worker.lane = "subject";
  const Finished paused = outfall(
      {"destinations", "pause", "orders", "https://a.example/in", "--reason", "customer asked"});
  EXPECT_CODE(paused, 0);
  EXPECT_THAT(paused.output, HasSubstr("destination https://a.example/in of orders is now paused"));
  // This configuration selects no lanes; that of the workers may.
  EXPECT_THAT(paused.output, HasSubstr("\nnote: streams.orders.lane is not set here"));
  EXPECT_THAT(worker.drain("orders"), ElementsAre(second));
  EXPECT_EQ(sql_.value("SELECT status FROM entries WHERE id = $1", {std::to_string(first)}),
            "held");
  const boost::json::value listed = done({"destinations", "list"}).at("destinations");
  EXPECT_EQ(listed.at(0).at("lane"), "https://a.example/in");
  EXPECT_EQ(listed.at(0).at("paused_reason"), "customer asked");
  EXPECT_EQ(refused(69, {"destinations", "list", "--stream", "mails"}).at("message"),
            "no stream is named 'mails'");

  done({"destinations", "resume", "orders", "https://a.example/in", "--reason", "customer asked"});
  EXPECT_THAT(outfall({"destinations", "list"}).output,
              AllOf(StartsWith("no destination is paused\n"), HasSubstr("`outfall status` shows")));
  EXPECT_THAT(worker.drain("orders"), ElementsAre(first));
}

TEST_F(CliStreams, TheNamelessDestinationIsWrittenInQuotes) {
  enqueue("orders");
  configure(one_stream("lane = \"subject\"\n"));
  const Finished paused = outfall({"destinations", "pause", "orders", "", "--reason", "x"});
  EXPECT_CODE(paused, 0);
  EXPECT_THAT(paused.output, AllOf(StartsWith("destination '' of orders is now paused\n"),
                                   testing::Not(HasSubstr("note:"))));
  EXPECT_THAT(outfall({"destinations", "list"}).output,
              AllOf(HasSubstr("\norders  ''    20"),
                    HasSubstr("next: `outfall destinations resume orders '' --reason ...`\n")));
  EXPECT_TRUE(done({"destinations", "resume", "orders", "", "--reason", "x"}).contains("detail"));
  EXPECT_TRUE(
      done({"destinations", "list", "--stream", "orders"}).at("destinations").as_array().empty());
}

// A webhook whose URL is made of a header has lanes without `lane`.
TEST_F(CliStreams, LanesThatTheEmitterSelectsAreKnown) {
  enqueue("orders");
  configure(
      "[streams.orders]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = \"webhook\"\n"
      "url = \"https://{header.endpoint}/in\"\nallow_hosts = [\"*.example\"]\n");
  const Finished paused =
      outfall({"destinations", "pause", "orders", "a.example", "--reason", "x"});
  EXPECT_CODE(paused, 0);
  EXPECT_THAT(paused.output, AllOf(StartsWith("destination a.example of orders is now paused\n"),
                                   testing::Not(HasSubstr("note:"))));
}

// Whether it does is in the URL, which may be the worker's alone.
TEST_F(CliStreams, OfAnEmitterWhoseUrlCannotBeReadHereNoLanesAreDenied) {
  enqueue("orders");
  configure(
      "[streams.orders]\nemitter = \"hooks\"\n[emitters.hooks]\nkind = \"webhook\"\n"
      "url_file = \"/run/credentials/outfall.service/hooks\"\n");
  for (const std::string lane : {"a.example", "b.example"}) {
    const Finished paused = outfall({"destinations", "pause", "orders", lane, "--reason", "x"});
    EXPECT_CODE(paused, 0);
    EXPECT_THAT(paused.output, testing::Not(HasSubstr("note:")));
  }
  EXPECT_CODE(outfall({"streams", "pause", "orders", "--reason", "x"}), 0);
}

TEST_F(CliStreams, ADestinationThatIsNotPausedCannotBeResumed) {
  enqueue("orders");
  const auto resume = [&](const std::string& stream, const std::string& lane) {
    return refused(69, {"destinations", "resume", stream, lane, "--reason", "x"});
  };
  EXPECT_EQ(resume("orders", "nope").at("hint"), "None of its destinations is paused.");
  for (const std::string lane : {"acme", "globex"}) {
    done({"destinations", "pause", "orders", lane, "--reason", "x"});
  }
  EXPECT_EQ(resume("orders", "nope").at("message"), "no destination of orders is paused as 'nope'");
  EXPECT_EQ(resume("orders", "nope").at("hint"), "Paused are: acme, globex.");
  EXPECT_EQ(resume("order", "acme").at("message"), "no stream is named 'order'");
  EXPECT_EQ(resume("order", "acme").at("hint"), "There are: orders.");
  // Nothing was changed or recorded by that.
  EXPECT_EQ(done({"destinations", "list"}).at("destinations").as_array().size(), 2U);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations WHERE action = 'resume_destination'"), 0);
}

}  // namespace
}  // namespace outfall::test
