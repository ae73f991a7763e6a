#pragma once

#include <span>
#include <string_view>

namespace outfall::fuzz {

// One piece of the code that reads what others wrote. `run` takes any bytes, throws a Finding for a
// broken promise, and whatever else it throws is one too. Its corpus is the folder of its name.
struct Target {
  std::string_view name;
  void (*run)(std::string_view input);
};

void admin_fields(std::string_view input);
void admin_request(std::string_view input);
void admin_route(std::string_view input);
void cloudevents(std::string_view input);
void configuration(std::string_view input);
void conninfo(std::string_view input);
void error_text(std::string_view input);
void exec_answer(std::string_view input);
void headers(std::string_view input);
void kafka_record(std::string_view input);
void postgres_result(std::string_view input);
void retry_after(std::string_view input);
void webhook_request(std::string_view input);
void webhook_response(std::string_view input);
void webhook_url(std::string_view input);

[[nodiscard]] std::span<const Target> targets();

}  // namespace outfall::fuzz
