#include "daemon/admin/session.h"

#include <exception>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

namespace outfall {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using beast::error_code;

// One handler's run, shared between the session and the handler thread so that neither needs the
// other to be alive: the session may have answered by itself when the handler returns.
struct Task {
  const Route& route;
  Request request;
  Response response;
};

Response call(const Route& route, const Request& request, Logger& log) {
  try {
    return route.handler(request);
  } catch (const std::exception& e) {
    log.error("admin handler failed",
              {{"method", route.method}, {"route", route.pattern}, {"error", e.what()}});
  } catch (...) {
    log.error("admin handler failed", {{"method", route.method}, {"route", route.pattern}});
  }
  return error_response(500, "internal_error", "the request failed inside outfall",
                        "see outfall's log for the reason");
}

Response not_found(const RouteTable& table) {
  std::string hint = "there is";
  for (const Route& route : table.routes()) hint += " " + route.method + " " + route.pattern + ",";
  if (hint.ends_with(',')) hint.pop_back();
  return error_response(404, "not_found", "nothing is at this path", hint);
}

Response wrong_method(const std::vector<std::string>& allowed) {
  std::string list;
  for (const std::string& method : allowed) list += (list.empty() ? "" : ", ") + method;
  Response response = error_response(405, "method_not_allowed",
                                     "this path does not take the method", "use " + list);
  response.headers.emplace_back("Allow", list);
  return response;
}

Response unauthorized(bool given) {
  Response response = error_response(
      401, "unauthorized", given ? "the bearer token is wrong" : "a bearer token is missing",
      "send the header \"Authorization: Bearer <token>\" with the token of admin.token");
  response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"outfall\"");
  return response;
}

Response too_many_failures(std::chrono::seconds wait) {
  Response response = error_response(
      429, "too_many_failures",
      "too many requests with a wrong bearer token came from this address",
      "send the token of admin.token_file, or wait " + std::to_string(wait.count()) + " s");
  response.headers.emplace_back("Retry-After", std::to_string(wait.count()));
  return response;
}

Response too_busy() {
  Response response =
      error_response(503, "busy", "too many requests wait for the database", "try again later");
  response.headers.emplace_back("Retry-After", "5");
  return response;
}

Response too_late() {
  return error_response(504, "timeout", "outfall could not answer in time",
                        "the request may still take effect: look before you repeat it");
}

Response protocol_error(error_code ec, const AdminLimits& limits) {
  if (ec == http::error::body_limit) {
    return error_response(413, "body_too_large", "the body is too large",
                          "send at most " + std::to_string(limits.max_body_bytes) + " bytes");
  }
  if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
    return error_response(431, "header_too_large", "the request's header is too large",
                          "send at most " + std::to_string(limits.max_header_bytes) + " bytes");
  }
  return error_response(400, "malformed_request", ec.message(),
                        "send an HTTP/1.1 request; this port does not speak TLS");
}

class BeastSession final : public Session, public std::enable_shared_from_this<BeastSession> {
 public:
  BeastSession(tcp::socket socket, SessionContext& context)
      : context_(context),
        limits_(context.limits),
        stream_(std::move(socket)),
        handler_timer_(stream_.get_executor()) {
    error_code ec;
    const auto remote = stream_.socket().remote_endpoint(ec);
    if (!ec) {
      remote_ = remote.address().to_string();
      remote_group_ = WrongTokens::group(remote.address());
    }
    context_.sessions.insert(this);
  }

  ~BeastSession() override {
    context_.sessions.erase(this);
    context_.on_end();
  }

  void start() override { wait_for_request(); }

  void finish() override {
    if (idle_since_ || lingering_) abort();
  }

  void abort() override {
    handler_timer_.cancel();
    task_.reset();
    stream_.close();
  }

  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> idle_since() const override {
    return idle_since_;
  }

 private:
  void wait_for_request() {
    is_head_ = false;
    version_ = 11;
    parser_.emplace();
    parser_->header_limit(limits_.max_header_bytes);
    parser_->body_limit(limits_.max_body_bytes);
    if (buffer_.size() > 0) return read_header();  // the client has sent the next one already
    if (context_.stop.stop_requested()) return abort();
    idle_since_ = std::chrono::steady_clock::now();
    stream_.expires_after(limits_.idle_timeout);
    stream_.async_read_some(buffer_.prepare(4096),
                            [self = shared_from_this()](error_code ec, std::size_t n) {
                              if (ec) return;
                              self->buffer_.commit(n);
                              self->read_header();
                            });
  }

