// How a request line finds its route, what its fields may be, what the bearer token lets through
// and how often, and how a table of routes is described.

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/admin/bearer_token.h"
#include "daemon/admin/fields.h"
#include "daemon/admin/openapi.h"
#include "daemon/admin/route.h"
#include "daemon/admin/standard_routes.h"
#include "daemon/admin/wrong_tokens.h"

namespace outfall {
namespace {

using Kind = RouteTable::Match::Kind;
using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

Route row(std::string method, std::string pattern) {
  return {.method = std::move(method),
          .pattern = std::move(pattern),
          .summary = "A row.",
          .handler = [](const Request&) { return Response{}; }};
}

RouteTable table() {
  return RouteTable({row("GET", "/streams"), row("GET", "/streams/{stream}"),
                     row("POST", "/streams/{stream}/pause"), row("DELETE", "/streams/{stream}"),
                     row("GET", "/")});
}

TEST(AdminRoute, TheReferenceNamesEveryRoute) {
  std::ostringstream page;
  page << std::ifstream(OUTFALL_SOURCE_FOLDER "/docs/reference/http.md").rdbuf();
  for (const Route& route : standard_routes({})) {
    const std::string words = "| `" + route.method + " " + route.pattern + "` | " + route.summary;
    EXPECT_THAT(page.str(), testing::HasSubstr(words));
  }
}

TEST(AdminRoute, MatchesLiteralsAndParameters) {
  const RouteTable routes = table();
  EXPECT_EQ(routes.match("GET", "/streams").route->pattern, "/streams");
  EXPECT_EQ(routes.match("GET", "/").route->pattern, "/");
  const auto match = routes.match("POST", "/streams/orders/pause");
  ASSERT_EQ(match.kind, Kind::found);
  EXPECT_EQ(match.route->pattern, "/streams/{stream}/pause");
  EXPECT_THAT(match.params, ElementsAre(Pair("stream", "orders")));
  EXPECT_EQ(routes.match("DELETE", "/streams/orders").route->method, "DELETE");
}

TEST(AdminRoute, ParametersAreDecodedAfterTheSplit) {
  const auto match = table().match("GET", "/streams/a%2Fb%20%c3%bc+c");
  ASSERT_EQ(match.kind, Kind::found);
  EXPECT_THAT(match.params, ElementsAre(Pair("stream", "a/b ü+c")));
  EXPECT_EQ(match.path, "/streams/a%2Fb%20%c3%bc+c");
}

TEST(AdminRoute, QueryIsDecoded) {
  const auto match = table().match("GET", "/streams?a=1+2&b=%26%3D&flag&&c=x=y");
  ASSERT_EQ(match.kind, Kind::found);
  EXPECT_EQ(match.path, "/streams");
  EXPECT_THAT(match.query, UnorderedElementsAre(Pair("a", "1 2"), Pair("b", "&="), Pair("flag", ""),
                                                Pair("c", "x=y")));
}

TEST(AdminRoute, NothingElseMatches) {
  const RouteTable routes = table();
  for (const char* target : {"/stream", "/streams/", "/streams/a/b", "//streams", "/streams//pause",
                             "streams", "", "*", "/streams/a/pause/", "/STREAMS"}) {
    EXPECT_EQ(routes.match("GET", target).kind, Kind::not_found) << target;
  }
}

TEST(AdminRoute, WrongMethodNamesTheRightOnes) {
  const auto match = table().match("PUT", "/streams/orders");
  EXPECT_EQ(match.kind, Kind::wrong_method);
  EXPECT_THAT(match.allowed, UnorderedElementsAre("GET", "HEAD", "DELETE"));
  EXPECT_THAT(table().match("get", "/streams").allowed, UnorderedElementsAre("GET", "HEAD"));
}

TEST(AdminRoute, HeadIsServedByGet) {
  EXPECT_EQ(table().match("HEAD", "/streams").route->method, "GET");
  EXPECT_EQ(table().match("HEAD", "/streams/a/pause").kind, Kind::wrong_method);
}

TEST(AdminRoute, WholeUrlIsAPathToo) {
  EXPECT_EQ(table().match("GET", "http://localhost:9464/streams?x=1").kind, Kind::found);
  EXPECT_EQ(table().match("GET", "http://localhost").route->pattern, "/");
}

TEST(AdminRoute, MalformedTargetsAreRefused) {
  for (const char* target :
       {"/streams/%", "/streams/%4", "/streams/%zz", "/streams/%00", "/streams/a%0Ab",
        "/streams?a=%", "/streams?a=1&a=2", "/streams?%01"}) {
    EXPECT_EQ(table().match("GET", target).kind, Kind::malformed) << target;
  }
}

TEST(AdminRoute, DefectiveTablesAreRefused) {
  for (const char* pattern :
       {"streams", "", "/a{b}", "/{}", "/{a", "/a}", "/{a}{b}", "/{a}b", "/a?b"}) {
    EXPECT_THROW(RouteTable({row("GET", pattern)}), std::logic_error) << pattern;
  }
  EXPECT_THROW(RouteTable({row("GET", "/a/{x}"), row("GET", "/a/b")}), std::logic_error);
  EXPECT_THROW(RouteTable({row("GET", "/a/{x}"), row("GET", "/a/{y}")}), std::logic_error);
  EXPECT_NO_THROW(RouteTable({row("GET", "/a/{x}"), row("POST", "/a/{x}"), row("GET", "/a")}));
  Route without_handler = row("GET", "/a");
  without_handler.handler = nullptr;
  EXPECT_THROW(RouteTable({without_handler}), std::logic_error);
}

TEST(AdminRoute, ErrorsAreEscapedJson) {
  const Response response = error_response(418, "teapot", "a \"pot\"\n", "coffee");
  EXPECT_EQ(response.status, 418);
  EXPECT_EQ(response.content_type, "application/json");
  EXPECT_EQ(response.body,
            "{\"error\":\"teapot\",\"message\":\"a \\\"pot\\\"\\n\",\"hint\":\"coffee\"}\n");
}

TEST(AdminBearerToken, AllowsOnlyTheWholeToken) {
  const BearerToken token("s3cret");
  EXPECT_TRUE(token.allows("Bearer s3cret"));
  EXPECT_TRUE(token.allows("bearer s3cret"));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Bearer S3cret", "Basic s3cret",
        "s3cret", "Bearer  s3cret", "Bearer s3cret "}) {
    EXPECT_FALSE(token.allows(wrong)) << wrong;
  }
}

