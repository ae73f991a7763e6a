// Requests made of entries: no entry can add a header line that is not meant, and a body is what it
// was.

#include <algorithm>
#include <set>
#include <string>

#include "core/cloudevents.h"
#include "emitters/webhook/header_names.h"
#include "emitters/webhook/request.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/text_input.h"

namespace outfall::fuzz {
namespace {

using namespace webhook;

void check_line(const std::string& line) {
  require(std::ranges::none_of(
              line, [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; }),
          "a header is one line");
  const std::size_t end = line.find_first_of(":;");
  require(end != std::string::npos && is_header_name(std::string_view(line).substr(0, end)),
          "a header has a name");
}

}  // namespace

void webhook_request(std::string_view input) {
  const EntryText entry(input);
  const Envelope& envelope = entry.envelope();
  WebhookOptions options;
  const std::string_view body = entry.option("body");
  options.body = body == "structured" ? BodyFormat::structured
                 : body == "batch"    ? BodyFormat::batch
                                      : BodyFormat::payload;
  options.headers = {{"X-Fixed", "by the operator"}};
  options.forward_headers = {"x-*", "c*", "host", "w*"};
  require(!options.signer.add_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "a key is one");
  RequestBuilder builder(options);
  webhook::Request request;
  const Envelope* const envelopes[] = {&envelope};
  builder.build(request, envelopes, WallTime(std::chrono::seconds(1'700'000'000)));

  std::multiset<std::string> names;
  for (const std::string& line : request.lines()) {
    check_line(line);
    names.insert(lower_header_name(line.substr(0, line.find_first_of(":;"))));
  }
  // What the receiver relies on is there once, whatever the entry's own headers are called.
  for (const char* name : {"content-type", "webhook-id", "webhook-timestamp", "webhook-signature",
                           "user-agent", "x-fixed", "expect"}) {
    require(names.count(name) == 1, "what outfall sets is there once");
  }
  for (const char* name : {"host", "content-length", "transfer-encoding", "connection"}) {
    require(names.count(name) == 0, "framing is libcurl's");
  }
  if (options.body == BodyFormat::payload) {
    require(names.count("ce-id") == 1, "an event has one id");
    require(request.body() == envelope.payload, "the body is the payload");
    return;
  }
  std::string event;
  append_cloudevent_json(event, envelope);
  if (options.body == BodyFormat::batch) event = "[" + event + "]";
  require(request.body() == event, "the body is the event");
}

}  // namespace outfall::fuzz
