#include "emitters/webhook/multi_loop.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <stdexcept>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

#include <climits>

namespace outfall::webhook {
namespace {

constexpr std::size_t kEventsPerTurn = 512;

MonotonicTime now() {
  return std::chrono::steady_clock::now();
}

// The port of this end of a socket; 0 where there is none.
int local_port_of(curl_socket_t socket) noexcept {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

}  // namespace

MultiLoop::MultiLoop(Limits limits) : multi_(curl_multi_init()) {
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {.fd = wake_}};
  if (multi_ == nullptr || epoll_ < 0 || wake_ < 0 ||
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) {
    const int error = errno;
    if (wake_ >= 0) ::close(wake_);
    if (epoll_ >= 0) ::close(epoll_);
    curl_multi_cleanup(multi_);
    throw std::system_error(error, std::generic_category(), "epoll for webhooks");
  }
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &MultiLoop::on_socket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &MultiLoop::on_timer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, limits.idle_connections);
}

MultiLoop::~MultiLoop() {
  // Closes idle connections, which calls socket_closed().
  curl_multi_cleanup(multi_);
  ::close(wake_);
  ::close(epoll_);
}

bool MultiLoop::add(CURL* transfer) noexcept {
  return curl_multi_add_handle(multi_, transfer) == CURLM_OK;
}

void MultiLoop::remove(CURL* transfer) noexcept {
  curl_multi_remove_handle(multi_, transfer);
}

void MultiLoop::wake() noexcept {
  const std::uint64_t one = 1;
  // It fails only when the counter is full, and then the loop wakes up as well.
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

MultiLoop::Watched& MultiLoop::at(curl_socket_t socket) {
  const auto place = static_cast<std::size_t>(socket);
  if (place >= watched_.size()) watched_.resize(place + 64);
  return watched_[place];
}

void MultiLoop::socket_opened(curl_socket_t socket) noexcept try {
  ++open_sockets_;
  ++opened_sockets_;
  at(socket).number = opened_sockets_;
} catch (...) {  // Out of memory: it cannot be watched either.
}

void MultiLoop::socket_closed(curl_socket_t socket) noexcept {
  --open_sockets_;
  const auto place = static_cast<std::size_t>(socket);
  if (place >= watched_.size()) return;
  connections_.erase(watched_[place].ends);
  watched_[place] = {};
}

MultiLoop::Connection MultiLoop::connection(const std::string& ends, int local_port,
                                            const std::vector<curl_socket_t>& opened) {
  auto known = connections_.find(ends);
  if (known == connections_.end()) {
    // Of several that were tried at once the others are closed by now, or have another port.
    const auto own = std::ranges::find_if(opened, [&](curl_socket_t socket) {
      const Watched& watched = at(socket);
      return watched.number != 0 && watched.ends.empty() && local_port_of(socket) == local_port;
    });
    if (own == opened.end()) return {};
    known = connections_.emplace(ends, *own).first;
    at(*own).ends = ends;
  }
  const Watched& watched = at(known->second);
  return {known->second, watched.number, watched.answers};
}

MultiLoop::Watched* MultiLoop::find(const Connection& connection) noexcept {
  const auto place = static_cast<std::size_t>(connection.socket);
  if (connection.socket == CURL_SOCKET_BAD || place >= watched_.size()) return nullptr;
  Watched& watched = watched_[place];
  return watched.number == connection.number ? &watched : nullptr;
}

void MultiLoop::answered(const Connection& connection) noexcept {
  if (Watched* const watched = find(connection)) ++watched->answers;
}

void MultiLoop::unanswered(const Connection& connection) noexcept {
  const Watched* const watched = find(connection);
  if (watched == nullptr || watched->answers != connection.answers) return;
  // libcurl finds the end like any other, and closes the socket.
  ::shutdown(connection.socket, SHUT_RDWR);
}

int MultiLoop::on_timer(CURLM*, long timeout_ms, void* loop) noexcept {
  static_cast<MultiLoop*>(loop)->timer_at_ =
      timeout_ms < 0 ? MonotonicTime::max() : now() + Milliseconds{timeout_ms};
  return 0;
}

int MultiLoop::on_socket(CURL*, curl_socket_t socket, int what, void* loop, void*) noexcept {
  static_cast<MultiLoop*>(loop)->watch(socket, what);
  return 0;
}

void MultiLoop::watch(curl_socket_t socket, int what) noexcept try {
  Watched& watched = at(socket);
  watched.wanted = 0;
  if (what == CURL_POLL_REMOVE) {
    // libcurl closes its own descriptors, such as those of its resolver, without a word, and the
    // next one of this number has to be registered anew.
    if (watched.number == 0) forget(socket);
    return;
  }
  if ((what & CURL_POLL_IN) != 0) watched.wanted |= EPOLLIN;
  if ((what & CURL_POLL_OUT) != 0) watched.wanted |= EPOLLOUT;
  if (watched.registered == watched.wanted) return;
  epoll_event event{.events = watched.wanted, .data = {.fd = socket}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, socket, &event) != 0) {
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event);
  }
  watched.registered = watched.wanted;
} catch (...) {  // Out of memory: the transfer runs into its time-out.
}

void MultiLoop::forget(curl_socket_t socket) noexcept {
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, socket, nullptr);
  watched_[static_cast<std::size_t>(socket)].registered = 0;
}

void MultiLoop::turn(Milliseconds at_most, const Done& done) {
  const auto until_timer = std::chrono::ceil<Milliseconds>(
      std::min<MonotonicTime::duration>(timer_at_ - now(), std::chrono::hours{1}));
  const auto wait = std::clamp<std::int64_t>(std::min(at_most, until_timer).count(), 0, INT_MAX);
  std::array<epoll_event, kEventsPerTurn> events{};
  const int ready =
      ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), static_cast<int>(wait));
  int running = 0;
  for (int i = 0; i < ready; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const int socket = event.data.fd;
    if (socket == wake_) {
      std::uint64_t wakes = 0;
      [[maybe_unused]] const ssize_t consumed = ::read(wake_, &wakes, sizeof wakes);
      continue;
    }
    Watched& watched = watched_[static_cast<std::size_t>(socket)];
    if (watched.wanted == 0) {
      forget(socket);
      continue;
    }
    int what = 0;
    if ((event.events & EPOLLIN) != 0) what |= CURL_CSELECT_IN;
    if ((event.events & EPOLLOUT) != 0) what |= CURL_CSELECT_OUT;
    if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(multi_, socket, what, &running);
  }
  if (now() >= timer_at_) {
    timer_at_ = MonotonicTime::max();
    curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
  }
  collect(done);
}

void MultiLoop::collect(const Done& done) {
  int left = 0;
  while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    CURL* const transfer = message->easy_handle;
    const CURLcode code = message->data.result;
    curl_multi_remove_handle(multi_, transfer);
    done(transfer, code);
  }
}

}  // namespace outfall::webhook
