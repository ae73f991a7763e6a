#include "tests/integration/webhook_fixture.h"

namespace outfall::test {

WebhookTest::WebhookTest() {
  settings_.text("url", server_.url("/hooks")).number("timeout", 10'000);
}

void WebhookTest::start() {
  emitter_ = make_emitter(kind_, settings_, drain_);
}

std::vector<const Outcome*> WebhookTest::deliver(const std::vector<TestEntry>& entries) {
  if (!emitter_) start();
  drain_.new_runs();
  const auto tokens = drain_.emit(*emitter_, entries);
  drain_.wait_for_all();
  std::vector<const Outcome*> outcomes;
  outcomes.reserve(tokens.size());
  for (const std::uint64_t token : tokens) outcomes.push_back(&*drain_.item(token).outcome);
  return outcomes;
}

const Outcome& WebhookTest::deliver_one() {
  return *deliver({{.key = "key"}}).front();
}

std::string told(const Outcome& outcome) {
  std::string text(to_string(outcome.kind));
  if (outcome.error) text += " " + outcome.error->code;
  if (outcome.connection_lost) text += " lost";
  if (outcome.destination_suspect) text += " suspect";
  if (outcome.parks_destination) text += " parks";
  return text;
}

}  // namespace outfall::test