TEST(AdminBearerToken, EmptyTokenAllowsNothing) {
  const BearerToken token("");
  EXPECT_FALSE(token.is_set());
  EXPECT_FALSE(token.allows("Bearer "));
  EXPECT_FALSE(token.allows(""));
}

using In = RouteField::In;
using Type = RouteField::Type;

const std::vector<RouteField>& some_fields() {
  static const std::vector<RouteField> fields = {
      {.in = In::path, .type = Type::integer, .name = "job", .required = true, .least = 1},
      {.in = In::query, .type = Type::integers, .name = "ids", .summary = "Entry ids."},
      {.in = In::query, .type = Type::flag, .name = "all"},
      {.in = In::query, .type = Type::number, .name = "rate"},
      {.in = In::body, .name = "reason", .summary = "Why.", .required = true},
      {.in = In::body, .name = "state", .choices = {"on", "off"}},
      {.in = In::body, .type = Type::integer, .name = "limit", .least = 1, .most = 9},
      {.in = In::body, .type = Type::texts, .name = "names"}};
  return fields;
}

// What is read, as JSON, or "status code: message".
std::string read(const std::string& body, Request request = {}) {
  if (request.params.empty()) request.params["job"] = "7";
  if (request.content_type.empty()) request.content_type = "application/json; charset=utf-8";
  request.body = body;
  const auto said = read_fields(some_fields(), request);
  if (const auto* refused = std::get_if<Response>(&said)) {
    const boost::json::value error = boost::json::parse(refused->body);
    return std::to_string(refused->status) + " " + std::string(error.at("error").as_string()) +
           ": " + std::string(error.at("message").as_string());
  }
  return boost::json::serialize(std::get<boost::json::object>(said));
}

