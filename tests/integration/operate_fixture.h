#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <gmock/gmock.h>

#include "tests/integration/sql_fixture.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_folder.h"

namespace outfall::test {

// A field that is a string.
[[nodiscard]] std::string text_of(const boost::json::value& document, const std::string& field);

// The binary against a database of its own: commands, and workers beside them.
class OperateTest : public SqlTest {
 protected:
  OperateTest();

  // Writes outfall.toml in a folder of its own: the database, and then `more`. By default the
  // stream orders with a stdout emitter that writes to delivered().
  void configure(const std::string& more);
  void configure_url(const std::string& url, const std::string& more);
  [[nodiscard]] std::string one_stream(const std::string& settings = {}) const;
  [[nodiscard]] std::filesystem::path delivered_file() const { return folder_ / "delivered"; }
  // One field of each delivered CloudEvent, in the order of delivery.
  [[nodiscard]] std::vector<std::string> delivered(const std::string& field) const;

  [[nodiscard]] Finished outfall(std::vector<std::string> arguments,
                                 std::map<std::string, std::string> environment = {}) const;
  // With --json and expected to end with 0: what it wrote.
  boost::json::object done(std::vector<std::string> arguments) const;
  // With --json and expected to end with `code`: the error object.
  boost::json::object refused(int code, std::vector<std::string> arguments) const;
  [[nodiscard]] std::unique_ptr<ChildProcess> start(std::vector<std::string> arguments) const;

  // `outfall run` in the background, once it has started.
  [[nodiscard]] std::unique_ptr<ChildProcess> run_worker(
      const std::string& config = "outfall.toml") const;
  // http://127.0.0.1:PORT of a worker.
  [[nodiscard]] static std::string admin_url(const ChildProcess& worker);

  // Claims all that is due in a stream and dead-letters it.
  void dead_letter_all(const std::string& stream, const std::string& code, bool hold_key = false);

  TempFolder folder_;
};

#define EXPECT_CODE(finished, expected) \
  EXPECT_EQ((finished).status.code, expected) << (finished).output << (finished).error_output

}  // namespace outfall::test
