#include "tests/integration/admin_client.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <memory>
#include <netinet/in.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include <curl/curl.h>

namespace outfall::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kDeadline{30'000};

std::size_t take_body(char* data, std::size_t size, std::size_t n, void* out) {
  static_cast<std::string*>(out)->append(data, size * n);
  return size * n;
}

std::size_t take_header(char* data, std::size_t size, std::size_t n, void* out) {
  const std::string_view line(data, size * n);
  if (const auto colon = line.find(':'); colon != std::string_view::npos) {
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    while (!value.empty() && (value.back() == '\r' || value.back() == '\n')) value.remove_suffix(1);
    (*static_cast<std::map<std::string, std::string>*>(out))[name] = value;
  }
  return size * n;
}

// libcurl wants to be set up by one thread before any other uses it.
const CURLcode kCurlReady = curl_global_init(CURL_GLOBAL_DEFAULT);

}  // namespace

AdminAnswer http_call(const HttpCall& call) {
  if (kCurlReady != CURLE_OK) throw std::runtime_error("libcurl is not usable");
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  curl_slist* list = nullptr;
  for (const auto& header : call.headers) list = curl_slist_append(list, header.c_str());
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list,
                                                                            curl_slist_free_all);
  AdminAnswer answer;
  curl_easy_setopt(curl.get(), CURLOPT_URL, call.url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(curl.get(), CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(call.deadline.count()));
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, call.method.c_str());
  if (call.method == "HEAD") curl_easy_setopt(curl.get(), CURLOPT_NOBODY, 1L);
  if (call.body) {
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(call.body->size()));
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, call.body->c_str());
  }
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(curl.get(), CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl.get(), CURLOPT_HEADERDATA, &answer.headers);
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) {
    throw std::runtime_error(call.method + " " + call.url + ": " + curl_easy_strerror(code));
  }
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  return answer;
}

AdminAnswer http_get(const std::string& url) {
  return http_call({.url = url});
}

RawConnection::RawConnection(std::uint16_t port)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr storage{};
  std::memcpy(&storage, &address, sizeof(address));
  if (fd_ < 0 || connect(fd_, &storage, sizeof(address)) != 0) {
    const int error = errno;
    if (fd_ >= 0) close(fd_);
    throw std::runtime_error(std::string("connect: ") + std::strerror(error));
  }
}

RawConnection::~RawConnection() {
  close(fd_);
}

bool RawConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::optional<bool> RawConnection::receive(milliseconds wait) {
  if (ended_) return false;
  pollfd poll_fd{.fd = fd_, .events = POLLIN, .revents = 0};
  if (poll(&poll_fd, 1, static_cast<int>(wait.count())) <= 0) return std::nullopt;
  char buffer[65536];
  const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
  if (n > 0) received_.append(buffer, static_cast<std::size_t>(n));
  ended_ = n <= 0;
  return !ended_;
}

std::string RawConnection::read_to_end() {
  while (true) {
    const auto more = receive(kDeadline);
    if (!more) throw std::runtime_error("the connection stays open, having sent: " + received_);
    if (!*more) return std::exchange(received_, {});
  }
}

std::string RawConnection::read_until(std::string_view text) {
  auto found = received_.find(text);
  while (found == std::string::npos) {
    if (!receive(kDeadline).value_or(false)) {
      throw std::runtime_error("no \"" + std::string(text) + "\" in: " + received_);
    }
    found = received_.find(text);
  }
  std::string result = received_.substr(0, found + text.size());
  received_.erase(0, result.size());
  return result;
}

bool RawConnection::ends_within(milliseconds wait) {
  const auto until = steady_clock::now() + wait;
  while (!ended_ && steady_clock::now() < until) {
    receive(std::chrono::duration_cast<milliseconds>(until - steady_clock::now()));
  }
  return ended_;
}

}  // namespace outfall::test
