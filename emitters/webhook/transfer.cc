#include "emitters/webhook/transfer.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "core/text.h"
#include "emitters/webhook/retry_after.h"

namespace outfall::webhook {
namespace {

// An answer is read up to here, so that its connection can be used again; more of it is a flood.
constexpr std::size_t kMostResponseBytes = 64 << 10;
constexpr long kReceiveBufferBytes = 4 << 10;
constexpr std::size_t kMostRequestIdBytes = 128;
constexpr long kCaCacheSeconds = 300;
constexpr long kDnsCacheSeconds = 60;
// A connection that was idle for longer is not used again: endpoints and NATs forget it.
constexpr long kIdleSeconds = 60;

template <typename Value>
void set_option(CURL* handle, CURLoption option, Value value) {
  if (curl_easy_setopt(handle, option, value) == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
}

// Printable and valid text for a log or a table, at most `size` bytes.
std::string clean(std::string_view text, std::size_t size) {
  std::string result;
  while (!text.empty() && result.size() < size) {
    const std::size_t length = utf8_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (length == 0 || first <= 0x20 || first == 0x7f) {
      if (!result.empty() && result.back() != ' ') result += ' ';
      text.remove_prefix(1);
      continue;
    }
    if (result.size() + length > size) break;
    result += text.substr(0, length);
    text.remove_prefix(length);
  }
  while (result.ends_with(' ')) result.pop_back();
  return result;
}

}  // namespace

void set_up_connection(CURL* handle, const WebhookOptions& options) {
  const auto set = [handle](CURLoption option, auto value) { set_option(handle, option, value); };
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
  // Without it libcurl would wait for a hanging name server's thread, and all transfers with it.
  set(CURLOPT_QUICK_EXIT, 1L);
  set(CURLOPT_DNS_CACHE_TIMEOUT, kDnsCacheSeconds);
  set(CURLOPT_MAXAGE_CONN, kIdleSeconds);
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  // Also where it is empty, since otherwise libcurl would look for one in the environment.
  set(CURLOPT_PROXY, options.proxy.c_str());
  set(CURLOPT_NOPROXY, "");
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  set(CURLOPT_CA_CACHE_TIMEOUT, kCaCacheSeconds);
  set(CURLOPT_HTTP_VERSION,
      static_cast<long>(options.http1_only ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
  if (!options.ca_file.empty()) set(CURLOPT_CAINFO, options.ca_file.c_str());
  if (!options.certificate_file.empty()) {
    set(CURLOPT_SSLCERT, options.certificate_file.c_str());
    set(CURLOPT_SSLKEY, options.key_file.c_str());
  }
}

curl_socket_t open_checked(const AddressPolicy& policy, const curl_sockaddr& address,
                           std::string& refusal) noexcept {
  try {
    const auto parsed = Address::from(&address.addr);
    if (!parsed) return CURL_SOCKET_BAD;
    if (const std::string_view reason = policy.refusal(*parsed); !reason.empty()) {
      refusal = parsed->to_string() + " is not connected to: " + std::string(reason);
      return CURL_SOCKET_BAD;
    }
  } catch (...) {
    return CURL_SOCKET_BAD;
  }
  return ::socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
}

template <typename Value>
void Transfer::set(CURLoption option, Value value) {
  set_option(handle_, option, value);
}

Transfer::Transfer(const WebhookOptions& options, MultiLoop& loop)
    : options_(options), loop_(loop), handle_(curl_easy_init()) {
  if (handle_ == nullptr) throw std::bad_alloc();
  try {
    set_up();
  } catch (...) {
    curl_easy_cleanup(handle_);
    throw;
  }
}

Transfer::~Transfer() {
  abort();
  curl_easy_cleanup(handle_);
}

Transfer& Transfer::of(CURL* handle) noexcept {
  char* self = nullptr;
  curl_easy_getinfo(handle, CURLINFO_PRIVATE, &self);
  return *static_cast<Transfer*>(static_cast<void*>(self));
}

void Transfer::set_up() {
  set_up_connection(handle_, options_);
  set(CURLOPT_PRIVATE, static_cast<void*>(this));
  set(CURLOPT_ERRORBUFFER, error_.data());
  set(CURLOPT_RESOLVER_START_FUNCTION, &Transfer::on_lookup);
  set(CURLOPT_RESOLVER_START_DATA, static_cast<void*>(this));
  set(CURLOPT_OPENSOCKETFUNCTION, &Transfer::on_open);
  set(CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
  // A connection outlives the transfer that opened it, so its end is the loop's business.
  set(CURLOPT_CLOSESOCKETFUNCTION, &Transfer::on_close);
  set(CURLOPT_CLOSESOCKETDATA, static_cast<void*>(&loop_));
  set(CURLOPT_PREREQFUNCTION, &Transfer::on_ready);
  set(CURLOPT_PREREQDATA, static_cast<void*>(this));
  set(CURLOPT_WRITEFUNCTION, &Transfer::on_answer);
  set(CURLOPT_WRITEDATA, static_cast<void*>(this));
  // The lines of the head come to on_answer() too, each before libcurl stores it.
  set(CURLOPT_HEADER, 1L);
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  // Answers are short, and there may be thousands of transfers.
  set(CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  set(CURLOPT_POST, 1L);
}

bool Transfer::start(const std::string& url, Milliseconds timeout) {
  if (url != url_) {
    set(CURLOPT_URL, url.c_str());
    url_ = url;
  }
  const std::string_view body = request_.body();
  if (!options_.http1_only) {
    const bool is_http1 = loop_.http1_origins().takes(url, body.size());
    set(CURLOPT_HTTP_VERSION,
        static_cast<long>(is_http1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
  }
  // The text is read in place; libcurl wants a pointer also for nothing.
  set(CURLOPT_POSTFIELDS, body.empty() ? "" : body.data());
  set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  set(CURLOPT_HTTPHEADER, request_.headers());
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  error_[0] = '\0';
  excerpt_.clear();
  refused_address_.clear();
  received_ = 0;
  head_ = {};
  opened_.clear();
  connection_ = {};
  sent_ = false;
  repeated_ = false;
  short_of_sockets_ = false;
  short_of_lookups_ = false;
  looking_up_ = false;
  running_ = loop_.add(handle_);
  return running_;
}

void Transfer::abort() noexcept {
  if (running_) {
    loop_.remove(handle_);
    leave_lookup();
  }
  running_ = false;
}

void Transfer::leave_lookup() noexcept {
  if (std::exchange(looking_up_, false)) {
    loop_.abandoned_lookups().add(std::chrono::steady_clock::now());
  }
}

// Called before a name that is not in libcurl's cache is looked up, and for what is an address.
int Transfer::on_lookup(void*, void*, void* self) noexcept {
  auto& transfer = *static_cast<Transfer*>(self);
  if (!transfer.loop_.abandoned_lookups().leave_room(std::chrono::steady_clock::now())) {
    try {
      const auto target = target_of(transfer.url_);
      const auto* const known = std::get_if<UrlTarget>(&target);
      if (transfer.options_.proxy.empty() && known != nullptr && Address::parse(known->host)) {
        return 0;
      }
    } catch (...) {  // Out of memory: as if it were a name.
    }
    transfer.short_of_lookups_ = true;
    return 1;
  }
  transfer.looking_up_ = true;
  return 0;
}

curl_socket_t Transfer::on_open(void* self, curlsocktype, curl_sockaddr* address) noexcept {
  auto& transfer = *static_cast<Transfer*>(self);
  transfer.looking_up_ = false;
  // A new connection for what has been sent: its handshake may fail before anything is sent again.
  transfer.repeated_ = transfer.repeated_ || transfer.sent_;
  // The address of a proxy is the operator's own choice.
  static const AddressPolicy kAny = [] {
    AddressPolicy any;
    static_cast<void>(any.allow("0.0.0.0/0"));
    static_cast<void>(any.allow("::/0"));
    return any;
  }();
  const AddressPolicy& policy =
      transfer.options_.proxy.empty() ? transfer.options_.addresses : kAny;
  errno = 0;
  const curl_socket_t socket = open_checked(policy, *address, transfer.refused_address_);
  if (socket != CURL_SOCKET_BAD) {
    transfer.loop_.socket_opened(socket);
    try {
      transfer.opened_.push_back(socket);
    } catch (...) {  // Out of memory: it is not known as a connection.
    }
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    transfer.short_of_sockets_ = true;
  }
  return socket;
}

int Transfer::on_close(void* loop, curl_socket_t socket) noexcept {
  static_cast<MultiLoop*>(loop)->socket_closed(socket);
  return ::close(socket);
}

// Called when the connection stands, right before the request goes out.
int Transfer::on_ready(void* self, char* remote, char* local, int remote_port,
                       int local_port) noexcept {
  auto& transfer = *static_cast<Transfer*>(self);
  transfer.repeated_ = std::exchange(transfer.sent_, true) || transfer.repeated_;
  transfer.connection_ = {};
  try {
    std::string& ends = transfer.ends_;
    ends.assign(local).append(1, ' ').append(std::to_string(local_port)).append(1, ' ');
    ends.append(remote).append(1, ' ').append(std::to_string(remote_port));
    transfer.connection_ = transfer.loop_.connection(ends, local_port, transfer.opened_);
  } catch (...) {  // Out of memory: it is not known as a connection.
  }
  return CURL_PREREQFUNC_OK;
}

std::size_t Transfer::on_answer(char* data, std::size_t, std::size_t size, void* self) noexcept {
  auto& transfer = *static_cast<Transfer*>(self);
  transfer.received_ += size;
  if (transfer.received_ > kMostResponseBytes) return 0;
  if (transfer.head_.is_open) return transfer.take_head({data, size}) ? size : 0;
  const std::size_t most = transfer.options_.excerpt_bytes;
  try {
    if (transfer.excerpt_.size() < most) {
      transfer.excerpt_.append(data, std::min(size, most - transfer.excerpt_.size()));
    }
  } catch (...) {
    return 0;
  }
  return size;
}

// Takes a line of the head, or the next part of a long one. False: the line continues a header, and
// there is none before it. Before 8.1 libcurl would append it to the last header of the transfer
// that the handle had before, which is freed memory.
bool Transfer::take_head(std::string_view part) noexcept {
  const bool is_new_line = !std::exchange(head_.is_line_open, part.back() != '\n');
  if (!is_new_line) return true;
  switch (part.front()) {
    case '\r':
    case '\n':  // The end of the head; that of an interim answer is followed by another.
      head_.is_open = status() == 0;
      head_.has_status_line = false;
      return true;
    case ' ':
    case '\t':
      return head_.has_header;
    default:
      head_.has_header = head_.has_header || head_.has_status_line;
      head_.has_status_line = true;
      return true;
  }
}

int Transfer::status() const noexcept {
  long status = 0;
  curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &status);
  // An interim answer settles nothing, and libcurl takes any number of digits behind HTTP/2 for a
  // status.
  return status >= 200 && status <= 999 ? static_cast<int>(status) : 0;
}

std::string Transfer::header(const char* name) const {
  curl_header* found = nullptr;
  if (curl_easy_header(handle_, name, 0, CURLH_HEADER, -1, &found) != CURLHE_OK) return {};
  return found->value;
}

std::string Transfer::request_id() const {
  if (options_.request_id_header.empty()) return {};
  return clean(header(options_.request_id_header.c_str()), kMostRequestIdBytes);
}

Attempt Transfer::attempt(CURLcode code, WallTime now) {
  running_ = false;
  const bool was_looked_up =
      code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY;
  if (was_looked_up) looking_up_ = false;
  leave_lookup();
  Attempt result;
  result.status = status();
  if (result.status != 0) loop_.answered(connection_);
  if (result.status >= 300) {
    result.retry_after = retry_after_from(header("retry-after"), now);
    excerpt_ = clean(excerpt_, options_.excerpt_bytes);
    result.excerpt = excerpt_;
  }
  if (result.status != 0) return result;
  const CurlResult ended{.code = code,
                         .sent = sent_,
                         .repeated = repeated_,
                         .blocked = !refused_address_.empty(),
                         .short_of_resources = short_of_sockets_ || short_of_lookups_,
                         .has_proxy = !options_.proxy.empty(),
                         .message = error_.data()};
  result.fault = fault_of(ended);
  if (result.fault == Fault::timeout) loop_.unanswered(connection_);
  // An answer that ends before its status line, in order, or is not HTTP.
  if (result.fault == Fault::none) result.fault = Fault::connection_lost;
  if (result.fault == Fault::blocked_address) {
    detail_ = refused_address_;
  } else if (short_of_lookups_ && result.fault == Fault::local_resources) {
    detail_ = "too many lookups of names got no answer lately; is a name server hanging?";
  } else {
    detail_ = words_of(ended);
  }
  result.detail = detail_;
  return result;
}

}  // namespace outfall::webhook
