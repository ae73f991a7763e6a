#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace outfall {

struct Request {
  std::string method;
  std::string path;                                        // as sent, without the query
  std::map<std::string, std::string, std::less<>> params;  // {name} parts of the pattern, decoded
  std::map<std::string, std::string, std::less<>> query;   // decoded
  std::string content_type;
  std::string body;
  std::string remote;  // address of the client, for audit lines
  // When the client gets an answer without the handler's, and when the server wants to stop: a
  // handler that does several things looks at both in between.
  std::chrono::steady_clock::time_point deadline;
  std::stop_token stop;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// The one form of every refusal: {"error":code,"message":…,"hint":…}. `code` is stable snake_case,
// the hint says what to change.
[[nodiscard]] Response error_response(int status, std::string_view code, std::string_view message,
                                      std::string_view hint);

// One thing that a request says: a part of its path, of its query, or a member of the JSON object
// in its body.
struct RouteField {
  enum class In : std::uint8_t { path, query, body };
  enum class Type : std::uint8_t { text, integer, number, flag, texts, integers };
  In in = In::body;
  Type type = Type::text;
  std::string name;
  std::string summary = {};  // one sentence
  bool required = false;
  bool may_be_blank = false;              // of a required text
  std::vector<std::string> choices = {};  // of a text
  std::int64_t least = 0;                 // of integers; other numbers lie above it
  std::int64_t most = INT64_MAX;
};

// What a route answers, with the name of the schema of its body.
struct RouteAnswer {
  int status = 200;
  std::string schema;
};

// A resource of the admin server, as data: the server, its 404 and 405 answers, the checks of what
// a request says (fields.h) and the description of the interface (openapi.h) are all made from
// these rows.
struct Route {
  std::string method;        // upper case; GET answers HEAD as well
  std::string pattern;       // "/streams/{stream}/pause": literal and {name} segments
  bool needs_token = false;  // everything that changes state, or shows what entries say
  bool may_block = true;     // false: runs on the I/O thread, which serves everybody
  std::string summary;       // one sentence
  // With may_block called from any handler thread, several at a time. Returns by request.deadline.
  // What it throws becomes a 500 and a line in the log.
  std::function<Response(const Request&)> handler;
  // On the one thread for what asks the database: others are served while that hangs. When too many
  // requests wait for it, further ones are refused.
  bool asks_database = false;
  std::vector<RouteField> fields = {};
  std::vector<RouteAnswer> answers = {};  // the success first; further ones that are not an Error
  std::vector<int> refusals = {};         // those that the rest of the row does not tell
  std::string content_type = "application/json";  // of its answers
};

// Finds the route of a request. Immutable, safe to read from any thread.
class RouteTable {
 public:
  // Throws std::logic_error for a malformed pattern or two rows that match the same requests.
  explicit RouteTable(std::vector<Route> routes);

  struct Match {
    enum class Kind { found, not_found, wrong_method, malformed } kind = Kind::not_found;
    const Route* route = nullptr;  // found
    std::map<std::string, std::string, std::less<>> params;
    std::map<std::string, std::string, std::less<>> query;
    std::vector<std::string> allowed;  // wrong_method: for the Allow header
    std::string path;                  // as sent, without the query
  };
  // `target` is the request line's: an absolute path or URL, with or without a query.
  [[nodiscard]] Match match(std::string_view method, std::string_view target) const;

  [[nodiscard]] std::span<const Route> routes() const noexcept { return routes_; }

 private:
  std::vector<Route> routes_;
  std::vector<std::vector<std::string>> segments_;  // of each route's pattern
};

}  // namespace outfall
