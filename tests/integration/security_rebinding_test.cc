// DNS rebinding: a name that resolves to an allowed address when it is looked at, and to another
// one when it is used. What is connected to is judged, not what was looked at.
//
// This executable's getaddrinfo() takes the place of the system's, also for libcurl.

#include <algorithm>
#include <arpa/inet.h>
#include <deque>
#include <dlfcn.h>
#include <fcntl.h>
#include <mutex>
#include <netdb.h>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>

#include "tests/integration/webhook_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

// What the name `rebinding.test` resolves to: one list of addresses a look-up, the last one from
// then on.
class Resolver {
 public:
  static Resolver& instance() {
    static Resolver resolver;
    return resolver;
  }
  void answer(std::deque<std::vector<std::string>> answers) {
    const std::lock_guard lock(mutex_);
    answers_ = std::move(answers);
    lookups_ = 0;
  }
  std::vector<std::string> next() {
    const std::lock_guard lock(mutex_);
    ++lookups_;
    std::vector<std::string> addresses = answers_.front();
    if (answers_.size() > 1) answers_.pop_front();
    return addresses;
  }
  [[nodiscard]] int lookups() {
    const std::lock_guard lock(mutex_);
    return lookups_;
  }

 private:
  std::mutex mutex_;
  std::deque<std::vector<std::string>> answers_;
  int lookups_ = 0;
};

// Counts the connections that somebody tries to make to an address that must not be connected to.
class Trap {
 public:
  Trap(const char* address, int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in bound{};
    bound.sin_family = AF_INET;
    bound.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, address, &bound.sin_addr);
    const int yes = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (::bind(socket_, reinterpret_cast<const sockaddr*>(&bound), sizeof bound) != 0 ||
        ::listen(socket_, 16) != 0) {
      throw std::runtime_error("the trap cannot listen");
    }
  }
  ~Trap() { ::close(socket_); }
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;

  // The kernel has made the connection by the time that connect() returns.
  [[nodiscard]] int connections() const {
    int count = 0;
    while (true) {
      const int client = ::accept4(socket_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (client < 0) return count;
      ++count;
      ::close(client);
    }
  }
  void do_not_wait() const { ::fcntl(socket_, F_SETFL, O_NONBLOCK); }

 private:
  int socket_;
};

class SecurityRebinding : public WebhookTest {
 protected:
  SecurityRebinding() : trap_("127.0.0.2", server_.port()) {
    trap_.do_not_wait();
    settings_.text("url", "http://rebinding.test:" + std::to_string(server_.port()) + "/hooks")
        .text("addresses", "public_only")
        .list("allow_cidrs", {"127.0.0.1/32"});
  }

  static void resolve(std::deque<std::vector<std::string>> answers) {
    Resolver::instance().answer(std::move(answers));
  }

  // Without it libcurl asks for no such address.
  static bool has_v6() {
    const int socket = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket >= 0) ::close(socket);
    return socket >= 0;
  }

  Trap trap_;
};

TEST_F(SecurityRebinding, TheResolverIsTheTests) {
  resolve({{"127.0.0.1"}});
  EXPECT_EQ(told(deliver_one()), "delivered");
  EXPECT_EQ(server_.count(), 1U);
  EXPECT_EQ(Resolver::instance().lookups(), 1);
  EXPECT_EQ(trap_.connections(), 0);
}

// check-config --connect sees the allowed address, the delivery another one.
TEST_F(SecurityRebinding, WhatChangesBetweenTheCheckAndTheUseIsRefused) {
  resolve({{"127.0.0.1"}, {"127.0.0.2"}});
  start();
  EXPECT_TRUE(emitter_->check(Milliseconds{3000}).ok);
  const Outcome& outcome = deliver_one();
  EXPECT_EQ(told(outcome), "destination_unavailable webhook.blocked_address parks");
  EXPECT_THAT(outcome.error->message, HasSubstr("127.0.0.2 is not connected to"));
  EXPECT_EQ(Resolver::instance().lookups(), 2);
  EXPECT_EQ(server_.count(), 0U);
  EXPECT_EQ(trap_.connections(), 0);
}