TEST(AdminFields, AreReadFromPathQueryAndBody) {
  Request request;
  request.params = {{"job", "12"}};
  request.query = {{"ids", "3,4"}, {"all", "true"}, {"rate", "0.5"}};
  request.content_type = "Application/JSON";
  const std::string whole =
      read(R"({"reason":"x","state":"on","limit":9,"names":["a",""],"other":null})", request);
  EXPECT_EQ(whole, "400 bad_field: other is not known here");
  const boost::json::value said = boost::json::parse(
      read(R"({"reason":"x","state":"on","limit":9,"names":["a",""]})", request));
  EXPECT_EQ(boost::json::serialize(said.at("ids")), "[3,4]");
  EXPECT_EQ(said.at("job"), 12);
  EXPECT_EQ(said.at("all"), true);
  EXPECT_EQ(said.at("rate"), 0.5);
  EXPECT_EQ(boost::json::serialize(said.at("names")), R"(["a",""])");
  EXPECT_EQ(read(R"({"reason":"x"})"), R"({"job":7,"reason":"x"})");
}

TEST(AdminFields, WhatIsWrongIsNamed) {
  EXPECT_EQ(read("{}"), "400 bad_field: reason is missing");
  EXPECT_EQ(read(R"({"reason":" "})"), "400 bad_field: reason is blank");
  // As filters both would name nothing, and so take everything.
  EXPECT_EQ(read(R"({"reason":"x","limit":null})"),
            "400 bad_field: limit is null; leave it out or say it");
  EXPECT_EQ(read(R"({"reason":"x","names":[]})"),
            "400 bad_field: names is empty; leave it out or name some");
  EXPECT_EQ(read(R"({"reason":1})"), "400 bad_field: reason must be a string");
  EXPECT_EQ(read(R"({"reason":"a\u0000"})"), "400 bad_field: reason must be UTF-8 without NUL");
  EXPECT_EQ(read(R"({"reason":"x","state":"no"})"), "400 bad_field: state must be one of on, off");
  for (const char* limit : {"1.0", "\"1\"", "1e99", "9223372036854775808", "[1]"}) {
    EXPECT_EQ(read(std::string(R"({"reason":"x","limit":)") + limit + "}"),
              "400 bad_field: limit must be a whole number");
  }
  EXPECT_EQ(read(R"({"reason":"x","limit":0})"),
            "400 bad_field: limit must be at least 1 and at most 9");
  EXPECT_EQ(read(R"({"reason":"x","names":["a",1]})"),
            "400 bad_field: names must be a list of strings");
  EXPECT_EQ(read(R"({"reason":"x","job":1})"), "400 bad_field: job is not known here");
  Request query;
  query.query = {{"ids", "1,,2"}};
  EXPECT_EQ(read("{}", query), "400 bad_field: ids must be a list of whole numbers");
  query.query = {{"all", "yes"}};
  EXPECT_EQ(read("{}", query), "400 bad_field: all must be true or false");
  query.query = {{"rate", "nan"}};
  EXPECT_EQ(read("{}", query), "400 bad_field: rate must be a number");
  Request path;
  path.params = {{"job", "0"}};
  EXPECT_EQ(read("{}", path), "400 bad_field: job must be at least 1");
}

