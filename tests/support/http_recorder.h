#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/wait_until.h"

namespace outfall::test {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string target;
  HttpHeaders headers;                            // as sent, in order
  std::string body;                               // chunks joined
  std::uint64_t connection = 0;                   // 1 for the recorder's first connection
  std::chrono::steady_clock::time_point arrived;  // when its last byte had been read

  // The value of the first header of this name, in any case of letters.
  [[nodiscard]] std::optional<std::string> header(std::string_view name) const;
};

// What to do instead of, or while, answering.
enum class HttpFault {
  none,
  hang,      // no answer; the connection stays open until the client or the recorder ends it
  reset,     // the connection is reset instead of an answer
  close,     // the connection is closed in order instead of an answer
  cut_body,  // headers promise the whole body; half of it comes, then the end
  trickle,   // one byte every `pace`
  no_head,   // the body alone, so that it may be no HTTP, and then the end
};

struct HttpAnswer {
  int status = 200;
  HttpHeaders headers = {};  // Content-Length and Connection are added
  std::string body = {};
  std::chrono::milliseconds delay{0};  // before the answer
  HttpFault fault = HttpFault::none;
  std::chrono::milliseconds pace{10};  // for trickle
  bool close_after = false;            // "Connection: close"
};

// A real HTTP/1.1 server on a free port of 127.0.0.1 that records every request and answers by
// script: first the queued answers, one each, in order of arrival; then the handler, where there is
// one; else the default (200, empty). Keep-alive, Content-Length and chunked bodies, and
// "Expect: 100-continue". One thread a connection.
//
// All functions can be called from any thread. The handler runs in the connection's thread, for
// several requests at a time. The destructor ends all connections, also hung ones.
class HttpRecorder {
 public:
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;

  HttpRecorder();
  ~HttpRecorder();
  HttpRecorder(const HttpRecorder&) = delete;
  HttpRecorder& operator=(const HttpRecorder&) = delete;

  [[nodiscard]] int port() const noexcept;
  [[nodiscard]] std::string url(std::string_view path = "/") const;

  void answer_next(HttpAnswer answer);    // queued, for one request
  void answer_always(HttpAnswer answer);  // the new default
  void answer_by(Handler handler);

  [[nodiscard]] std::vector<HttpRequest> requests() const;  // in order of arrival
  [[nodiscard]] std::size_t count() const;
  // Waits until at least so many requests have come and returns all; throws TimedOut.
  std::vector<HttpRequest> wait_for(std::size_t requests,
                                    std::chrono::milliseconds deadline = kDefaultDeadline) const;
  // The most requests that were being answered at the same time.
  [[nodiscard]] std::size_t most_at_once() const;
  [[nodiscard]] std::uint64_t connections() const;

 private:
  class Server;
  std::unique_ptr<Server> server_;
};

}  // namespace outfall::test
