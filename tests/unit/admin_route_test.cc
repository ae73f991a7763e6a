// How a request line finds its route, and what the bearer token lets through.

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/admin/bearer_token.h"
#include "daemon/admin/route.h"
#include "daemon/admin/standard_routes.h"

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

}  // namespace
}  // namespace outfall
