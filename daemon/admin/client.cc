#include "daemon/admin/client.h"

#include <stdexcept>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

namespace outfall {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using beast::error_code;

std::string admin_get(const std::string& host, const std::string& port, const std::string& target,
                      Milliseconds timeout) {
  asio::io_context io;
  beast::tcp_stream stream(io);
  beast::flat_buffer buffer;
  http::request<http::empty_body> request{http::verb::get, target, 11};
  request.set(http::field::host, host + ":" + port);
  http::response<http::string_body> response;
  error_code failure;
  asio::ip::tcp::resolver resolver(io);
  const auto addresses = resolver.resolve(host, port, failure);
  if (failure) throw std::runtime_error(failure.message());

  stream.expires_after(timeout);
  const auto read = [&](error_code error, std::size_t) {
    failure = error;
    if (error) return;
    http::async_read(stream, buffer, response,
                     [&](error_code ended, std::size_t) { failure = ended; });
  };
  stream.async_connect(addresses, [&](error_code error, const asio::ip::tcp::endpoint&) {
    failure = error;
    if (!error) http::async_write(stream, request, read);
  });
  io.run();

  if (failure == beast::error::timeout) throw std::runtime_error("no answer in time");
  if (failure) throw std::runtime_error(failure.message());
  if (response.result() != http::status::ok) {
    throw std::runtime_error("HTTP status " + std::to_string(response.result_int()));
  }
  return std::move(response.body());
}

std::string admin_get(const std::string& address, const std::string& target, Milliseconds timeout) {
  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return admin_get(host, address.substr(colon + 1), target, timeout);
}

}  // namespace outfall
