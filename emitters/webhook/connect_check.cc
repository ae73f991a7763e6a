#include "emitters/webhook/connect_check.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include <curl/curl.h>

#include "emitters/webhook/classify.h"
#include "emitters/webhook/transfer.h"

namespace outfall::webhook {
namespace {

struct Probe {
  const WebhookOptions* options = nullptr;
  std::string refused = {};
};

curl_socket_t open_for_probe(void* self, curlsocktype, curl_sockaddr* address) noexcept {
  auto& probe = *static_cast<Probe*>(self);
  // Through a proxy the address is the proxy's, which is the operator's own choice.
  if (!probe.options->proxy.empty()) {
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }
  return open_checked(probe.options->addresses, *address, probe.refused);
}

}  // namespace

Emitter::Health check_connection(const WebhookOptions& options, Milliseconds timeout) {
  if (!options.url.host_is_fixed()) {
    return {true, "entries name the host, so there is nothing to connect to"};
  }
  const std::string url = options.url.host_url();
  const std::unique_ptr<CURL, void (*)(CURL*)> handle(curl_easy_init(), curl_easy_cleanup);
  if (!handle) return {false, "libcurl is out of memory"};
  set_up_connection(handle.get(), options);
  Probe probe{&options};
  std::array<char, CURL_ERROR_SIZE> error{};
  const auto limit = static_cast<long>(std::max<std::int64_t>(timeout.count(), 1));
  curl_easy_setopt(handle.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle.get(), CURLOPT_CONNECT_ONLY, 1L);
  curl_easy_setopt(handle.get(), CURLOPT_TIMEOUT_MS, limit);
  curl_easy_setopt(handle.get(), CURLOPT_ERRORBUFFER, error.data());
  curl_easy_setopt(handle.get(), CURLOPT_OPENSOCKETFUNCTION, &open_for_probe);
  curl_easy_setopt(handle.get(), CURLOPT_OPENSOCKETDATA, static_cast<void*>(&probe));
  const CURLcode code = curl_easy_perform(handle.get());
  const auto target = target_of(url);
  const std::string name =
      std::holds_alternative<UrlTarget>(target) ? std::get<UrlTarget>(target).origin() : url;
  if (code == CURLE_OK) return {true, name};
  if (!probe.refused.empty()) return {false, name + ": " + probe.refused};
  return {false, name + ": " + std::string(words_of({.code = code, .message = error.data()}))};
}

}  // namespace outfall::webhook
