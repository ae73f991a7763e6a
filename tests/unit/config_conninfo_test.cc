// Redaction of connection strings, and addresses to listen on.

#include <gtest/gtest.h>

#include "config/conninfo.h"
#include "config/listen_address.h"

namespace outfall {
namespace {

struct Redaction {
  std::string_view given;
  std::string_view shown;
};

// A user name like me@server among the parameters was taken for the end of a user part, so that no
// parameter was looked at.
TEST(Conninfo, APasswordBesideAUserWithAnAtSignIsMasked) {
  constexpr auto kCases = std::to_array<Redaction>({
      {"postgresql://h/d?password=s3cret&user=me@h", "postgresql://h/d?password=***&user=me@h"},
      {"postgresql://h:5432/d?user=me@h&password=s3cret",
       "postgresql://h:5432/d?user=me@h&password=***"},
      {"postgresql://[::1]:5432/d?user=me@h&password=s3cret",
       "postgresql://[::1]:5432/d?user=me@h&password=***"},
      {"postgresql://a:1,b:2/d?user=me@h&password=s3cret", "postgresql://a:***@***"},
      {"postgresql://u:s3/cret?x@h/d", "postgresql://u:***@h/d"},
  });
  for (const auto& [given, shown] : kCases) EXPECT_EQ(redact_conninfo(given), shown) << given;
}

TEST(Conninfo, ShowsWhatIsHarmlessAndMasksTheRest) {
  constexpr auto kCases = std::to_array<Redaction>({
      {"postgresql://shop@localhost/shop", "postgresql://shop@localhost/shop"},
      {"postgresql://shop:s3cret@localhost/shop", "postgresql://shop:***@localhost/shop"},
      {"postgres://shop:s3cret@a:1,b:2/shop", "postgres://shop:***@a:1,b:2/shop"},
      {"postgresql://:s3cret@h", "postgresql://:***@h"},
      {"postgresql:///shop", "postgresql:///shop"},
      {"postgresql://localhost:5432/shop", "postgresql://localhost:5432/shop"},
      {"postgresql://u:s3%40cret@h/d", "postgresql://u:***@h/d"},
      // Passwords that should have been percent-encoded.
      {"postgresql://u:s3@cret@h/d", "postgresql://u:***@h/d"},
      {"postgresql://u:s3/cret@h/d", "postgresql://u:***@h/d"},
      {"postgresql://u:s3?cret@h/d", "postgresql://u:***@h/d"},
      {"postgresql://u:s3#cret@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=require"},
      {"postgresql://h/d?user=u&password=s3cret&sslmode=require",
       "postgresql://h/d?user=u&password=***&sslmode=require"},
      {"postgresql://h/d?sslpassword=s3cret", "postgresql://h/d?sslpassword=***"},
      {"postgresql://h/d?pass%77ord=s3cret", "postgresql://h/d?***=***"},
      {"postgresql://h/d?password=a&s3cret", "postgresql://h/d?password=***&***"},
      {"host=h user=u password=s3cret dbname=d", "host=h user=u password=*** dbname=d"},
      {"host = h password = 's3 cret' dbname = 'a b'", "host=h password=*** dbname='a b'"},
      {"password='s3\\'cret' host=h", "password=*** host=h"},
      {"password=s3\\ cret host=h", "password=*** host=h"},
      {"password=a s3cret=x host=h", "password=*** ***=*** host=h"},
      {"password=a s3cret", "***"},
      {"password='s3cret", "***"},
      {"s3cret", "***"},
      {"", ""},
  });
  for (const auto& [given, shown] : kCases) EXPECT_EQ(redact_conninfo(given), shown) << given;
}

TEST(Conninfo, AcceptsWhatLibpqCanBeAsked) {
  EXPECT_FALSE(conninfo_problem("postgresql:///shop"));
  EXPECT_FALSE(conninfo_problem("postgres://h"));
  EXPECT_FALSE(conninfo_problem("service=shop"));
  for (const std::string_view good :
       {"postgresql://", "postgresql://h:5432,[::1]:5433,[fe80::1]/d?sslmode=require&user=a",
        "postgresql://u:%40%3a@h/d", "postgresql://%2Fvar%2Frun%2Fpostgresql/d",
        "postgresql:///d?host=/tmp", "postgresql://u@/d", "postgresql://h?dbname=d",
        "postgresql://h:/d"}) {
    EXPECT_FALSE(conninfo_problem(good)) << good << ": " << *conninfo_problem(good);
  }
  // libpq would quote pieces of these, and so of the password.
  for (const std::string_view bad :
       {"postgresql://u:100%zz@h/d", "postgresql://u:100%@h/d", "postgresql://u:s3/cret@h/d",
        "postgresql://u:s3@cret@h/d", "postgresql://u:s3?cret/x@h", "postgresql://[::1/d",
        "postgresql://[::1]x/d", "postgresql://h/d?password", "postgresql://h/d?password=a=b",
        "postgresql://h:port/d", "postgresql://h/d?s3cret=1", "yostgresql://u:s3cret@h/d?sslmode=a",
        "host=h password=a s3cret=b"}) {
    const auto problem = conninfo_problem(bad);
    ASSERT_TRUE(problem) << bad;
    EXPECT_EQ(problem->find("s3"), std::string::npos) << *problem;
    EXPECT_EQ(problem->find("cret"), std::string::npos) << *problem;
  }
  EXPECT_TRUE(conninfo_problem("shop"));
  EXPECT_TRUE(conninfo_problem("mysql://h/d"));
  EXPECT_TRUE(conninfo_problem("host=h password='x"));
  EXPECT_TRUE(conninfo_problem(std::string_view("host=a\0b", 8)));
}

TEST(Conninfo, RefusesWhatCouldNeverConnect) {
  const auto kCases = std::to_array<std::pair<std::string_view, std::string_view>>({
      {"postgresql://x:99999999/y", "has a port that is not between 1 and 65535"},
      {"postgresql://x:0/y", "has a port that is not between 1 and 65535"},
      {"postgresql://a:5432,b:65536/y", "has a port that is not between 1 and 65535"},
      {"host=x port=70000", "has a port that is not between 1 and 65535"},
      {"host=x port=pg", "has a port that is not between 1 and 65535"},
      {"postgresql://x/y?foo=bar", "has a parameter that libpq does not know"},
      {"host=x passphrasewithoutquotes=bar", "has a parameter that libpq does not know"},
      {"postgresql://x/y?sslmod=require",
       "has a parameter that libpq does not know (is it meant to be sslmode?)"},
      {"host=x dbnam=y", "has a parameter that libpq does not know (is it meant to be dbname?)"},
      {"host=x sslmode=requier",
       "has a sslmode that is none of disable, allow, prefer, require, verify-ca and verify-full"},
      {"postgresql://x/y?connect_timeout=10s", "has a connect_timeout that is not a whole number"},
  });
  for (const auto& [given, said] : kCases) {
    EXPECT_EQ(conninfo_problem(given).value_or("nothing"), said) << given;
  }
  for (const std::string_view good :
       {"postgresql://x:65535/y", "postgresql://a,b:5433/y?target_session_attrs=read-write",
        "host=a,b port=5432,5433 connect_timeout=10", "host=a port=''", "postgresql://x/y?ssl=true",
        "postgresql://u:99999999@x/y?sslmode=verify-full"}) {
    EXPECT_FALSE(conninfo_problem(good)) << good << ": " << *conninfo_problem(good);
  }
}

TEST(ListenAddress, TakesLiteralsAndLocalhost) {
  struct Accepted {
    std::string_view text;
    std::string_view host;
    int port;
  };
  for (const auto& [text, host, port] :
       std::to_array<Accepted>({{"127.0.0.1:9464", "127.0.0.1", 9464},
                                {"[::1]:0", "::1", 0},
                                {"localhost:65535", "127.0.0.1", 65535},
                                {"0.0.0.0:1", "0.0.0.0", 1}})) {
    const auto address = parse_listen_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->host, host);
    EXPECT_EQ(address->port, port);
  }
  for (const std::string_view text :
       {"", "9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
        "127.0.0.1:-1", "::1:9464", "[::1]", "[127.0.0.1]:1", "example.com:80", "127.0.0.1:80 "}) {
    EXPECT_FALSE(parse_listen_address(text)) << text;
  }
}

}  // namespace
}  // namespace outfall
