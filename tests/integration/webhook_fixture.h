#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "emitters/webhook/webhook.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/http_recorder.h"

namespace outfall::test {

// A webhook emitter before a scripted server, with a drain that plays its part.
class WebhookTest : public testing::Test {
 protected:
  WebhookTest();

  // Makes the emitter of `settings_`, for tests that look at it themselves.
  void start();
  // Hands entries over, waits for all, and returns the outcomes in order.
  std::vector<const Outcome*> deliver(const std::vector<TestEntry>& entries);
  // The outcome of one plain entry.
  const Outcome& deliver_one();

  HttpRecorder server_;
  const EmitterKind kind_ = webhook_emitter_kind();
  TestSettings settings_{kind_};
  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

// "failed webhook.status_400", with the flags that are set behind it.
[[nodiscard]] std::string told(const Outcome& outcome);

}  // namespace outfall::test
