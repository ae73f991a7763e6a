// URL templates, what entries can do to them, and the hosts that they may name.
#include <gtest/gtest.h>

#include "emitters/webhook/url_template.h"

namespace outfall::webhook {
namespace {

UrlTemplate parsed(std::string_view text) {
  UrlTemplate url;
  EXPECT_EQ(url.parse(text), std::nullopt) << text;
  return url;
}

Envelope entry(std::string_view headers = {}) {
  Envelope envelope;
  envelope.stream = "orders";
  envelope.type = "order.placed";
  envelope.source = "/shop/berlin";
  envelope.subject = "order 7/ä";
  envelope.headers_json = headers;
  return envelope;
}

std::string expanded(std::string_view text, const Envelope& envelope) {
  std::string url;
  const auto problem = parsed(text).expand(envelope, url);
  return problem ? "! " + problem->text : url;
}

bool is_refused(std::string_view text) {
  UrlTemplate url;
  return url.parse(text).has_value();
}

TEST(WebhookUrl, ItsOriginIsShownAndNotWhatLetsOnePostThere) {
  constexpr std::pair<const char*, const char*> kShown[] = {
      {"https://a.example", "https://a.example"},
      {"https://a.example/", "https://a.example/"},
      {"HTTPS://A.example:8443/s3cret", "HTTPS://A.example:8443/…"},
      {"https://a.example?t=s3cret", "https://a.example/…"},
      {"https://u:s3cret@a.example/x", "https://***@a.example/…"},
      {"https://{header.endpoint}/s3cret", "https://{header.endpoint}/…"},
      {"https://a.example/{type}/s3cret", "https://a.example/…"},
      {"{header.endpoint}", "{header.endpoint}"},
      {"{header.endpoint}/s3cret", "***"},
      {"s3cret", "***"},
      {"", "***"},
  };
  for (const auto& [url, shown] : kShown) EXPECT_EQ(shown_url(url), shown) << url;
}

TEST(WebhookUrl, WhatIsWrongWithItIsToldWithoutItsText) {
  for (const char* text :
       {"https://a.example/{s3cret}", "https://a.example/{type}/{header.}s3cret", "s3cret",
        "ftp://s3cret", "https://u:s3cret@a.example/", "https://a.example/s3cret}",
        "https://a.example/x#s3cret", "https://a b/s3cret", "https:///s3cret", "{s3cret}",
        "https://a.example:s3cret/", "https://[s3cret]/"}) {
    UrlTemplate url;
    const auto problem = url.parse(text);
    ASSERT_TRUE(problem) << text;
    EXPECT_EQ(problem->find("s3cret"), std::string::npos) << text << ": " << *problem;
  }
  UrlTemplate url;
  EXPECT_EQ(url.parse("https://a.example/{type}/{headers.a}"),
            "its placeholder 2 is none of {type}, {source}, {subject}, {stream} and "
            "{header.NAME}");
}

TEST(WebhookUrl, FillsInWhatTheEntrySays) {
  EXPECT_EQ(expanded("https://a.example/hooks", entry()), "https://a.example/hooks");
  EXPECT_EQ(expanded("https://a.example/{stream}/{type}", entry()),
            "https://a.example/orders/order.placed");
  EXPECT_EQ(expanded("https://a.example/x?s={source}&u={subject}", entry()),
            "https://a.example/x?s=%2Fshop%2Fberlin&u=order%207%2F%C3%A4");
  EXPECT_EQ(expanded("https://{header.endpoint}/hooks", entry(R"({"endpoint":"b.example"})")),
            "https://b.example/hooks");
  EXPECT_EQ(expanded("https://{header.a}.example:8443/{header.a}", entry(R"({"a":"x"})")),
            "https://x.example:8443/x");
  EXPECT_EQ(expanded("{header.url}", entry(R"({"url":"https://b.example/a?b=c"})")),
            "https://b.example/a?b=c");
}

TEST(WebhookUrl, AValueCannotLeaveItsPlace) {
  const auto host = [](const std::string& value) {
    return expanded("https://{header.h}/x", entry(R"({"h":")" + value + R"("})"));
  };
  for (const char* value : {"", "evil.example/", "a@evil.example", "evil.example?", "a#b", "a b",
                            "a%2fb", "evil.example\\\\", "ä.example", "a\\r\\nb"}) {
    EXPECT_TRUE(host(value).starts_with("! ")) << value << " -> " << host(value);
  }
  const auto path = [](const std::string& value) {
    return expanded("https://a.example/p/{header.h}/q", entry(R"({"h":")" + value + R"("})"));
  };
  EXPECT_TRUE(path("").starts_with("! "));
  EXPECT_TRUE(path(".").starts_with("! "));
  EXPECT_TRUE(path("..").starts_with("! "));
  EXPECT_EQ(path("../x"), "https://a.example/p/..%2Fx/q");
  EXPECT_EQ(path("a?b#c%d&e"), "https://a.example/p/a%3Fb%23c%25d%26e/q");
  EXPECT_TRUE(expanded("https://a.example/{header.h}", entry()).starts_with("! the entry has no"));
}

TEST(WebhookUrl, TellsItsLane) {
  EXPECT_EQ(parsed("https://{header.endpoint}/hooks").lane(), "header.endpoint");
  EXPECT_EQ(parsed("https://{header.endpoint}/{header.endpoint}").lane(), "header.endpoint");
  EXPECT_EQ(parsed("https://a.example/{stream}/{type}").lane(), "type");
  EXPECT_EQ(parsed("https://a.example/{subject}/{type}").lane(), "");
  EXPECT_EQ(parsed("https://a.example/{stream}").lane(), "");
  EXPECT_EQ(parsed("{header.url}").lane(), "header.url");
}

TEST(WebhookUrl, KnowsWhatIsFixed) {
  EXPECT_TRUE(parsed("https://a.example/x").is_fixed());
  EXPECT_TRUE(parsed("https://a.example/{type}").host_is_fixed());
  EXPECT_EQ(parsed("https://a.example:444/{type}").host_url(), "https://a.example:444/");
  EXPECT_EQ(parsed("http://a.example?t={type}").host_url(), "http://a.example/");
  EXPECT_FALSE(parsed("https://a.{type}.example/").host_is_fixed());
  EXPECT_FALSE(parsed("{header.url}").host_is_fixed());
  EXPECT_TRUE(parsed("https://{header.h}:8443/").port_is_fixed());
  EXPECT_FALSE(parsed("https://{header.h}/").port_is_fixed());
  EXPECT_FALSE(parsed("{header.url}").port_is_fixed());
}

TEST(WebhookUrl, RefusesWhatCannotBeSentTo) {
  for (const char* text :
       {"", "a.example/x", "ftp://a.example/", "file:///etc/passwd", "https://", "https:///x",
        "https://user:pass@a.example/", "https://{header.x", "https://a.example/}",
        "https://a.example/{key}", "https://a.example/{header.}", "https://a.example/{}",
        "{header.scheme}://a.example/", "https://a.example/#x", "https://a.example:99999/",
        "https://a b.example/"}) {
    EXPECT_TRUE(is_refused(text)) << text;
  }
}

TEST(WebhookUrl, SeesTargetsAsLibcurlDoes) {
  const auto origin = [](const char* url) {
    const auto target = target_of(url);
    return std::holds_alternative<UrlTarget>(target) ? std::get<UrlTarget>(target).origin()
                                                     : "! " + std::get<std::string>(target);
  };
  EXPECT_EQ(origin("https://A.Example/x"), "https://a.example:443");
  EXPECT_EQ(origin("HTTP://a.example:8080/x"), "http://a.example:8080");
  EXPECT_EQ(origin("https://[2001:db8::1]/x"), "https://[2001:db8::1]:443");
  // Numbers that are an address are shown as one.
  EXPECT_EQ(origin("http://0x7f.1/"), "http://127.0.0.1:80");
  EXPECT_EQ(origin("http://2130706433/"), "http://127.0.0.1:80");
  EXPECT_TRUE(origin("https://a@b.example/").starts_with("! "));
  EXPECT_TRUE(origin("gopher://b.example/").starts_with("! "));
}

HostList hosts(const std::vector<std::string>& entries) {
  HostList list;
  EXPECT_EQ(list.parse(entries), std::nullopt);
  return list;
}

bool allows(const HostList& list, const char* url, bool port_is_given = false) {
  return list.allows(std::get<UrlTarget>(target_of(url)), port_is_given);
}

TEST(WebhookHosts, AreMatchedWhole) {
  const HostList list = hosts({"api.example", "*.Partner.example", "[2001:db8::1]", "10.0.0.1"});
  EXPECT_TRUE(allows(list, "https://api.example/x"));
  EXPECT_TRUE(allows(list, "http://API.example/x"));
  EXPECT_TRUE(allows(list, "https://a.partner.example/"));
  EXPECT_TRUE(allows(list, "https://a.b.partner.example/"));
  EXPECT_TRUE(allows(list, "https://[2001:db8::1]/"));
  EXPECT_TRUE(allows(list, "https://10.0.0.1/"));
  EXPECT_FALSE(allows(list, "https://partner.example/"));
  EXPECT_FALSE(allows(list, "https://evilpartner.example/"));
  EXPECT_FALSE(allows(list, "https://a.partner.example.evil.com/"));
  EXPECT_FALSE(allows(list, "https://xapi.example/"));
  EXPECT_FALSE(allows(list, "https://api.example.evil.com/"));
  EXPECT_FALSE(allows(list, "https://api.example./"));
}

TEST(WebhookHosts, OtherPortsNeedToBeSaid) {
  const HostList list = hosts({"a.example", "b.example:8443", "*.c.example:*"});
  EXPECT_FALSE(allows(list, "https://a.example:22/"));
  EXPECT_TRUE(allows(list, "https://a.example:22/", true));
  EXPECT_FALSE(allows(list, "https://b.example/"));
  EXPECT_TRUE(allows(list, "https://b.example:8443/"));
  EXPECT_TRUE(allows(list, "https://x.c.example:1/"));
}

TEST(WebhookHosts, RefusesWhatIsNoHost) {
  for (const char* entry : {"", "*", "*.", "https://a.example", "a.example/x", "a.example:0",
                            "a.example:x", "a.example:70000", "a*.example", "a b"}) {
    HostList list;
    EXPECT_TRUE(list.parse({entry})) << entry;
  }
}

}  // namespace
}  // namespace outfall::webhook
