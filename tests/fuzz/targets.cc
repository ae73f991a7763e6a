#include "tests/fuzz/targets.h"

#include <array>

namespace outfall::fuzz {

std::span<const Target> targets() {
  static constexpr auto kTargets = std::to_array<Target>({
      {"admin_fields", admin_fields},
      {"admin_request", admin_request},
      {"admin_route", admin_route},
      {"cloudevents", cloudevents},
      {"configuration", configuration},
      {"conninfo", conninfo},
      {"error_text", error_text},
      {"exec_answer", exec_answer},
      {"headers", headers},
      {"kafka_record", kafka_record},
      {"postgres_result", postgres_result},
      {"retry_after", retry_after},
      {"webhook_request", webhook_request},
      {"webhook_response", webhook_response},
      {"webhook_url", webhook_url},
  });
  return kTargets;
}

}  // namespace outfall::fuzz
