// What the service manager reads is what arrives at its socket: a real one, in a temporary folder.

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/service_manager.h"

namespace outfall {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::MatchesRegex;

// The other end of $NOTIFY_SOCKET.
class Receiver {
 public:
  // `name` as in sun_path; beginning with NUL in the abstract namespace.
  explicit Receiver(const std::string& name) : socket_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(socket_, reinterpret_cast<const sockaddr*>(&address), length), 0);
  }
  ~Receiver() { close(socket_); }
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  std::vector<std::string> messages() const {
    std::vector<std::string> result;
    char buffer[4096];
    while (true) {
      const ssize_t size = recv(socket_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (size < 0) return result;
      result.emplace_back(buffer, static_cast<std::size_t>(size));
    }
  }

 private:
  int socket_;
};

class ServiceManagerTest : public testing::Test {
 protected:
  ServiceManagerTest() {
    char name[] = "/tmp/outfall-notify-XXXXXX";
    folder_ = mkdtemp(name);
    path_ = (folder_ / "notify").string();
  }
  ~ServiceManagerTest() override {
    std::filesystem::remove_all(folder_);
    for (const char* variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
      unsetenv(variable);
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(ServiceManagerTest, IsReadyOnceAndRepeatsNoStatus) {
  const Receiver receiver(path_);
  ServiceManager manager(path_);
  manager.status("connecting");
  manager.status("connecting");
  EXPECT_FALSE(manager.said_ready());
  manager.ready("serving");
  manager.ready("serving");
  manager.status("serving");
  EXPECT_TRUE(manager.said_ready());
  EXPECT_THAT(receiver.messages(), ElementsAre("STATUS=connecting", "READY=1\nSTATUS=serving"));
}

TEST_F(ServiceManagerTest, AReloadCarriesTheTimeAndEndsWithReady) {
  const Receiver receiver(path_);
  ServiceManager manager(path_);
  manager.ready("serving");
  manager.reloading();
  manager.reloaded("serving");
  const auto messages = receiver.messages();
  ASSERT_EQ(messages.size(), 3);
  EXPECT_THAT(messages[1], MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=.*"));
  EXPECT_EQ(messages[2], "READY=1\nSTATUS=serving");
}

TEST_F(ServiceManagerTest, AReloadBeforeItIsReadyDoesNotMakeItSo) {
  const Receiver receiver(path_);
  ServiceManager manager(path_);
  manager.reloading();
  manager.reloaded("connecting");
  EXPECT_EQ(receiver.messages().back(), "STATUS=connecting");
}

TEST_F(ServiceManagerTest, AStopAsksForItsTime) {
  const Receiver receiver(path_);
  ServiceManager manager(path_);
  manager.stopping(Milliseconds{35000});
  const auto messages = receiver.messages();
  ASSERT_EQ(messages.size(), 1);
  EXPECT_THAT(messages[0], testing::StartsWith("STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000\n"));
}

TEST_F(ServiceManagerTest, AStatusIsNeverASecondAssignment) {
  const Receiver receiver(path_);
  ServiceManager manager(path_);
  manager.status("it said:\nREADY=1");
  EXPECT_THAT(receiver.messages(), ElementsAre("STATUS=it said: READY=1"));
}

TEST_F(ServiceManagerTest, FindsASocketInTheAbstractNamespace) {
  const std::string name = folder_.string() + "/abstract";
  const Receiver receiver(std::string(1, '\0') + name);
  ServiceManager manager("@" + name);
  manager.beat();
  EXPECT_THAT(receiver.messages(), ElementsAre("WATCHDOG=1"));
}

TEST_F(ServiceManagerTest, TakesItsVariablesOutOfTheEnvironment) {
  setenv("NOTIFY_SOCKET", path_.c_str(), 1);
  setenv("WATCHDOG_USEC", "30000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  const Receiver receiver(path_);
  ServiceManager manager = ServiceManager::from_environment();
  EXPECT_TRUE(manager.listens());
  EXPECT_EQ(manager.watchdog(), Milliseconds{30000});
  EXPECT_EQ(getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_EQ(getenv("WATCHDOG_USEC"), nullptr);
  EXPECT_EQ(getenv("WATCHDOG_PID"), nullptr);
  manager.beat();
  EXPECT_THAT(receiver.messages(), ElementsAre("WATCHDOG=1"));
}

TEST_F(ServiceManagerTest, TheWatchdogOfAnotherProcessIsNotOurs) {
  setenv("NOTIFY_SOCKET", path_.c_str(), 1);
  setenv("WATCHDOG_USEC", "30000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getppid()).c_str(), 1);
  EXPECT_EQ(ServiceManager::from_environment().watchdog(), std::nullopt);
}

TEST_F(ServiceManagerTest, WithoutASocketOrWithABadOneItIsSilent) {
  EXPECT_FALSE(ServiceManager::from_environment().listens());
  for (const std::string& bad : {std::string("relative"), "/" + std::string(200, 'x')}) {
    ServiceManager manager(bad);
    EXPECT_FALSE(manager.listens()) << bad;
    manager.ready("serving");
  }
  ServiceManager nobody(path_);  // nobody has bound it
  nobody.beat();
  EXPECT_THAT(Receiver(path_).messages(), IsEmpty());
}

}  // namespace
}  // namespace outfall
