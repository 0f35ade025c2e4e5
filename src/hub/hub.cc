#include "hub/hub.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <thread>

#include "hub/download.h"
#include "net/ip_range.h"

namespace qw::hub {
namespace {

using std::chrono::milliseconds;
// A list of a hundred thousand files is about this long.
constexpr std::size_t kMaxAnswerBytes = std::size_t{32} << 20;
// Pages of a list hold a thousand entries or more.
constexpr int kMaxPages = 200;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string endpoint_of(Service service, std::string stated) {
  if (stated.empty()) stated = environment(service == Service::kHuggingFace ? "HF_ENDPOINT" : "MODELSCOPE_DOMAIN");
  if (stated.empty()) stated = service == Service::kHuggingFace ? "https://huggingface.co" : "https://modelscope.cn";
  if (stated.find("://") == std::string::npos) stated = "https://" + stated;
  while (stated.ends_with('/')) stated.pop_back();
  return stated;
}

milliseconds retry_after(const net::Headers& headers) {
  const std::string_view text = net::find_header(headers, "Retry-After");
  unsigned seconds = 0;   // the other form, a date, is rare and means the same as no wish
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  return error == std::errc() ? std::chrono::seconds(std::min(seconds, 3600u)) : milliseconds(0);
}

}  // namespace

Status check_status(const net::ResponseHead& head, const std::string& what, Attempt& attempt) {
  const int s = head.status;
  if (s == 200 || s == 206) return {};
  const std::string said = what + ": the server answered " + std::to_string(s);
  if (s == 401 || s == 403)
    return fail(ErrorKind::kRefused, said + ": not there, or a token is needed (HF_TOKEN, MODELSCOPE_API_TOKEN) that may read it");
  if (s == 404) return fail(ErrorKind::kBadInput, said + ": no such model, revision or file");
  if (s == 408 || s == 425 || s == 429 || s >= 500) {
    attempt.again = true;
    attempt.wait = retry_after(head.headers);
    return fail(ErrorKind::kFailed, said);
  }
  return fail(ErrorKind::kBadInput, said);
}

Status with_retries(const HubOptions& options, const std::string& what, const std::atomic<bool>* cancel,
                    const std::function<Status(Attempt&)>& work) {
  milliseconds wait = options.retry.first_wait;
  for (int tried = 1;; ++tried) {
    Attempt attempt;
    const Status status = work(attempt);
    if (status) return {};
    if (!attempt.again && status.error().kind != ErrorKind::kFailed) return status;
    if (attempt.progress) {
      tried = 1;
      wait = options.retry.first_wait;
    }
    if (tried >= options.retry.attempts) return status;
    const milliseconds pause = std::min(std::max(wait, attempt.wait), options.retry.longest_wait);
    if (options.notice) {
      // The message may begin with what is fetched already.
      const std::string& why = status.error().message;
      options.notice((why.starts_with(what) ? "" : what + ": ") + why + "; trying again");
    }
    const auto until = std::chrono::steady_clock::now() + pause;
    while (std::chrono::steady_clock::now() < until) {
      if (cancel != nullptr && cancel->load()) return fail(ErrorKind::kInterrupted, "interrupted");
      std::this_thread::sleep_for(std::min(pause, milliseconds(50)));
    }
    wait *= 2;
  }
}

Result<Hub> Hub::create(Service service, HubOptions options) {
  options.endpoint = endpoint_of(service, options.endpoint);
  const auto url = net::parse_url(options.endpoint);
  if (!url) return fail(ErrorKind::kUsage, "--endpoint " + options.endpoint + ": " + url.error().message);
  if (options.token.empty()) options.token = environment(service == Service::kHuggingFace ? "HF_TOKEN" : "MODELSCOPE_API_TOKEN");
  for (const char c : options.token) {
    if (c <= ' ' || c > '~') return fail(ErrorKind::kUsage, "the token has bytes that no token has");
  }
  if (!options.token.empty() && !url->tls && !net::is_loopback_host(url->host))
    return fail(ErrorKind::kUsage, options.endpoint + ": a token is sent by https only; unset it or use an https address");
  QW_ASSIGN(auto client, net::HttpClient::create(options.net));
  return Hub(service, std::move(options), std::move(client));
}

net::Headers Hub::credentials() const {
  if (options_.token.empty()) return {};
  net::Headers headers{{"Authorization", "Bearer " + options_.token}};
  // ModelScope knows a token as a session, too.
  if (service_ == Service::kModelScope) headers.emplace_back("Cookie", "m_session_id=" + options_.token);
  return headers;
}

net::ClientRequest Hub::file_request(const ModelName& name, const std::string& revision, const std::string& path) const {
  const std::string encoded = net::percent_encode(revision);
  if (service_ == Service::kHuggingFace)
    return {"GET", options_.endpoint + "/" + name.id() + "/resolve/" + encoded + "/" + net::percent_encode(path, "/"), credentials()};
  return {"GET", options_.endpoint + "/api/v1/models/" + name.id() + "/repo?Revision=" + encoded + "&FilePath=" + net::percent_encode(path),
          credentials()};
}

Result<net::Response> Hub::get(const std::string& url, const std::atomic<bool>* cancel) const {
  net::Response out;
  QW_TRY(with_retries(options_, url, cancel, [&](Attempt& attempt) -> Status {
    QW_ASSIGN(out, client_.get({"GET", url, credentials()}, kMaxAnswerBytes, cancel));
    return check_status({out.status, out.headers, url}, url, attempt);
  }));
  return out;
}

Result<std::vector<RemoteFile>> Hub::list(const ModelName& name, const std::string& revision, const std::atomic<bool>* cancel) const {
  const std::string api = options_.endpoint + (service_ == Service::kHuggingFace ? "/api/models/" : "/api/v1/models/") + name.id();
  const std::string encoded = net::percent_encode(revision);
  if (service_ == Service::kModelScope) {
    QW_ASSIGN(const net::Response answer, get(api + "/repo/files?Revision=" + encoded + "&Recursive=true", cancel));
    auto files = parse_modelscope_files(answer.body);
    if (!files) return in_context(name.id(), files.error());
    return files;
  }
  std::vector<RemoteFile> all;
  std::string page = api + "/tree/" + encoded + "?recursive=1";
  QW_ASSIGN(const net::Url home, net::parse_url(page));
  for (int pages = 0; !page.empty(); ++pages) {
    if (pages == kMaxPages) return fail(ErrorKind::kBadInput, name.id() + ": the list of files has no end");
    QW_ASSIGN(const net::Response answer, get(page, cancel));
    auto files = parse_huggingface_tree(answer.body);
    if (!files) return in_context(name.id(), files.error());
    all.insert(all.end(), files->begin(), files->end());
    page = next_page(net::find_header(answer.headers, "Link"));
    if (page.empty()) break;
    auto next = net::resolve_reference(home, page);
    if (!next) return in_context(name.id() + ": next page", next.error());
    // A service behind a mirror names itself in links: its path is right, its host is not the mirror's.
    page = (home.tls ? "https://" : "http://") + home.authority() + next->target;
  }
  return all;
}

Result<std::string> Hub::read(const ModelName& name, const std::string& revision, const RemoteFile& file, std::uint64_t begin,
                              std::uint64_t end, const std::atomic<bool>* cancel) const {
  net::ClientRequest request = file_request(name, revision, file.path);
  end = std::min(end, file.bytes);
  if (begin >= end) return std::string();
  const bool whole = begin == 0 && end == file.bytes;
  if (!whole) request.headers.emplace_back("Range", "bytes=" + std::to_string(begin) + "-" + std::to_string(end - 1));
  std::string body;
  const Status status = with_retries(options_, file.path, cancel, [&](Attempt& attempt) -> Status {
    body.clear();
    std::uint64_t skip = 0;
    const auto head = [&](const net::ResponseHead& h) -> Status {
      QW_TRY(check_status(h, file.path, attempt));
      if (whole || h.status == 200) {
        skip = begin;
        return {};
      }
      const Status right = check_range(h, begin, end, file.bytes);
      return right ? right : in_context(file.path, right.error());
    };
    const std::uint64_t wanted = end - begin;
    bool complete = false;
    const auto sink = [&](std::string_view piece) -> Status {
      const std::size_t drop = static_cast<std::size_t>(std::min<std::uint64_t>(skip, piece.size()));
      skip -= drop;
      piece.remove_prefix(drop);
      body += piece.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), wanted - body.size())));
      complete = body.size() == wanted;
      return complete ? fail(ErrorKind::kInterrupted, "enough") : Status{};
    };
    const auto done = client_.fetch(request, head, sink, cancel);
    if (complete || (done && body.size() == wanted)) return {};
    if (!done) return tl::unexpected(done.error());
    return fail(ErrorKind::kBadInput, file.path + ": is shorter than the list of files says");
  });
  if (!status) return tl::unexpected(status.error());
  return body;
}

}  // namespace qw::hub
