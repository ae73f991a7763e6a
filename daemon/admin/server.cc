#include "daemon/admin/server.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <optional>
#include <pthread.h>
#include <thread>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/system/system_error.hpp>

#include "config/listen_address.h"
#include "core/mutex.h"

namespace outfall {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr Milliseconds kDestructorTimeout{1000};
constexpr Milliseconds kAcceptRetry{100};

// Threads started in its scope get no signals; those belong to the main loop.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t before_{};
};

// Counts handlers that are queued or running, so that stop() can wait for them with a bound.
class TaskCount {
 public:
  // False, and not counted, where there are so many already.
  bool add(std::size_t most = SIZE_MAX) {
    const MutexLock lock(mutex_);
    if (count_ >= most) return false;
    ++count_;
    return true;
  }
  void remove() {
    const MutexLock lock(mutex_);
    if (--count_ == 0) none_.notify_all();
  }
  bool wait_none(std::chrono::steady_clock::time_point until) {
    MutexLock lock(mutex_);
    while (count_ != 0 && none_.wait_until(lock, until)) {
    }
    return count_ == 0;
  }

 private:
  Mutex mutex_;
  Condition none_;
  std::size_t count_ OUTFALL_GUARDED_BY(mutex_) = 0;
};

[[noreturn]] void throw_listen_error(const std::string& listen, const std::string& reason,
                                     const std::string& hint, bool in_use = false) {
  throw AdminListenError("admin.listen = \"" + listen + "\": " + reason + "; " + hint, in_use);
}

tcp::endpoint parse_endpoint(const std::string& listen) {
  const auto address = parse_listen_address(listen);
  if (!address) {
    throw_listen_error(
        listen, "not an address to listen on",
        "write an IP address and a port, as in \"127.0.0.1:9464\" or \"[::1]:9464\"");
  }
  return {asio::ip::make_address(address->host), address->port};
}

// Asio's sockets survive an exec, and a program that an emitter starts must not keep the port.
void close_on_exec(int fd) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
}

tcp::acceptor open_acceptor(asio::io_context& io, const std::string& listen) {
  const tcp::endpoint endpoint = parse_endpoint(listen);
  try {
    tcp::acceptor acceptor(io, endpoint, /*reuse_addr=*/true);
    close_on_exec(acceptor.native_handle());
    return acceptor;
  } catch (const boost::system::system_error& e) {
    const bool in_use = e.code() == asio::error::address_in_use;
    throw_listen_error(listen, e.code().message(),
                       in_use ? "set another port, or stop the process that has this one"
                              : "set an address of this machine and a port that this user may take",
                       in_use);
  }
}

}  // namespace

class AdminServer::Impl {
 public:
  Impl(const AdminOptions& options, std::vector<Route> routes, Logger& log)
      : limits_(options.limits),
        token_(options.token),
        routes_(std::move(routes)),
        log_(log),
        wrong_tokens_(options.limits.wrong_tokens),
        context_{.limits = limits_,
                 .routes = routes_,
                 .token = token_,
                 .wrong_tokens = wrong_tokens_,
                 .log = log_,
                 .stop = stop_source_.get_token(),
                 .run_blocking =
                     [this](const Route& route, std::function<void()> task) {
                       return run(route, std::move(task));
                     },
                 .on_end = [this] { on_session_end(); },
                 .sessions = {}},
        acceptor_(open_acceptor(io_, options.listen)),
        accept_timer_(io_),
        stop_timer_(io_),
        endpoint_(acceptor_.local_endpoint()) {
    const Response busy = error_response(503, "too_many_connections",
                                         "all connections of the admin server are in use",
                                         "close some, or try again later");
    busy_ = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: " + busy.content_type +
            "\r\nContent-Length: " + std::to_string(busy.body.size()) +
            "\r\nConnection: close\r\n\r\n" + busy.body;
  }

  ~Impl() {
    stop(kDestructorTimeout);
    if (handlers_) handlers_->join();
    if (database_) database_->join();
    stopping_ = false;  // sessions that end from here on have nothing to wake
  }

  void start() {
    const BlockSignals block;
    handlers_.emplace(limits_.handler_threads);
    database_.emplace(1);
    accept();
    io_thread_ = std::thread([this] { run_io(); });
    log_.info("admin server listens", {{"address", address()}});
  }

  void set_token(const std::string& token) {
    asio::post(io_, [this, next = BearerToken(token)] { token_ = next; });
  }

  bool stop(Milliseconds timeout) {
    if (!io_thread_.joinable() && !handlers_) return true;
    const auto until = std::chrono::steady_clock::now() + timeout;
    if (io_thread_.joinable()) {
      asio::post(io_, [this, until] { begin_stop(until); });
      io_thread_.join();
      discard_tasks_ = true;
    }
    const auto end = std::max(until, std::chrono::steady_clock::now());
    return tasks_.wait_none(end) && database_tasks_.wait_none(end);
  }

  [[nodiscard]] std::uint16_t port() const noexcept { return endpoint_.port(); }
  [[nodiscard]] std::string address() const {
    const auto host = endpoint_.address().to_string();
    const std::string port = std::to_string(endpoint_.port());
    return endpoint_.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
  }
  [[nodiscard]] std::span<const Route> routes() const noexcept { return routes_.routes(); }

