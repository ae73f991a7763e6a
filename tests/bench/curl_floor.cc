#include "tests/bench/curl_floor.h"

#include <array>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <sys/epoll.h>
#include <unistd.h>
#include <vector>

#include <curl/curl.h>

#include "tests/bench/usage.h"

namespace outfall::bench {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::array kHeaders{
    "content-type: application/json",
    "ce-specversion: 1.0",
    "ce-id: 01935a6e-7c1b-7e3a-9a52-3f8c61d2b7a4",
    "ce-source: /outfall/orders",
    "ce-type: order.created",
    "ce-time: 2025-11-21T12:00:00.123456Z",
    "ce-partitionkey: customer-1234",
    "webhook-id: 01935a6e-7c1b-7e3a-9a52-3f8c61d2b7a4",
    "webhook-timestamp: 1763726400",
    "user-agent: outfall/0.0.0",
    "Expect:",
};

std::size_t ignore_body(char*, std::size_t, std::size_t size, void*) {
  return size;
}

class MultiLoop {
 public:
  MultiLoop(const std::string& url, int in_flight, std::int64_t requests, int body_bytes)
      : to_start_(requests),
        unanswered_(requests),
        body_(static_cast<std::size_t>(body_bytes), 'x'),
        multi_(curl_multi_init(), curl_multi_cleanup),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &MultiLoop::on_socket);
    curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &MultiLoop::on_timer);
    curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(in_flight));
    for (const char* header : kHeaders) {
      headers_.reset(curl_slist_append(headers_.release(), header));
    }
    for (int i = 0; i < in_flight; ++i) add_transfer(url);
  }
  ~MultiLoop() {
    for (const Easy& easy : transfers_) curl_multi_remove_handle(multi_.get(), easy.get());
    multi_.reset();
    ::close(epoll_);
  }
  MultiLoop(const MultiLoop&) = delete;
  MultiLoop& operator=(const MultiLoop&) = delete;

  void run() {
    for (const Easy& easy : transfers_) start(easy.get());
    while (unanswered_ > 0) {
      wait();
      restart_ended();
    }
  }

 private:
  using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

  void add_transfer(const std::string& url) {
    CURL* easy = transfers_.emplace_back(curl_easy_init(), curl_easy_cleanup).get();
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body_.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(body_.size()));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &ignore_body);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 15'000L);
  }

  void start(CURL* easy) {
    if (to_start_ == 0) return;
    --to_start_;
    curl_multi_add_handle(multi_.get(), easy);
  }

  static int on_timer(CURLM*, long timeout_ms, void* self) {
    static_cast<MultiLoop*>(self)->timer_at_ = timeout_ms < 0
                                                   ? steady_clock::time_point::max()
                                                   : steady_clock::now() + milliseconds(timeout_ms);
    return 0;
  }

  // What libcurl no longer wants stays registered: its connection is about to be used again, and
  // two calls to the kernel a request are saved.
  static int on_socket(CURL*, curl_socket_t socket, int what, void* loop, void*) {
    auto& self = *static_cast<MultiLoop*>(loop);
    if (what == CURL_POLL_REMOVE) return 0;
    const auto place = static_cast<std::size_t>(socket);
    if (place >= self.registered_.size()) self.registered_.resize(place + 64);
    std::uint32_t events = 0;
    if ((what & CURL_POLL_IN) != 0) events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0) events |= EPOLLOUT;
    if (self.registered_[place] == events) return 0;
    epoll_event event{.events = events, .data = {.fd = socket}};
    if (::epoll_ctl(self.epoll_, EPOLL_CTL_MOD, socket, &event) != 0) {
      ::epoll_ctl(self.epoll_, EPOLL_CTL_ADD, socket, &event);
    }
    self.registered_[place] = events;
    return 0;
  }

  void wait() {
    constexpr int kEventsPerTurn = 512;
    constexpr milliseconds kLongest{1000};
    std::array<epoll_event, kEventsPerTurn> events{};
    milliseconds pause = kLongest;
    const auto now = steady_clock::now();
    if (timer_at_ < now + kLongest) {
      pause = std::max(milliseconds{0}, std::chrono::ceil<milliseconds>(timer_at_ - now));
    }
    const int ready =
        ::epoll_wait(epoll_, events.data(), kEventsPerTurn, static_cast<int>(pause.count()));
    int running = 0;
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      int what = 0;
      if ((event.events & EPOLLIN) != 0) what |= CURL_CSELECT_IN;
      if ((event.events & EPOLLOUT) != 0) what |= CURL_CSELECT_OUT;
      if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) what |= CURL_CSELECT_ERR;
      curl_multi_socket_action(multi_.get(), event.data.fd, what, &running);
    }
    if (steady_clock::now() < timer_at_) return;
    timer_at_ = steady_clock::time_point::max();
    curl_multi_socket_action(multi_.get(), CURL_SOCKET_TIMEOUT, 0, &running);
  }

  void restart_ended() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      CURL* easy = message->easy_handle;
      const CURLcode code = message->data.result;
      long status = 0;
      curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
      if (code != CURLE_OK || status != 204) {
        throw std::runtime_error(std::string("the bare loop: ") + curl_easy_strerror(code) +
                                 ", status " + std::to_string(status));
      }
      --unanswered_;
      curl_multi_remove_handle(multi_.get(), easy);
      start(easy);
    }
  }

  std::int64_t to_start_;
  std::int64_t unanswered_;
  const std::string body_;
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers_{nullptr,
                                                                       curl_slist_free_all};
  std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)> multi_;
  int epoll_;
  std::vector<Easy> transfers_;
  steady_clock::time_point timer_at_ = steady_clock::time_point::max();
  std::vector<std::uint32_t> registered_;  // by descriptor; no connection ends meanwhile
};

}  // namespace

CurlFloor post_with_curl(const std::string& url, int in_flight, std::int64_t requests,
                         int body_bytes) {
  MultiLoop loop(url, in_flight, requests, body_bytes);
  const auto begun = steady_clock::now();
  const double cpu = thread_cpu_seconds();
  loop.run();
  return {.seconds = std::chrono::duration<double>(steady_clock::now() - begun).count(),
          .cpu = thread_cpu_seconds() - cpu,
          .requests = requests};
}

}  // namespace outfall::bench
