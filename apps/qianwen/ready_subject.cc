#include "ready_subject.h"

#include <algorithm>
#include <cstdlib>

#include "commands.h"
#include "json/value.h"
#include "served_subject.h"

namespace qw::app {
namespace {

// Room for the unshared ends of 64 prompts, and one of the longest.
constexpr std::int64_t kCacheTokens = 8192;
// More than any prompt of the tasks that come along, with examples.
constexpr std::int64_t kContext = 4096;
constexpr std::int64_t kSequences = 64;

Result<json::Object> template_variables(const SubjectOptions& o) {
  json::Object out;
  for (const std::string& pair : o.set) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorKind::kUsage, "--set expects key=value, not " + pair);
    auto value = json::parse(pair.substr(equals + 1));
    out.set(pair.substr(0, equals), value ? std::move(*value) : json::Value(pair.substr(equals + 1)));
  }
  return out;
}

Result<std::unique_ptr<ReadySubject>> open_served(const SubjectOptions& o, const std::string& address) {
  if (!o.adapter.empty() || o.context > 0)
    return fail(ErrorKind::kUsage, "--adapter and --context are for models of this machine");
  ServedSubjectOptions options;
  options.address = address;
  options.model = o.served_model;
  options.blocked = o.blocked;
  if (const char* key = std::getenv("OPENAI_API_KEY")) options.key = key;
  options.calls = o.calls;
  options.interrupted = &interrupted();
  QW_ASSIGN(options.template_variables, template_variables(o));
  auto out = std::make_unique<ReadySubject>();
  QW_ASSIGN(auto served, ServedSubject::open(std::move(options)));
  out->served = served->model();
  out->subject = std::move(served);
  return out;
}

}  // namespace

bool is_address(const std::string& model) { return model.starts_with("http://") || model.starts_with("https://"); }

Result<std::unique_ptr<ReadySubject>> load_subject(const SubjectOptions& o, const std::string& name) {
  if (is_address(name)) return open_served(o, name);
  auto out = std::make_unique<ReadySubject>();
  engine::LoadOptions load;
  {
    QW_ASSIGN(const OpenedModel opened, open_model(name));
    out->context = std::min(opened.model->traits().context, o.context > 0 ? o.context : kContext);
    load = usual_options(*opened.model, out->context);
  }
  load.threads = o.threads;
  load.cache_dtype = cache_dtype(o.cache_type);
  load.cache_tokens = std::max(out->context, kCacheTokens);
  load.engine.max_sequences = kSequences;
  load.logit_rows = load.engine.max_rows;  // any row of a step may be asked for
  QW_ASSIGN(out->model, load_adapted_model(name, load, o.adapter));
  if (!out->model.loaded->engine().generates()) return fail(ErrorKind::kBadInput, name + ": is no language model");
  eval::EngineSubjectOptions options;
  options.context = std::min(out->context, out->model.loaded->engine().max_read_tokens());
  out->context = options.context;
  options.stop_ids = out->model.defaults.stop_ids;
  options.adapter = out->model.adapter;
  options.interrupted = &interrupted();
  if (out->model.chat_template) options.chat_template = &*out->model.chat_template;
  QW_ASSIGN(options.template_variables, template_variables(o));
  out->subject =
      std::make_unique<eval::EngineSubject>(out->model.loaded->engine(), *out->model.tokenizer, std::move(options));
  return out;
}

}  // namespace qw::app