 private:
  // Everything below runs on the I/O thread once it is there.
  void run_io() {
    for (;;) {
      try {
        io_.run();
        return;
      } catch (const std::exception& e) {
        // Out of memory, most likely. The connection that it happened to is closed, the others go
        // on.
        log_.limited(LogLevel::error, "admin.io", "admin server failed", {{"error", e.what()}});
      }
    }
  }

  void accept() {
    acceptor_.async_accept([this](error_code ec, tcp::socket socket) {
      if (stopping_) return;  // perhaps with a connection that came just before
      if (ec) return accept_later(ec);
      accept();
      welcome(std::move(socket));
    });
  }

  // Out of file descriptors, most likely: the waiting client stays in the backlog.
  void accept_later(error_code ec) {
    log_.limited(LogLevel::warning, "admin.accept", "admin server cannot accept",
                 {{"error", ec.message()}});
    accept_timer_.expires_after(kAcceptRetry);
    accept_timer_.async_wait([this](error_code timer_ec) {
      if (!timer_ec && !stopping_) accept();
    });
  }

  void welcome(tcp::socket socket) {
    close_on_exec(socket.native_handle());
    if (context_.sessions.size() >= limits_.max_connections) make_room();
    if (context_.sessions.size() >= limits_.max_connections) return turn_away(std::move(socket));
    Session::create(std::move(socket), context_)->start();
  }

  // Connections that are merely kept open give way, the longest idle one first.
  void make_room() {
    Session* oldest = nullptr;
    for (Session* session : context_.sessions) {
      const auto since = session->idle_since();
      if (since && (oldest == nullptr || *since < *oldest->idle_since())) oldest = session;
    }
    if (oldest != nullptr) evict(*oldest);
  }

  // The session ends with the operation that its abort cancels, a turn of the loop later; until
  // then it must not be counted.
  void evict(Session& session) {
    context_.sessions.erase(&session);
    session.abort();
  }

  void turn_away(tcp::socket socket) {
    log_.limited(LogLevel::warning, "admin.connections", "admin server has too many connections",
                 {{"connections", limits_.max_connections}});
    error_code ec;
    socket.non_blocking(true, ec);
    socket.write_some(asio::buffer(busy_), ec);
  }

  bool run(const Route& route, std::function<void()> task) {
    TaskCount& tasks = route.asks_database ? database_tasks_ : tasks_;
    // One more than may wait is at work.
    if (!tasks.add(route.asks_database ? limits_.database_queue + 1 : SIZE_MAX)) return false;
    asio::post(
        route.asks_database ? *database_ : *handlers_,
        [guard = std::shared_ptr<TaskCount>(&tasks, [](TaskCount* counted) { counted->remove(); }),
         this, task = std::move(task)]() mutable {
          if (discard_tasks_) {
            // Nobody waits for the answer any more; the session in it ends with the I/O
            // context.
            asio::post(io_, [task = std::move(task)] {});
          } else {
            task();
          }
          task = nullptr;
        });
    return true;
  }

  void begin_stop(std::chrono::steady_clock::time_point until) {
    stop_source_.request_stop();
    stopping_ = true;
    error_code ec;
    acceptor_.close(ec);
    accept_timer_.cancel();
    if (context_.sessions.empty()) return;
    stop_timer_.expires_at(until);
    stop_timer_.async_wait([this](error_code timer_ec) {
      if (!timer_ec) abort_all();
    });
    // finish() may end a session, and so change the set.
    const std::vector<Session*> sessions(context_.sessions.begin(), context_.sessions.end());
    for (Session* session : sessions) session->finish();
  }

  void abort_all() {
    const std::vector<Session*> sessions(context_.sessions.begin(), context_.sessions.end());
    for (Session* session : sessions) session->abort();
  }

  void on_session_end() {
    if (stopping_ && context_.sessions.empty()) stop_timer_.cancel();
  }

  const AdminLimits limits_;
  BearerToken token_;  // the I/O thread's
  const RouteTable routes_;
  Logger& log_;
  std::stop_source stop_source_;
  TaskCount tasks_;
  TaskCount database_tasks_;
  WrongTokens wrong_tokens_;
  SessionContext context_;
  std::string busy_;  // the whole response to one connection too many
  bool stopping_ = false;
  std::atomic<bool> discard_tasks_{false};

  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer accept_timer_;
  asio::steady_timer stop_timer_;
  const tcp::endpoint endpoint_;
  std::thread io_thread_;
  std::optional<asio::thread_pool> handlers_;
  std::optional<asio::thread_pool> database_;
};

AdminServer::AdminServer(const AdminOptions& options, std::vector<Route> routes, Logger& log)
    : impl_(std::make_unique<Impl>(options, std::move(routes), log)) {
}

AdminServer::~AdminServer() = default;

void AdminServer::start() {
  impl_->start();
}

void AdminServer::set_token(const std::string& token) {
  impl_->set_token(token);
}

bool AdminServer::stop(Milliseconds timeout) {
  return impl_->stop(timeout);
}

std::uint16_t AdminServer::port() const noexcept {
  return impl_->port();
}

std::string AdminServer::address() const {
  return impl_->address();
}

std::span<const Route> AdminServer::routes() const noexcept {
  return impl_->routes();
}

}  // namespace outfall