  // One deadline for the whole request, however slowly its bytes drip in.
  void read_header() {
    idle_since_.reset();
    stream_.expires_after(limits_.request_timeout);
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](error_code ec, std::size_t) { self->on_header(ec); });
  }

  // Decides by the header alone, so that nobody uploads a body only to be refused.
  void on_header(error_code ec) {
    if (ec) return on_read_error(ec);
    const auto& header = parser_->get();
    const std::string method(header.method_string());
    is_head_ = method == "HEAD";
    version_ = header.version();
    const std::string_view target(header.target().data(), header.target().size());
    match_ = context_.routes.match(method, target);
    if (auto refusal = refuse(method)) {
      return respond(std::move(*refusal), parser_->is_done() && parser_->keep_alive());
    }
    if (beast::iequals(header[http::field::expect], "100-continue") && !parser_->is_done()) {
      return write_continue();
    }
    read_body();
  }

  std::optional<Response> refuse(const std::string& method) {
    using Kind = RouteTable::Match::Kind;
    switch (match_.kind) {
      case Kind::not_found:
        return not_found(context_.routes);
      case Kind::wrong_method:
        return wrong_method(match_.allowed);
      case Kind::malformed:
        return error_response(400, "malformed_target", "the path or query is malformed",
                              "percent-encode it, without control characters, each name once");
      case Kind::found:
        break;
    }
    if (!match_.route->needs_token) return std::nullopt;
    return refuse_token(method);
  }

  std::optional<Response> refuse_token(const std::string& method) {
    if (!context_.token.is_set()) {
      return error_response(403, "forbidden", "this server takes no bearer token",
                            "set admin.token_file to allow operating over HTTP");
    }
    // The right token is never refused: behind a proxy everybody has one address, and operators
    // must not be locked out by somebody who guesses. check-config sees to it that guessing is
    // vain.
    const auto authorization = parser_->get()[http::field::authorization];
    if (context_.token.allows({authorization.data(), authorization.size()})) return std::nullopt;
    const MonotonicTime now = std::chrono::steady_clock::now();
    const std::chrono::seconds wait = context_.wrong_tokens.wait(remote_group_, now);
    // Who sends none has not guessed.
    if (!authorization.empty() && wait.count() == 0) {
      context_.wrong_tokens.count(remote_group_, now);
    }
    context_.log.limited(LogLevel::warning, "admin.unauthorized", "admin request refused",
                         {{"method", method},
                          {"route", match_.route->pattern},
                          {"remote", remote_},
                          {"error_code", "unauthorized"}});
    return wait.count() > 0 ? too_many_failures(wait) : unauthorized(!authorization.empty());
  }

  void write_continue() {
    continue_.emplace(http::status::continue_, 11);
    http::async_write(stream_, *continue_, [self = shared_from_this()](error_code ec, std::size_t) {
      if (!ec) self->read_body();
    });
  }

  void read_body() {
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code ec, std::size_t) {
                       if (ec) return self->on_read_error(ec);
                       self->dispatch();
                     });
  }

  // Answers what the client said wrongly; when it is gone, too slow or done, the connection just
  // ends.
  void on_read_error(error_code ec) {
    if (ec == http::error::end_of_stream || ec == http::error::partial_message ||
        ec.category() != make_error_code(http::error::bad_method).category()) {
      return;
    }
    respond(protocol_error(ec, limits_), false);
  }

  void dispatch() {
    auto message = parser_->release();
    keep_alive_ = message.keep_alive();
    stream_.expires_never();
    auto task = std::make_shared<Task>(Task{*match_.route, {}, {}});
    Request& request = task->request;
    request.method = message.method_string();
    request.path = std::move(match_.path);
    request.params = std::move(match_.params);
    request.query = std::move(match_.query);
    request.content_type = message[http::field::content_type];
    request.body = std::move(message.body());
    request.remote = remote_;
    request.deadline = std::chrono::steady_clock::now() + limits_.handler_timeout;
    request.stop = context_.stop;
    if (!task->route.may_block) {
      task->response = call(task->route, request, context_.log);
      return complete(*task);
    }
    run_on_handler_thread(std::move(task));
  }

  void run_on_handler_thread(std::shared_ptr<Task> task) {
    task_ = task;
    handler_timer_.expires_after(limits_.handler_timeout);
    handler_timer_.async_wait([self = shared_from_this()](error_code ec) {
      if (!ec) self->on_handler_timeout();
    });
    // The session is given back to the I/O thread by the move, so that it never ends elsewhere.
    const bool queued = context_.run_blocking(
        task_->route,
        [self = shared_from_this(), task = std::move(task), log = &context_.log]() mutable {
          // Nobody waits any more for what has come up too late, and so it does not begin.
          task->response = std::chrono::steady_clock::now() < task->request.deadline
                               ? call(task->route, task->request, *log)
                               : too_late();
          auto executor = self->stream_.get_executor();
          asio::post(executor, [self = std::move(self), task = std::move(task)] {
            if (self->task_ != task) return self->log_end(*task, "late admin request");
            self->task_.reset();
            self->handler_timer_.cancel();
            self->complete(*task);
          });
        });
    if (queued) return;
    task_.reset();
    handler_timer_.cancel();
    context_.log.limited(LogLevel::warning, "admin.busy", "admin request refused",
                         {{"remote", remote_}, {"error_code", "busy"}});
    respond(too_busy(), keep_alive_);
  }

  void on_handler_timeout() {
    if (!task_) return;
    context_.log.warning(
        "admin handler is slow",
        {{"method", task_->route.method}, {"route", task_->route.pattern}, {"remote", remote_}});
    task_.reset();
    respond(too_late(), false);
  }

  void complete(Task& task) {
    log_end(task, "admin request");
    respond(std::move(task.response), keep_alive_);
  }

  // Whoever changes state or reads what entries say leaves a line, also where the answer came too
  // late to be sent.
  void log_end(const Task& task, std::string_view what) {
    const LogLevel level = task.route.needs_token ? LogLevel::info : LogLevel::debug;
    context_.log.log(level, what,
                     {{"method", task.request.method},
                      {"path", task.request.path},
                      {"status", task.response.status},
                      {"remote", remote_}});
  }

  void respond(Response response, bool keep_alive) {
    keep_alive_ = keep_alive && !context_.stop.stop_requested();
    response_.emplace(static_cast<http::status>(response.status), version_);
    response_->set(http::field::server, "outfall");
    response_->set(http::field::cache_control, "no-store");
    response_->set("X-Content-Type-Options", "nosniff");
    if (!response.body.empty()) response_->set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) response_->set(name, value);
    response_->keep_alive(keep_alive_);
    response_->body() = std::move(response.body);
    response_->prepare_payload();
    if (is_head_) response_->body().clear();  // the length stays that of a GET
    stream_.expires_after(limits_.write_timeout);
    http::async_write(stream_, *response_, [self = shared_from_this()](error_code ec, std::size_t) {
      if (!ec) self->on_written();
    });
  }

  void on_written() {
    response_.reset();
    if (keep_alive_) return wait_for_request();
    error_code ec;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ec);
    lingering_ = true;
    stream_.expires_after(limits_.linger_timeout);
    linger();
  }

  // Closing while input is unread would reset the connection and take the response with it.
  void linger() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(16u << 10),
                            [self = shared_from_this()](error_code ec, std::size_t) {
                              if (!ec) self->linger();
                            });
  }

  SessionContext& context_;
  const AdminLimits& limits_;
  beast::tcp_stream stream_;
  asio::steady_timer handler_timer_;
  beast::flat_buffer buffer_;
  std::string remote_;
  std::string remote_group_;  // by which its wrong tokens are counted
  std::optional<std::chrono::steady_clock::time_point> idle_since_;
  bool keep_alive_ = false;
  bool is_head_ = false;
  unsigned version_ = 11;  // of HTTP, times ten
  bool lingering_ = false;

  std::optional<http::request_parser<http::string_body>> parser_;
  RouteTable::Match match_;
  std::shared_ptr<Task> task_;  // the handler's run that the client waits for
  std::optional<http::response<http::empty_body>> continue_;
  std::optional<http::response<http::string_body>> response_;
};

}  // namespace

std::shared_ptr<Session> Session::create(tcp::socket socket, SessionContext& context) {
  return std::make_shared<BeastSession>(std::move(socket), context);
}

}  // namespace outfall