// The other way round it is the check that refuses, and it connects to nothing either.
TEST_F(SecurityRebinding, TheCheckConnectsToNothingThatIsRefused) {
  resolve({{"127.0.0.2"}});
  start();
  const Emitter::Health health = emitter_->check(Milliseconds{3000});
  EXPECT_FALSE(health.ok);
  EXPECT_THAT(health.detail, HasSubstr("127.0.0.2 is not connected to"));
  EXPECT_EQ(trap_.connections(), 0);
}

// An answer with both leads to the allowed one only, in either order.
TEST_F(SecurityRebinding, OfSeveralAddressesOnlyTheAllowedOneIsUsed) {
  for (const std::vector<std::string>& addresses :
       {std::vector<std::string>{"127.0.0.2", "127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}}) {
    resolve({addresses});
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "delivered") << addresses.front();
  }
  EXPECT_EQ(server_.count(), 2U);
  EXPECT_EQ(trap_.connections(), 0);
}

// A connection ends and the name now leads elsewhere: the next one is judged anew.
TEST_F(SecurityRebinding, EveryNewConnectionIsJudged) {
  server_.answer_always({.status = 200, .close_after = true});
  resolve({{"127.0.0.1"}, {"169.254.169.254"}});
  EXPECT_EQ(told(deliver_one()), "delivered");
  emitter_.reset();  // with it libcurl's memory of the name, which lives for a minute
  const Outcome& outcome = deliver_one();
  EXPECT_EQ(told(outcome), "destination_unavailable webhook.blocked_address parks");
  EXPECT_THAT(outcome.error->message, HasSubstr("169.254.169.254 is not connected to"));
  EXPECT_EQ(server_.count(), 1U);
}

// Every way to write an address of the machine itself or of its network, as a name's answer.
TEST_F(SecurityRebinding, NoFormOfAnInnerAddressIsConnectedTo) {
  settings_.list("allow_cidrs", {});
  for (const char* address : {"127.0.0.1",
                              "127.0.0.2",
                              "0.0.0.0",
                              "10.0.0.1",
                              "172.16.0.1",
                              "192.168.0.1",
                              "100.64.0.1",
                              "169.254.169.254",
                              "::1",
                              "::",
                              "::ffff:127.0.0.1",
                              "::127.0.0.1",
                              "64:ff9b::7f00:1",
                              "64:ff9b:1::7f00:1",
                              "2002:7f00:1::",
                              "2001:0:0:0:0:0:80ff:fffe",
                              "fe80::1",
                              "fc00::1",
                              "fd00:ec2::254",
                              "fec0::1",
                              "ff02::1"}) {
    if (std::string(address).find(':') != std::string::npos && !has_v6()) continue;
    resolve({{address}});
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.blocked_address parks")
        << address;
  }
  EXPECT_EQ(server_.count(), 0U);
  EXPECT_EQ(trap_.connections(), 0);
}

// Numbers that only resolvers of old understand go the same way.
TEST_F(SecurityRebinding, NoFormOfANumberIsConnectedTo) {
  settings_.list("allow_cidrs", {});
  for (const char* host : {"127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "localhost"}) {
    settings_.text("url",
                   std::string("http://") + host + ":" + std::to_string(server_.port()) + "/");
    emitter_.reset();
    EXPECT_EQ(told(deliver_one()), "destination_unavailable webhook.blocked_address parks") << host;
  }
  EXPECT_EQ(server_.count(), 0U);
}

}  // namespace
}  // namespace outfall::test

extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints,
                           addrinfo** result) {
  using Function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  static const auto system = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "getaddrinfo"));
  if (name == nullptr || std::string(name) != "rebinding.test") {
    return system(name, service, hints, result);
  }
  addrinfo numeric = hints != nullptr ? *hints : addrinfo{};
  numeric.ai_flags = AI_NUMERICHOST;
  *result = nullptr;
  addrinfo** end = result;
  for (const std::string& address : outfall::test::Resolver::instance().next()) {
    const int failed = system(address.c_str(), service, &numeric, end);
    if (failed != 0) return failed;
    while (*end != nullptr) end = &(*end)->ai_next;
  }
  return 0;
}
