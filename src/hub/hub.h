// One of the public services, or a mirror of it: what it lists and where its files are.
//
// A hub may be used from many threads at once. Time-outs, cut connections and the statuses 408, 425, 429 and 5xx are
// tried again with growing pauses (Retry-After is heeded); a token goes to the service only, by https or to this machine.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hub/listing.h"
#include "hub/name.h"
#include "net/http_client.h"

namespace qw::hub {

struct RetryPolicy {
  int attempts = 6;                                   // without progress; any new byte begins the count again
  std::chrono::milliseconds first_wait{500};          // doubled each time
  std::chrono::milliseconds longest_wait{60'000};     // also of Retry-After
};

struct HubOptions {
  std::string endpoint;   // "https://mirror.example"; empty: HF_ENDPOINT or MODELSCOPE_DOMAIN, else the service's own
  std::string token;      // empty: HF_TOKEN or MODELSCOPE_API_TOKEN, else none
  RetryPolicy retry;
  net::ClientOptions net;
  std::function<void(const std::string&)> notice;     // one line for a person: what is tried again and why
};

class Hub {
 public:
  // kUsage for an endpoint that is no address, or a token that would travel in the clear.
  static Result<Hub> create(Service service, HubOptions options);

  // All files of a repository. kBadInput: not there or nonsense; kRefused: needs a token, or one with more rights.
  Result<std::vector<RemoteFile>> list(const ModelName& name, const std::string& revision, const std::atomic<bool>* cancel) const;
  // Bytes [begin, end) of a file, or all of it for a server that knows no ranges.
  Result<std::string> read(const ModelName& name, const std::string& revision, const RemoteFile& file, std::uint64_t begin,
                           std::uint64_t end, const std::atomic<bool>* cancel) const;

  // A request for a file, ready but for a Range.
  net::ClientRequest file_request(const ModelName& name, const std::string& revision, const std::string& path) const;
  const net::HttpClient& client() const { return client_; }
  const HubOptions& options() const { return options_; }
  Service service() const { return service_; }
  std::string default_revision() const { return service_ == Service::kHuggingFace ? "main" : "master"; }

 private:
  Hub(Service service, HubOptions options, net::HttpClient client)
      : service_(service), options_(std::move(options)), client_(std::move(client)) {}
  Result<net::Response> get(const std::string& url, const std::atomic<bool>* cancel) const;
  net::Headers credentials() const;

  Service service_;
  HubOptions options_;
  net::HttpClient client_;
};

// What one attempt came to, beside its error.
struct Attempt {
  bool again = false;                       // it may go better another time
  bool progress = false;                    // something new arrived
  std::chrono::milliseconds wait{0};        // the server's own wish
};
// Calls `work` until it succeeds, fails for good, or the policy is used up.
Status with_retries(const HubOptions& options, const std::string& what, const std::atomic<bool>* cancel,
                    const std::function<Status(Attempt&)>& work);
// The error an answer's status means, and whether to try again.
Status check_status(const net::ResponseHead& head, const std::string& what, Attempt& attempt);

}  // namespace qw::hub
