#include "tests/integration/operate_fixture.h"

#include <sstream>

#include <fmt/format.h>

#include "tests/support/wait_until.h"

namespace outfall::test {

std::string text_of(const boost::json::value& document, const std::string& field) {
  return std::string(document.at(field).as_string());
}

OperateTest::OperateTest() {
  configure(one_stream());
}

std::string OperateTest::one_stream(const std::string& settings) const {
  return fmt::format(
      "[streams.orders]\nemitter = \"log\"\n{}\n[emitters.log]\nkind = \"stdout\"\npath = \"{}\"\n",
      settings, delivered_file().string());
}

void OperateTest::configure(const std::string& more) {
  configure_url(database_.dsn(), more);
}

void OperateTest::configure_url(const std::string& url, const std::string& more) {
  folder_.write("outfall.toml", fmt::format("[admin]\nlisten = \"127.0.0.1:0\"\n[drain]\n"
                                            "sampler_interval = \"1s\"\n{}\n[database]\nurl = "
                                            "\"{}\"\n",
                                            more, url));
}

std::vector<std::string> OperateTest::delivered(const std::string& field) const {
  std::vector<std::string> values;
  if (!std::filesystem::exists(delivered_file())) return values;
  std::istringstream lines(read_file(delivered_file()));
  for (std::string line; std::getline(lines, line);) {
    values.emplace_back(boost::json::parse(line).at(field).as_string());
  }
  return values;
}

Finished OperateTest::outfall(std::vector<std::string> arguments,
                              std::map<std::string, std::string> environment) const {
  arguments.insert(arguments.begin(), OUTFALL_BINARY);
  return run(std::move(arguments),
             {.environment = std::move(environment), .working_folder = folder_.path()});
}

boost::json::object OperateTest::done(std::vector<std::string> arguments) const {
  arguments.emplace_back("--json");
  const Finished finished = outfall(std::move(arguments));
  EXPECT_CODE(finished, 0);
  EXPECT_EQ(std::ranges::count(finished.output, '\n'), 1) << finished.output;
  EXPECT_EQ(finished.error_output, "");
  return boost::json::parse(finished.output).as_object();
}

boost::json::object OperateTest::refused(int code, std::vector<std::string> arguments) const {
  arguments.emplace_back("--json");
  const Finished finished = outfall(std::move(arguments));
  EXPECT_CODE(finished, code);
  EXPECT_EQ(finished.output, "");
  const boost::json::value error = boost::json::parse(finished.error_output).at("error");
  EXPECT_EQ(error.at("exit_code"), code);
  return error.as_object();
}

std::unique_ptr<ChildProcess> OperateTest::start(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), OUTFALL_BINARY);
  return std::make_unique<ChildProcess>(std::move(arguments),
                                        ChildOptions{.working_folder = folder_.path()});
}

std::unique_ptr<ChildProcess> OperateTest::run_worker(const std::string& config) const {
  auto worker = start({"run", "--config", config});
  worker->wait_for_output("info started");
  return worker;
}

std::string OperateTest::admin_url(const ChildProcess& worker) {
  const std::string log = worker.error_output();
  constexpr std::string_view kField = " admin=";
  const std::size_t at = log.find(kField);
  if (at == std::string::npos) throw std::runtime_error("no admin address in " + log);
  const std::size_t begin = at + kField.size();
  return "http://" + log.substr(begin, log.find_first_of(" \n", begin) - begin);
}

void OperateTest::dead_letter_all(const std::string& stream, const std::string& code,
                                  bool hold_key) {
  Worker worker(database_.dsn());
  worker.settle_all(worker.claim(stream), EntryStatus::dead_lettered, Milliseconds{0}, code,
                    hold_key);
}

}  // namespace outfall::test