TEST(AdminFields, ABodyIsOneJsonObject) {
  EXPECT_THAT(read("{"), testing::StartsWith("400 malformed_body: the body is not JSON"));
  EXPECT_THAT(read("{} {}"), testing::StartsWith("400 malformed_body"));
  EXPECT_EQ(read("[]"), "400 malformed_body: the body is not a JSON object");
  EXPECT_THAT(read("{\"reason\":\"\xff\"}"), testing::StartsWith("400 malformed_body"));
  EXPECT_THAT(read(std::string(1000, '[')), testing::StartsWith("400 malformed_body"));
  Request request;
  request.content_type = "application/jsonp";
  EXPECT_THAT(read("{}", request), testing::StartsWith("415 unsupported_media_type"));
}

TEST(AdminWrongTokens, BlockAnAddressUntilItsWindowEnds) {
  WrongTokens wrong({.allowed = 2, .window = Milliseconds(10'000), .addresses = 3});
  const MonotonicTime start{std::chrono::hours(5)};
  const auto at = [&](int seconds) { return start + std::chrono::seconds(seconds); };
  wrong.count("a", at(0));
  EXPECT_EQ(wrong.wait("a", at(1)).count(), 0);
  wrong.count("a", at(4));
  EXPECT_EQ(wrong.wait("a", at(4)).count(), 6);
  EXPECT_EQ(wrong.wait("b", at(4)).count(), 0);
  EXPECT_EQ(wrong.wait("a", at(9)).count(), 1);
  EXPECT_EQ(wrong.wait("a", at(10)).count(), 0);
  wrong.count("a", at(11));
  EXPECT_EQ(wrong.wait("a", at(11)).count(), 0) << "a new window begins";
}

TEST(AdminWrongTokens, RememberNoMoreAddressesThanTheyMay) {
  WrongTokens wrong({.allowed = 1, .window = Milliseconds(10'000), .addresses = 3});
  const MonotonicTime start{std::chrono::hours(5)};
  for (int i = 0; i < 100; ++i) wrong.count(std::to_string(i), start + std::chrono::seconds(i));
  EXPECT_EQ(wrong.addresses(), 3U);
  EXPECT_GT(wrong.wait("99", start + std::chrono::seconds(99)).count(), 0);
  EXPECT_EQ(wrong.wait("96", start + std::chrono::seconds(99)).count(), 0) << "the oldest went";
}

TEST(AdminWrongTokens, CountTheAddressesOfOneNetworkTogether) {
  const auto group = [](const char* address) {
    return WrongTokens::group(boost::asio::ip::make_address(address));
  };
  EXPECT_EQ(group("192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(group("::ffff:192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(group("2001:db8:1:2::1"), group("2001:db8:1:2:ffff::9"));
}

TEST(AdminOpenapiDocument, IsMadeOfTheRows) {
  Route route = row("POST", "/v1/jobs/{job}/pause");
  route.needs_token = true;
  route.asks_database = true;
  route.fields = some_fields();
  route.answers = {{200, "Job"}};
  route.refusals = {409};
  EXPECT_THAT(documented_statuses(route),
              ElementsAre(200, 400, 401, 403, 409, 413, 415, 429, 500, 503, 504));
  const std::vector<Route> routes = {route};
  const boost::json::value document =
      boost::json::parse(openapi_document(routes, "1.2.3", R"({"Job":{"type":"object"}})"));
  EXPECT_EQ(document.at("info").at("version"), "1.2.3");
  const boost::json::value& post = document.at("paths").at("/v1/jobs/{job}/pause").at("post");
  EXPECT_EQ(post.at("operationId"), "post_v1_jobs_job_pause");
  EXPECT_EQ(post.at("parameters").as_array().size(), 4U);
  EXPECT_EQ(
      boost::json::serialize(
          post.at("requestBody").at("content").at("application/json").at("schema").at("required")),
      R"(["reason"])");
  EXPECT_EQ(post.at("responses").as_object().size(), 11U);
  EXPECT_THROW(static_cast<void>(openapi_document(routes, "1", "{}")), std::logic_error);
}

}  // namespace
}  // namespace outfall
